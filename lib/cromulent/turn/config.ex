defmodule Cromulent.Turn.Config do
  @moduledoc false
  # The configuration of an embedded relay: one checked struct, made before anything starts.

  alias Cromulent.Turn.{AccessToken, Address, Option}

  @derive {Inspect, except: [:secrets, :key, :oauth_keys]}
  @enforce_keys [:secrets, :realm, :listen, :relays]
  defstruct [
    :secrets,
    :realm,
    :listen,
    :relays,
    :host,
    :workers,
    :cert,
    :key,
    :oauth_keys,
    ports: {49_152, 65_535},
    ttl: 3600,
    stun_urls: [],
    opaque_usernames: false,
    max_ice_servers: 8,
    withdraw_after: 0,
    allow_peers: [],
    deny_peers: [],
    proxy_from: [],
    limits: %{},
    random_secret?: false
  ]

  @type listener :: {:udp | :tcp | :tls | :dtls, :inet.ip_address(), :inet.port_number()}

  @typedoc """
  `secrets` is a function, so that neither a log nor a crash report can print what it gives; the
  first one signs new credentials. `relays` are pairs of the address that is bound and the one that
  clients are told. `ttl` is in seconds. `workers` nil: one per core. `cert` and `key` are PEM texts, nil
  without TLS; `key` is a function, like `secrets`, and so is `oauth_keys`, nil without any.
  """
  @type t :: %__MODULE__{
          secrets: (() -> [binary(), ...]),
          realm: String.t(),
          listen: [listener(), ...],
          relays: [{:inet.ip_address(), :inet.ip_address()}, ...],
          host: String.t() | nil,
          workers: pos_integer() | nil,
          cert: String.t() | nil,
          key: (() -> String.t()) | nil,
          oauth_keys: (() -> [AccessToken.Key.t()]) | nil,
          ports: {:inet.port_number(), :inet.port_number()},
          ttl: pos_integer(),
          stun_urls: [String.t()],
          opaque_usernames: boolean(),
          max_ice_servers: 1..32,
          withdraw_after: non_neg_integer(),
          allow_peers: [String.t()],
          deny_peers: [String.t()],
          proxy_from: [String.t()],
          limits: %{atom() => non_neg_integer() | String.t() | atom() | [String.t()]},
          random_secret?: boolean()
        }

  @realm "cromulent_turn"
  @default_port 3478
  @simple [
    :realm,
    :host,
    :workers,
    :ttl,
    :stun_urls,
    :allow_peers,
    :deny_peers,
    :proxy_from,
    :opaque_usernames,
    :max_ice_servers,
    :withdraw_after
  ]
  # What the relay fixes when it starts.
  @fixed [:provider, :listen, :external_ip, :relay_ip, :relay_ports, :workers] ++
           [:max_allocations, :max_connections, :userhashes, :mobility, :keep_dscp, :alternate] ++
           [:max_tcp_peers, :mode, :admission, :max_grants]
  @short_secret 16

  @doc "The configuration that the sources of `Cromulent.Turn.Option` add up to."
  @spec new(keyword(), Option.style()) :: {:ok, t()} | Option.error()
  def new(opts \\ [], style \\ :option) do
    with :ok <- Option.check_names(opts),
         {:ok, simple} <- collect(@simple, opts, style),
         {:ok, limits} <- collect(Option.limits(), opts, style),
         {:ok, secret} <- secret(opts, style),
         {:ok, listen} <- listen(opts, style),
         {:ok, tls} <- tls(%{cert: nil, key: nil}, opts, style),
         :ok <- check_tls(listen, tls, opts, style),
         {:ok, oauth} <- oauth(opts, style),
         {:ok, relays} <- relays(opts, style),
         {:ok, ports} <- or_default(Option.fetch(:relay_ports, opts, style), {49_152, 65_535}) do
      fixed = %{realm: @realm, listen: listen, relays: relays, ports: ports}
      fixed = Map.put(fixed, :limits, with_mode(limits))

      {:ok,
       struct!(__MODULE__, [simple, secret, tls, oauth] |> Enum.reduce(fixed, &Map.merge(&2, &1)))}
    end
  end

  @doc "The configuration with some options changed, as far as a running relay can change them."
  @spec update(t(), keyword()) :: {:ok, t()} | Option.error()
  def update(%__MODULE__{} = config, opts) do
    with :ok <- Option.check_names(opts),
         :ok <- check_changeable(opts),
         {:ok, simple} <- collect_given(@simple, opts),
         {:ok, limits} <- collect_given(Option.limits(), opts),
         {:ok, secret} <- if(opts[:secret], do: secret(opts, :option), else: {:ok, %{}}),
         {:ok, tls} <- if(tls?(opts), do: tls(config, opts, :option), else: {:ok, %{}}),
         {:ok, oauth} <- if(opts[:oauth_keys], do: oauth(opts, :option), else: {:ok, %{}}) do
      limits = Map.merge(config.limits, limits)
      changes = simple |> Map.merge(secret) |> Map.merge(tls) |> Map.merge(oauth)
      {:ok, struct!(config, Map.put(changes, :limits, limits))}
    end
  end

  @doc "What deserves a warning when a relay starts with this configuration."
  @spec warnings(t()) :: [String.t()]
  def warnings(%__MODULE__{} = config) do
    if Enum.any?(config.secrets.(), &(byte_size(&1) < @short_secret)) do
      ["TURN secret: shorter than #{@short_secret} bytes; make one with `openssl rand -hex 32`"]
    else
      []
    end
  end

  @doc "The map of the relay's `configure` command (docs/control.md). Holds the secrets in clear."
  @spec to_relay(t()) :: map()
  def to_relay(%__MODULE__{} = config) do
    required = %{
      listen: Enum.map(config.listen, &format_listener/1),
      realm: config.realm,
      secrets: config.secrets.(),
      relays:
        for(
          {bind, external} <- config.relays,
          do: {Address.format(bind), Address.format(external)}
        ),
      ports: config.ports,
      allow_peers: config.allow_peers,
      deny_peers: config.deny_peers,
      proxy_from: config.proxy_from
    }

    workers = if config.workers, do: %{workers: config.workers}, else: %{}
    tls = if config.cert, do: %{cert: config.cert, key: config.key.()}, else: %{}

    [workers, tls, oauth_to_relay(config.oauth_keys), config.limits]
    |> Enum.reduce(required, &Map.merge(&2, &1))
  end

  defp oauth_to_relay(nil), do: %{}

  defp oauth_to_relay(keys) do
    maps =
      for key <- keys.() do
        for {name, value} <- Map.from_struct(key), value != nil, into: %{}, do: {name, value}
      end

    %{oauth_keys: maps}
  end

  @doc "`udp:IP:PORT`, as `TURN_LISTEN` and the relay write it."
  @spec format_listener(listener()) :: String.t()
  def format_listener({transport, ip, port}), do: "#{transport}:#{Address.to_host(ip)}:#{port}"

  @doc "The listener of such a text."
  @spec parse_listener(String.t()) :: {:ok, listener()} | :error
  def parse_listener(text) do
    case Option.fetch(:listen, listen: [text]) do
      {:ok, [listener]} -> {:ok, listener}
      _ -> :error
    end
  end

  @doc """
  The listeners that were asked for with the ports that a relay really has: a restart keeps what clients
  were told, where the configuration left the choice open.
  """
  @spec pin([listener()], [String.t()]) :: [listener()]
  def pin(wanted, real) do
    with true <- length(wanted) == length(real),
         parsed = Enum.map(real, &parse_listener/1),
         true <- Enum.all?(parsed, &match?({:ok, _}, &1)) do
      for {:ok, listener} <- parsed, do: listener
    else
      _ -> wanted
    end
  end

  @doc """
  The secret of this boot, for relays that are given none: random, made once, the same for the life
  of the virtual machine, so that credentials outlive a restart of the relay.
  """
  @spec boot_secret() :: (() -> [binary(), ...])
  def boot_secret do
    key = {__MODULE__, :boot_secret}

    case :persistent_term.get(key, nil) do
      nil ->
        :persistent_term.put(
          key,
          seal([Base.encode16(:crypto.strong_rand_bytes(32), case: :lower)])
        )

        boot_secret()

      sealed ->
        sealed
    end
  end

  @doc "Options whose secrets, if any, can no longer be printed."
  @spec seal_opts(keyword()) :: keyword()
  def seal_opts(opts) do
    for {name, value} <- opts do
      if Option.secret?(name) and value != nil and not is_function(value),
        do: {name, seal(value)},
        else: {name, value}
    end
  end

  defp seal(value), do: fn -> value end

  # ---- parts ----

  defp collect(names, opts, style) do
    Enum.reduce_while(names, {:ok, %{}}, fn name, {:ok, values} ->
      case Option.fetch(name, opts, style) do
        {:ok, value} -> {:cont, {:ok, Map.put(values, name, value)}}
        :unset -> {:cont, {:ok, values}}
        {:error, _} = error -> {:halt, error}
      end
    end)
  end

  defp collect_given(names, opts),
    do: names |> Enum.filter(&(opts[&1] != nil)) |> collect(opts, :option)

  defp check_changeable(opts) do
    case Enum.find(@fixed, &Keyword.has_key?(opts, &1)) do
      nil -> :ok
      name -> Option.refuse(name, opts, :option, "cannot change while the relay runs")
    end
  end

  # Whoever may reach members of a room only needs no socket that could reach others.
  defp with_mode(%{admission: :room} = limits), do: Map.put_new(limits, :mode, :switch)
  defp with_mode(limits), do: limits

  defp or_default(:unset, default), do: {:ok, default}
  defp or_default(result, _default), do: result

  defp secret(opts, style) do
    case Option.fetch(:secret, opts, style) do
      {:ok, secrets} -> {:ok, %{secrets: seal(secrets), random_secret?: false}}
      :unset -> {:ok, %{secrets: boot_secret(), random_secret?: true}}
      error -> error
    end
  end

  defp oauth(opts, style) do
    case Option.fetch(:oauth_keys, opts, style) do
      {:ok, keys} -> {:ok, %{oauth_keys: seal(keys)}}
      :unset -> {:ok, %{oauth_keys: nil}}
      error -> error
    end
  end

  # A certificate and its key come together; a new certificate may keep the key that is in use.
  defp tls(old, opts, style) do
    with {:ok, cert} <- or_default(Option.fetch(:cert, opts, style), old.cert),
         {:ok, key} <- or_default(Option.fetch(:key, opts, style), old.key && old.key.()) do
      case {cert, key} do
        {nil, nil} -> {:ok, %{cert: nil, key: nil}}
        {nil, _key} -> Option.refuse(:key, opts, style, "needs the certificate (cert) too")
        {_cert, nil} -> Option.refuse(:cert, opts, style, "needs its private key (key) too")
        {cert, key} -> {:ok, %{cert: cert, key: seal(key)}}
      end
    end
  end

  defp tls?(opts), do: opts[:cert] != nil or opts[:key] != nil

  defp check_tls(listen, tls, opts, style) do
    if tls.cert == nil and Enum.any?(listen, &(elem(&1, 0) in [:tls, :dtls])),
      do:
        Option.refuse(
          :listen,
          opts,
          style,
          "tls: and dtls: need a certificate and its key (cert, key)"
        ),
      else: :ok
  end

  defp listen(opts, style) do
    case Option.fetch(:listen, opts, style) do
      {:ok, []} -> Option.refuse(:listen, opts, style, "must have at least one listener")
      {:ok, listen} -> {:ok, listen}
      :unset -> {:ok, default_listen()}
      error -> error
    end
  end

  # Every address of the host; IPv6 only where the host has it.
  defp default_listen do
    ipv6 =
      if Address.family?(:inet6), do: [{:udp, {0, 0, 0, 0, 0, 0, 0, 0}, @default_port}], else: []

    [{:udp, {0, 0, 0, 0}, @default_port} | ipv6]
  end

  # External addresses without a local one stand for every relay address of their family; pairs
  # stand for their own, and name relay addresses themselves where none are given.
  defp relays(opts, style) do
    with {:ok, given} <- or_default(Option.fetch(:relay_ip, opts, style), []),
         {:ok, external} <- or_default(Option.fetch(:external_ip, opts, style), []) do
      {pairs, singles} = Enum.split_with(external, &match?({ip, _} when is_tuple(ip), &1))
      local = if given == [], do: detect(pairs), else: given

      case Enum.find_value(
             [stray(pairs, local), ambiguous(singles), useless(singles, local)],
             & &1
           ) do
        nil -> {:ok, Enum.map(local, &{&1, external_of(&1, pairs, singles)})}
        fault -> Option.refuse(:external_ip, opts, style, fault)
      end
    end
  end

  defp detect(pairs) do
    named = for {_external, local} <- pairs, do: local
    families = Enum.map(named, &Address.family/1)
    named ++ Enum.reject(Address.primary(), &(Address.family(&1) in families))
  end

  defp stray(pairs, local) do
    with {_external, ip} <- Enum.find(pairs, fn {_external, ip} -> ip not in local end) do
      "#{Address.format(ip)} must be one of the relay addresses (#{list(local)})"
    end
  end

  defp ambiguous(singles) do
    families = Enum.map(singles, &Address.family/1)

    if families != Enum.uniq(families),
      do: "must be EXTERNAL/LOCAL pairs where there are several addresses of one family"
  end

  defp useless(singles, local) do
    with ip when ip != nil <-
           Enum.find(singles, fn ip ->
             Address.family(ip) not in Enum.map(local, &Address.family/1)
           end) do
      "#{Address.format(ip)} needs a relay address of its family; the relay addresses are #{list(local)}"
    end
  end

  defp external_of(ip, pairs, singles) do
    paired = Enum.find_value(pairs, fn {external, local} -> local == ip && external end)
    paired || Enum.find(singles, ip, &(Address.family(&1) == Address.family(ip)))
  end

  defp list(ips), do: Enum.map_join(ips, ", ", &Address.format/1)
end
