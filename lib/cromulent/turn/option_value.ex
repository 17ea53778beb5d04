defmodule Cromulent.Turn.OptionValue do
  @moduledoc false
  # What a right value of each option is: from what an environment variable, a configuration or a
  # caller gave to the value that the code works with. Pure, but that modules are looked up.

  alias Cromulent.Turn.{AccessToken, Address, OpaqueString, Provider, Url}

  # Seconds, but for the counts; the meaning and the defaults are the relay's (docs/control.md).
  @limits [
    max_allocations: 1..16_777_216,
    user_quota: 0..16_777_216,
    user_bandwidth: 0..4_294_967_295,
    userhashes: 0..1_048_576,
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
    handshake_burst: 1..1_000_000,
    max_tcp_peers: 1..1_048_576,
    allocation_tcp_peers: 1..4096,
    max_grants: 1..16_777_216
  ]

  @secrets_most 8
  @secret_most 256
  @listeners_most 16
  @pem_most 64 * 1024
  @relays_most 8
  @redirects_most 8
  @urls_most 16
  @providers_most 8
  @provider_expected "must be one of #{Enum.join(Provider.names(), ", ")}, a module with the behaviour " <>
                       "Cromulent.Turn.Provider, or several of them"

  @doc "The options that are numbers which the relay is told as they are."
  @spec limits() :: [atom()]
  def limits, do: Keyword.keys(@limits)

  @doc "The texts that a secret consists of, as it was given: whole, and in its parts."
  @spec texts(term()) :: [String.t()]
  def texts(raw) when is_binary(raw), do: Enum.uniq([raw | split(raw)])
  def texts([raw | rest]), do: texts(raw) ++ texts(rest)

  def texts(raw) when is_function(raw, 0) do
    texts(raw.())
  rescue
    # It is anybody's code, and what it would have given is not known then.
    _ -> []
  catch
    _, _ -> []
  end

  def texts(_other), do: []

  @doc "Whether this names a file, where one is wanted or the text that is in it."
  @spec file?(term()) :: boolean()
  def file?(raw), do: is_binary(raw) and not String.contains?(raw, ["-----", "\n", "{"])

  @doc "The value of an option, or what would be right, in words that begin with \"must\" or \"still\"."
  @spec parse(atom(), term()) :: {:ok, term()} | {:error, String.t()}
  def parse(:provider, []), do: {:error, @provider_expected}

  # One name, the usual case, is found without taking it apart: this is asked with every call.
  def parse(:provider, raw) do
    with {:ok, module} <- Provider.find(raw),
         do: {:ok, [module]},
         else: (_ -> parse_list(raw, @providers_most, &Provider.find/1, @provider_expected))
  end

  def parse(:secret, raw) when is_function(raw, 0), do: parse(:secret, raw.())
  def parse(:secret, raw) when is_binary(raw), do: parse(:secret, split(raw))

  def parse(:secret, raw) do
    with :ok <- check_all(raw, &secret_fault/1),
         :ok <- check_count(raw, @secrets_most, "secrets") do
      {:ok, raw}
    end
  end

  def parse(:oauth_keys, raw), do: AccessToken.Key.read(raw)

  def parse(name, raw) when name in [:realm, :oauth_server_name] do
    with true <- is_binary(raw),
         {:ok, realm} <- OpaqueString.prepare(raw),
         true <- byte_size(realm) <= 127 and not (realm =~ ~r/["\\]/) do
      {:ok, realm}
    else
      _ -> {:error, "must be 1 to 127 bytes of text without quotes, such as example.org"}
    end
  end

  def parse(:listen, raw) do
    parse_list(
      raw,
      @listeners_most,
      &listener/1,
      ~s(must be udp:IP:PORT, or with tcp:, tls: or dtls:, such as "udp:0.0.0.0:3478" or "tcp:[::]:3478")
    )
  end

  def parse(name, raw) when name in [:cert, :key] and is_function(raw, 0),
    do: parse(name, raw.())

  def parse(:cert, raw),
    do: parse_pem(raw, ~r/-----BEGIN (X509 |TRUSTED )?CERTIFICATE-----/, "a certificate")

  def parse(:key, raw),
    do: parse_pem(raw, ~r/-----BEGIN ([A-Z]+ )?PRIVATE KEY-----/, "a private key")

  def parse(:relay_ip, raw) do
    parse_list(
      raw,
      @relays_most,
      &own_ip/1,
      "must be addresses of this host that clients and " <>
        "peers can reach, such as 192.0.2.10"
    )
  end

  def parse(:external_ip, raw) do
    parse_list(
      raw,
      @relays_most,
      &external_ip/1,
      "must be an IP address, or EXTERNAL/LOCAL pairs " <>
        "of them, such as 203.0.113.5 or 203.0.113.5/10.0.0.5"
    )
  end

  def parse(:relay_ports, raw) do
    case ports(raw) do
      {from, to} when from in 1024..65_535 and to in from..65_535//1 -> {:ok, {from, to}}
      _ -> {:error, "must be a range within 1024-65535, such as 49152-65535"}
    end
  end

  def parse(:ttl, raw) do
    parse_integer(
      raw,
      60..2_592_000,
      "must be a whole number of seconds from 60 to 2592000, such as 3600"
    )
  end

  def parse(:workers, raw) do
    parse_integer(raw, 1..64, "must be a number of threads from 1 to 64")
  end

  def parse(:stun_urls, raw) do
    parse_urls(raw, [:stun, :stuns], "must be STUN URLs, such as stun:stun.example.org:3478")
  end

  def parse(:turn_urls, raw) do
    parse_urls(raw, [:turn, :turns], "must be TURN URLs, such as turn:turn.example.org:3478")
  end

  def parse(name, raw) when name in [:allow_peers, :deny_peers] do
    parse_list(
      raw,
      1024,
      &Address.parse_cidr/1,
      "must be address blocks, such as 10.0.0.0/8 or fd00::/8"
    )
  end

  def parse(:proxy_from, raw) do
    parse_list(
      raw,
      16,
      &Address.parse_cidr/1,
      "must be address blocks of proxies, such as 10.0.0.0/8 or fd00::/8"
    )
  end

  def parse(:host, raw) do
    if is_binary(raw) and (name?(raw) or ipv6?(raw)),
      do: {:ok, raw},
      else: {:error, "must be a DNS name or an IP address by which clients reach the relay"}
  end

  def parse(:software, raw) do
    if is_binary(raw) and byte_size(raw) <= 127 and String.printable?(raw),
      do: {:ok, raw},
      else: {:error, "must be at most 127 bytes of text"}
  end

  def parse(:max_ice_servers, raw) do
    parse_integer(raw, 1..32, "must be a number of servers from 1 to 32")
  end

  def parse(:alternate, raw) do
    with true <- is_binary(raw),
         {:ok, {:udp, ip, port}} <- listener("udp:" <> raw),
         false <- Address.wildcard?(ip) do
      {:ok, "#{Address.to_host(ip)}:#{port}"}
    else
      _ -> {:error, "must be IP:PORT, such as 192.0.2.11:3479, of this host and no listener's"}
    end
  end

  def parse(:redirect, raw) do
    parse_list(
      raw,
      @redirects_most,
      &server/1,
      "must be other servers as IP:PORT, such as 192.0.2.20:3478 or [2001:db8::20]:3478"
    )
  end

  def parse(:alternate_domain, raw) do
    if is_binary(raw) and byte_size(raw) <= 255 and name?(raw) and
         Address.parse(raw) == :error,
       do: {:ok, raw},
       else: {:error, "must be a DNS name, such as turn2.example.org"}
  end

  def parse(name, raw)
      when name in [
             :mobility,
             :keep_dscp,
             :tcp_allocations,
             :pair,
             :permission_events,
             :classic_stun,
             :opaque_usernames,
             :cloudflare_shared
           ],
      do: parse_boolean(raw)

  def parse(:mode, raw) when raw in [:open, "open"], do: {:ok, :open}
  def parse(:mode, raw) when raw in [:switch, "switch"], do: {:ok, :switch}
  def parse(:mode, _raw), do: {:error, "must be open or switch"}

  def parse(:admission, raw) when raw in [:off, "off"], do: {:ok, :off}
  def parse(:admission, raw) when raw in [:presence, "presence"], do: {:ok, :presence}
  def parse(:admission, raw) when raw in [:room, "room"], do: {:ok, :room}
  def parse(:admission, _raw), do: {:error, "must be off, presence or room"}

  def parse(:withdraw_after, raw) do
    parse_integer(raw, 0..600_000, "must be a number of milliseconds from 0 to 600000")
  end

  def parse(:http, raw) do
    case http(raw) do
      {:ok, client} -> {:ok, client}
      :error -> {:error, http_expected()}
    end
  end

  def parse(:http_timeout, raw) do
    parse_integer(raw, 100..60_000, "must be a number of milliseconds from 100 to 60000")
  end

  def parse(:http_cacertfile, raw) do
    if is_binary(raw) and raw != "" and not String.contains?(raw, <<0>>),
      do: {:ok, raw},
      else: {:error, "must be the path of a file with certificates in PEM"}
  end

  def parse(:metered_url, raw), do: parse_base(raw, "https://APP.metered.live")
  def parse(:cloudflare_url, raw), do: parse_base(raw, "https://rtc.live.cloudflare.com")

  def parse(:metered_region, raw) do
    if is_binary(raw) and raw =~ ~r/\A[A-Za-z0-9_-]{1,64}\z/,
      do: {:ok, raw},
      else: {:error, "must be the name of a region, such as global or north_america"}
  end

  def parse(name, raw)
      when name in [
             :metered_secret_key,
             :metered_api_key,
             :cloudflare_key_id,
             :cloudflare_api_token
           ],
      do: parse_key(raw)

  for {name, range} <- @limits do
    def parse(unquote(name), raw) do
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

  defp parse_urls(raw, schemes, expected) do
    with raw when is_list(raw) <- if(is_binary(raw), do: split(raw), else: raw),
         nil <- Enum.find_value(raw, &url_fault(&1, schemes)),
         :ok <- check_count(raw, @urls_most, "URLs") do
      {:ok, raw |> Enum.map(&String.trim/1) |> Enum.uniq()}
    else
      {:error, _} = error -> error
      {:fault, fault} -> {:error, expected <> "; each " <> fault}
      _ -> {:error, expected}
    end
  end

  defp url_fault(raw, schemes) do
    case if(is_binary(raw), do: Url.parse(String.trim(raw)), else: :error) do
      {:ok, %{scheme: scheme}} -> if scheme not in schemes, do: :scheme
      {:error, fault} -> {:fault, fault}
      :error -> :no_text
    end
  end

  defp parse_boolean(raw) when is_boolean(raw), do: {:ok, raw}
  defp parse_boolean(raw) when raw in [1, 0], do: {:ok, raw == 1}

  defp parse_boolean(raw) when is_binary(raw) do
    case String.downcase(raw) do
      text when text in ["true", "1"] -> {:ok, true}
      text when text in ["false", "0"] -> {:ok, false}
      _ -> parse_boolean(:error)
    end
  end

  defp parse_boolean(_raw), do: {:error, "must be true or false"}

  # A secret that another service gave. It goes into a header or a query, and is never shown.
  defp parse_key(raw) when is_function(raw, 0), do: parse_key(raw.())

  defp parse_key(raw) do
    cond do
      not is_binary(raw) or raw == "" -> {:error, "must be text, and not empty"}
      unexpanded?(raw) -> {:error, unexpanded()}
      raw =~ ~r/\A[\x21-\x7E]{1,512}\z/ -> {:ok, raw}
      true -> {:error, "must be at most 512 characters of ASCII, without spaces"}
    end
  end

  # Where an API is found. Keys are sent there: in clear to this host only.
  defp parse_base(raw, example) do
    expected = "must be #{example} or the like: https, a host, and neither path nor query"

    with true <- is_binary(raw) and raw =~ ~r/\A[\x21-\x7E]{1,512}\z/,
         {:ok, uri} <- URI.new(raw),
         %{userinfo: nil, query: nil, fragment: nil, path: path} when path in [nil, "", "/"] <-
           uri,
         true <- secure?(uri) do
      {:ok, String.trim_trailing(raw, "/")}
    else
      _ -> {:error, expected}
    end
  end

  defp secure?(%URI{scheme: "https", host: host}), do: host not in [nil, ""]
  defp secure?(%URI{scheme: "http", host: "localhost"}), do: true

  defp secure?(%URI{scheme: "http", host: host}) when is_binary(host),
    do: with({:ok, ip} <- Address.parse(host), do: Address.loopback?(ip)) == true

  defp secure?(_uri), do: false

  defp split(raw) when is_binary(raw), do: raw |> String.split(",") |> Enum.map(&String.trim/1)
  defp split(raw), do: [raw]

  # ---- PEM ----

  # The text itself, or what is in the file of that name now.
  defp parse_pem(raw, begin, what) do
    with {:ok, text} <- pem_text(raw) do
      if text =~ begin and byte_size(text) <= @pem_most,
        do: {:ok, text},
        else: {:error, pem_expected(what)}
    else
      :error -> {:error, pem_expected(what)}
      {:error, reason} -> {:error, "must be a file that can be read: #{reason}"}
    end
  end

  defp pem_text(raw) do
    if file?(raw) do
      with {:error, reason} <- File.read(raw), do: {:error, :file.format_error(reason)}
    else
      if is_binary(raw), do: {:ok, lines(raw)}, else: :error
    end
  end

  # Files of variables have one line for each: there \n stands for the end of a line of PEM.
  defp lines(raw),
    do: if(String.contains?(raw, "\n"), do: raw, else: String.replace(raw, "\\n", "\n"))

  defp pem_expected(what),
    do: "must be #{what} in PEM form, a file or the text itself, of at most 64 KiB"

  # ---- single values ----

  defp secret_fault(secret) do
    cond do
      not is_binary(secret) or secret == "" ->
        "must not be empty: make one with `openssl rand -hex 32`, or leave it unset, for a random one " <>
          "of the relay"

      unexpanded?(secret) ->
        unexpanded()

      byte_size(secret) > @secret_most ->
        "must be at most #{@secret_most} bytes"

      true ->
        nil
    end
  end

  defp unexpanded?(text), do: text =~ ~r/\$\{|\A\$[A-Za-z_]+\z/

  defp unexpanded,
    do: "still reads like a variable that nothing expanded (${...}): give the secret itself"

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

  defp server(raw) do
    with true <- is_binary(raw),
         {:ok, {:udp, ip, port}} when port > 0 <- listener("udp:" <> raw),
         false <- Address.wildcard?(ip),
         do: {:ok, "#{Address.to_host(ip)}:#{port}"},
         else: (_ -> :error)
  end

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

  defp ports(%Range{first: from, last: to}), do: {from, to}
  defp ports({from, to}), do: {from, to}

  defp ports(raw) when is_binary(raw) do
    case Regex.run(~r/^\s*(\d{1,5})\s*-\s*(\d{1,5})\s*$/, raw) do
      [_, from, to] -> {String.to_integer(from), String.to_integer(to)}
      nil -> :error
    end
  end

  defp ports(_other), do: :error

  # One that a URL can have.
  defp name?(raw) do
    raw =~ ~r/\A[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\z/ and
      match?({:ok, _}, Url.parse("stun:" <> raw))
  end

  defp ipv6?(raw), do: match?({:ok, ip} when tuple_size(ip) == 8, Address.parse(raw))

  defp http(:otp), do: {:ok, :otp}
  defp http({finch, name}) when finch in [Finch, :finch], do: pool(name)
  defp http(req) when req in [Req, :req], do: {:ok, Req}
  # A pool needs a name; OTP's httpc has a function that only looks like the behaviour's.
  defp http(other) when other in [Finch, :finch, :httpc], do: :error

  defp http(module) when is_atom(module) do
    if Code.ensure_loaded?(module) and function_exported?(module, :request, 5),
      do: {:ok, module},
      else: :error
  end

  defp http(_other), do: :error

  defp pool(name) when is_atom(name) and name not in [nil, true, false],
    do: {:ok, {Finch, name}}

  defp pool(_name), do: :error

  defp http_expected do
    "must be :otp, {Finch, MyApp.Finch}, Req, or a module with the behaviour Cromulent.Turn.Http"
  end
end
