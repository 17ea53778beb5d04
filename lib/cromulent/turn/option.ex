defmodule Cromulent.Turn.Option do
  @moduledoc false
  # Every option there is: where its value comes from (in rising precedence: default, environment
  # variable, application environment, options of the caller) and what a right value is.
  # Everything is read when asked for, nothing when compiled.

  alias Cromulent.Turn.Address
  alias Cromulent.Turn.Provider

  @type name :: atom()
  # How options of the caller are called in messages: `option ttl: "1h"` or `--ttl "1h"`.
  @type style :: :option | :flag
  @type error :: {:error, {:config, String.t()}}

  @variables [
    provider: "TURN_PROVIDER",
    secret: "TURN_SECRET",
    realm: "TURN_REALM",
    listen: "TURN_LISTEN",
    cert: "TURN_TLS_CERT",
    key: "TURN_TLS_KEY",
    proxy_from: "TURN_PROXY_FROM",
    external_ip: "TURN_EXTERNAL_IP",
    relay_ip: "TURN_RELAY_IP",
    relay_ports: "TURN_RELAY_PORTS",
    ttl: "TURN_TTL",
    stun_urls: "TURN_STUN_URLS",
    workers: "TURN_WORKERS",
    allow_peers: "TURN_ALLOW_PEERS",
    deny_peers: "TURN_DENY_PEERS"
  ]

  # Seconds, but for the counts; the meaning and the defaults are the relay's (docs/control.md).
  @limits [
    max_allocations: 1..16_777_216,
    user_quota: 0..16_777_216,
    max_permissions: 1..4096,
    max_channels: 1..4096,
    lifetime_default: 1..3600,
    lifetime_max: 1..3600,
    permission_lifetime: 1..3600,
    channel_lifetime: 1..3600,
    channel_quarantine: 1..3600,
    reservation_lifetime: 1..3600,
    nonce_lifetime: 1..3600,
    challenge_rate: 0..1_000_000,
    challenge_burst: 0..1_000_000,
    max_connections: 1..1_048_576,
    source_connections: 1..1_048_576,
    connection_idle: 1..3600,
    handshake_rate: 0..1_000_000,
    handshake_burst: 1..1_000_000
  ]

  @secrets_most 8
  @secret_most 256
  @listeners_most 16
  @pem_most 64 * 1024
  @relays_most 8

  @names Keyword.keys(@variables) ++ [:host, :software] ++ Keyword.keys(@limits)

  @spec names() :: [name()]
  def names, do: @names

  @doc "The options that are handed to the relay as they are."
  @spec limits() :: [name()]
  def limits, do: [:software | Keyword.keys(@limits)]

  @doc "The environment variable of an option; nil when it has none."
  @spec variable(name()) :: String.t() | nil
  def variable(name), do: @variables[name]

  @doc """
  The checked value of an option from the source that wins; `:unset` when there is none. An empty
  environment variable counts as unset, but for a secret: there it is a mistake to be told.
  """
  @spec fetch(name(), keyword(), style()) :: {:ok, term()} | :unset | error()
  def fetch(name, opts, style \\ :option) do
    case source(name, opts, style) do
      nil -> :unset
      {source, raw} -> check(name, source, raw)
    end
  end

  @doc "The error that refuses an option's value for a reason that only others know."
  @spec refuse(name(), keyword(), style(), String.t()) :: error()
  def refuse(name, opts, style, expected) do
    {source, raw} = source(name, opts, style) || {{:option, name}, nil}
    error(name, source, raw, expected)
  end

  @doc "Refuses names that are no option."
  @spec check_names(keyword()) :: :ok | error()
  def check_names(opts) do
    case Keyword.keys(opts) -- @names do
      [] ->
        :ok

      [unknown | _] ->
        known = Enum.map_join(@names, ", ", &to_string/1)
        {:error, {:config, "option #{unknown}: there is no such option; there are #{known}"}}
    end
  end

  defp source(name, opts, style) do
    with :error <- from_caller(name, opts, style),
         :error <- from_application(name),
         :error <- from_environment(name) do
      nil
    end
  end

  defp from_caller(name, opts, style) do
    with {:ok, raw} when raw != nil <- Keyword.fetch(opts, name),
         do: {{style, name}, raw},
         else: (_ -> :error)
  end

  defp from_application(name) do
    with {:ok, raw} when raw != nil <- Application.fetch_env(:cromulent_turn, name),
         do: {{:application, name}, raw},
         else: (_ -> :error)
  end

  defp from_environment(name) do
    with variable when variable != nil <- @variables[name],
         raw when raw != nil <- System.get_env(variable),
         raw = String.trim(raw),
         true <- name == :secret or raw != "" do
      {{:environment, variable}, raw}
    else
      _ -> :error
    end
  end

  defp check(name, source, raw) do
    case parse(name, raw) do
      {:ok, value} -> {:ok, value}
      {:error, expected} -> error(name, source, raw, expected)
    end
  end

  # A secret is never shown, not even a wrong one; of a key only the name of its file.
  defp error(name, source, raw, expected) do
    hidden? = name == :secret or (name == :key and not file?(raw))
    shown = if hidden?, do: "", else: show(raw)
    {:error, {:config, describe(source, shown) <> ": " <> expected}}
  end

  defp describe({:environment, variable}, ""), do: variable
  defp describe({:environment, variable}, shown), do: variable <> "=" <> shown
  defp describe({:application, name}, shown), do: "config :cromulent_turn, " <> pair(name, shown)
  defp describe({:option, name}, shown), do: "option " <> pair(name, shown)
  defp describe({:flag, name}, shown), do: String.trim_trailing(flag(name) <> " " <> shown)

  defp pair(name, ""), do: "#{name}"
  defp pair(name, shown), do: "#{name}: #{shown}"

  defp show([one]) when is_binary(one), do: inspect(one)
  defp show(raw), do: inspect(raw, limit: 20, printable_limit: 200)

  @doc "The command line flag of an option."
  @spec flag(name()) :: String.t()
  def flag(:relay_ports), do: "--ports"
  def flag(:allow_peers), do: "--allow-peer"
  def flag(:deny_peers), do: "--deny-peer"
  def flag(name), do: "--" <> String.replace(to_string(name), "_", "-")

  # ---- what is right ----

  @spec parse(name(), term()) :: {:ok, term()} | {:error, String.t()}
  defp parse(:provider, raw) do
    case Provider.find(raw) do
      {:ok, module} -> {:ok, module}
      :error -> {:error, "must be one of " <> Enum.join(Provider.names(), ", ")}
    end
  end

  defp parse(:secret, raw) when is_function(raw, 0), do: parse(:secret, raw.())
  defp parse(:secret, raw) when is_binary(raw), do: parse(:secret, split(raw))

  defp parse(:secret, raw) do
    with :ok <- check_all(raw, &secret_fault/1),
         :ok <- check_count(raw, @secrets_most, "secrets") do
      {:ok, raw}
    end
  end

  defp parse(:realm, raw) do
    if is_binary(raw) and byte_size(raw) in 1..127 and String.printable?(raw) and
         not (raw =~ ~r/["\\[:cntrl:]]/),
       do: {:ok, raw},
       else: {:error, "must be 1 to 127 bytes of text without quotes, such as example.org"}
  end

  defp parse(:listen, raw) do
    parse_list(
      raw,
      @listeners_most,
      &listener/1,
      ~s(must be udp:IP:PORT, or with tcp:, tls: or dtls:, such as "udp:0.0.0.0:3478" or "tcp:[::]:3478")
    )
  end

  defp parse(name, raw) when name in [:cert, :key] and is_function(raw, 0),
    do: parse(name, raw.())

  defp parse(:cert, raw), do: pem(raw, ~r/-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----/)
  defp parse(:key, raw), do: pem(raw, ~r/-----BEGIN ([A-Z]+ )?PRIVATE KEY-----/)

  defp parse(:relay_ip, raw) do
    parse_list(
      raw,
      @relays_most,
      &own_ip/1,
      "must be addresses of this host that clients and " <>
        "peers can reach, such as 192.0.2.10"
    )
  end

  defp parse(:external_ip, raw) do
    parse_list(
      raw,
      @relays_most,
      &external_ip/1,
      "must be an IP address, or EXTERNAL/LOCAL pairs " <>
        "of them, such as 203.0.113.5 or 203.0.113.5/10.0.0.5"
    )
  end

  defp parse(:relay_ports, raw) do
    case ports(raw) do
      {from, to} when from in 1024..65_535 and to in from..65_535//1 -> {:ok, {from, to}}
      _ -> {:error, "must be a range within 1024-65535, such as 49152-65535"}
    end
  end

  defp parse(:ttl, raw) do
    parse_integer(
      raw,
      60..2_592_000,
      "must be a whole number of seconds from 60 to 2592000, such as 3600"
    )
  end

  defp parse(:workers, raw) do
    parse_integer(raw, 1..64, "must be a number of threads from 1 to 64")
  end

  defp parse(:stun_urls, raw) do
    parse_list(raw, 16, &stun_url/1, "must be STUN URLs, such as stun:stun.example.org:3478")
  end

  defp parse(name, raw) when name in [:allow_peers, :deny_peers] do
    parse_list(
      raw,
      1024,
      &Address.parse_cidr/1,
      "must be address blocks, such as 10.0.0.0/8 or fd00::/8"
    )
  end

  defp parse(:proxy_from, raw) do
    parse_list(
      raw,
      16,
      &Address.parse_cidr/1,
      "must be address blocks of proxies, such as 10.0.0.0/8 or fd00::/8"
    )
  end

  defp parse(:host, raw) do
    if is_binary(raw) and (raw =~ ~r/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/ or ipv6?(raw)),
      do: {:ok, raw},
      else: {:error, "must be a DNS name or an IP address by which clients reach the relay"}
  end

  defp parse(:software, raw) do
    if is_binary(raw) and byte_size(raw) <= 127 and String.printable?(raw),
      do: {:ok, raw},
      else: {:error, "must be at most 127 bytes of text"}
  end

  for {name, range} <- @limits do
    defp parse(unquote(name), raw) do
      parse_integer(
        raw,
        unquote(Macro.escape(range)),
        "must be a number from #{unquote(range.first)} to #{unquote(range.last)}"
      )
    end
  end

  defp parse_integer(raw, range, expected) when is_binary(raw) do
    case Integer.parse(raw) do
      {number, ""} -> parse_integer(number, range, expected)
      _ -> {:error, expected}
    end
  end

  defp parse_integer(raw, range, expected) do
    if is_integer(raw) and raw in range, do: {:ok, raw}, else: {:error, expected}
  end

  # An empty list is right where the option's meaning allows it: the caller's [] empties it.
  defp parse_list(raw, most, parse, expected) when is_binary(raw) or is_tuple(raw) do
    raw |> split() |> parse_list(most, parse, expected)
  end

  defp parse_list(raw, most, parse, expected) when is_list(raw) do
    parsed = Enum.map(raw, parse)

    cond do
      :error in parsed -> {:error, expected}
      length(parsed) > most -> {:error, "must be at most #{most}"}
      true -> {:ok, for({:ok, value} <- parsed, do: value) |> Enum.uniq()}
    end
  end

  defp parse_list(_raw, _most, _parse, expected), do: {:error, expected}

  defp split(raw) when is_binary(raw), do: raw |> String.split(",") |> Enum.map(&String.trim/1)
  defp split(raw), do: [raw]

  # ---- PEM ----

  # The text itself, or what is in the file of that name now.
  defp pem(raw, begin) do
    cond do
      not is_binary(raw) ->
        {:error, "must be a file in PEM form, or such text itself"}

      file?(raw) ->
        read_pem(raw, begin)

      raw =~ begin and byte_size(raw) <= @pem_most ->
        {:ok, raw}

      true ->
        {:error, "is not in the PEM form that is wanted here, or longer than 64 KiB"}
    end
  end

  defp read_pem(path, begin) do
    case File.read(path) do
      {:ok, text} ->
        if text =~ begin and byte_size(text) <= @pem_most,
          do: {:ok, text},
          else:
            {:error,
             "that file is not in the PEM form that is wanted here, or longer than 64 KiB"}

      {:error, reason} ->
        {:error, "cannot be read: #{:file.format_error(reason)}"}
    end
  end

  defp file?(raw), do: is_binary(raw) and not String.contains?(raw, ["-----", "\n"])

  # ---- single values ----

  defp secret_fault(secret) do
    cond do
      not is_binary(secret) or secret == "" ->
        "must not be empty: leave it unset for a random one, or make one with `openssl rand -hex 32`"

      secret =~ ~r/\$\{|^\$[A-Za-z_]+$/ ->
        "still reads like a variable that nothing expanded (${...}): give the secret itself"

      byte_size(secret) > @secret_most ->
        "must be at most #{@secret_most} bytes"

      true ->
        nil
    end
  end

  defp check_all(values, fault) when is_list(values) and values != [] do
    case Enum.find_value(values, fault) do
      nil -> :ok
      text -> {:error, text}
    end
  end

  defp check_all(_values, fault), do: {:error, fault.("")}

  defp check_count(values, most, what) do
    if length(values) <= most, do: :ok, else: {:error, "must be at most #{most} #{what}"}
  end

  defp listener({transport, ip, port})
       when transport in [:udp, :tcp, :tls, :dtls] and port in 0..65_535 do
    with {:ok, ip} <- Address.parse(ip), do: {:ok, {transport, ip, port}}
  end

  defp listener(text) when is_binary(text) do
    with [_, scheme, host, port] <-
           Regex.run(~r/^(udp|tcp|tls|dtls):(\[[^\]]+\]|[^:\[\]]+):(\d{1,5})$/, text),
         {:ok, ip} <- Address.parse(host) do
      listener({String.to_existing_atom(scheme), ip, String.to_integer(port)})
    else
      _ -> :error
    end
  end

  defp listener(_other), do: :error

  defp own_ip(raw) do
    with {:ok, ip} <- Address.parse(raw),
         false <- Address.wildcard?(ip),
         do: {:ok, ip},
         else: (_ -> :error)
  end

  defp external_ip({external, local}) when is_tuple(external) or is_binary(external) do
    with {:ok, external} <- own_ip(external),
         {:ok, local} <- own_ip(local),
         true <- Address.family(external) == Address.family(local) do
      {:ok, {external, local}}
    else
      _ -> :error
    end
  end

  defp external_ip(raw) when is_binary(raw) do
    case String.split(raw, "/") do
      [external, local] -> external_ip({external, local})
      _ -> own_ip(raw)
    end
  end

  defp external_ip(raw), do: own_ip(raw)

  defp stun_url(raw) when is_binary(raw) do
    if raw =~ ~r/^stuns?:(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:\d{1,5})?$/,
      do: {:ok, raw},
      else: :error
  end

  defp stun_url(_other), do: :error

  defp ports(%Range{first: from, last: to}), do: {from, to}
  defp ports({from, to}), do: {from, to}

  defp ports(raw) when is_binary(raw) do
    case Regex.run(~r/^\s*(\d{1,5})\s*-\s*(\d{1,5})\s*$/, raw) do
      [_, from, to] -> {String.to_integer(from), String.to_integer(to)}
      nil -> :error
    end
  end

  defp ports(_other), do: :error

  defp ipv6?(raw), do: match?({:ok, ip} when tuple_size(ip) == 8, Address.parse(raw))
end
