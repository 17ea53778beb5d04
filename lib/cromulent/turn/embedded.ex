defmodule Cromulent.Turn.Embedded do
  @moduledoc """
  The provider that gives out this node's own relay.

  Entries are a STUN URL and a TURN URL per address at which clients reach a listener, and the STUN
  URLs of `TURN_STUN_URLS`. The address is the `host` option where it is given; else the external
  address, the listener's own, or, where it listens on every address, that of the relay. Credentials
  are made here, in one call and without asking the relay: they name the user, and hold for `ttl`
  seconds ("A REST API for access to TURN services", draft-uberti-behave-turn-rest-00, 2.2). Where the
  option `userhashes` is set the relay is told each username; the call does not wait for it.
  """

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.{Address, Config, Credentials, Option, Payload, Provider, Relay}

  @typedoc """
  What a running relay offers; all but the credentials. `servers` are arranged as clients get them, those
  that need credentials as their URLs alone; `all` are the same before the limit.
  """
  @opaque prepared :: %{
            servers: [Provider.ice_server() | String.t()],
            all: [Provider.ice_server() | String.t()],
            max_ice_servers: pos_integer(),
            ttl: pos_integer(),
            secrets: (() -> [binary(), ...]),
            opaque?: boolean(),
            announce?: boolean()
          }

  @type error :: :not_running | :bad_user_id | {:config, String.t()}

  @doc """
  The ICE servers of a user: a string, or what `to_string/1` makes one of.

  `{:error, :not_running}` when no relay runs, `{:error, :bad_user_id}` when the id cannot be part of
  a username: it must be UTF-8 without control characters, and not much longer than 490 bytes. Under
  `opaque_usernames` every id is right.

  Options: `relay`, the name of the `Cromulent.Turn.Relay` to take; `ttl`, `max_ice_servers` and
  `opaque_usernames` instead of the relay's, which it had from all sources when it started; and `stun_urls`
  besides its own.
  """
  @impl true
  @spec get_ice_servers(term(), keyword()) :: {:ok, [Provider.ice_server()]} | {:error, error()}
  def get_ice_servers(user_id, opts \\ []), do: Provider.servers(offer(user_id, opts))

  @doc "The same, and when the credentials expire."
  @impl true
  @spec offer(term(), keyword()) :: {:ok, Provider.offer()} | {:error, error()}
  def offer(user_id, opts) do
    relay = opts[:relay] || Relay

    with {:ok, prepared} <- prepared(relay),
         {:ok, prepared} <- adapt(prepared, opts),
         [secret | _] = prepared.secrets.(),
         {:ok, made} <- Credentials.mint(user_id, secret, prepared.ttl, prepared.opaque?) do
      # Clients of a relay that serves USERHASH hide their names: it must have been told them.
      if prepared.announce?, do: Relay.announce_soon(made.username, relay)
      {:ok, %{ice_servers: fill(prepared.servers, made), expires_at: made.expires_at}}
    end
  end

  @doc false
  @spec running?(term()) :: boolean()
  def running?(relay \\ nil) do
    relay = relay || Relay
    is_atom(relay) and :ets.whereis(relay) != :undefined
  end

  @doc false
  # What `offer/2` needs, made once, when the relay runs or its configuration changes.
  @spec prepare(Config.t(), [String.t()]) :: prepared()
  def prepare(%Config{} = config, listen) do
    hosts = listen |> Enum.flat_map(&hosts(&1, config)) |> Enum.uniq()
    stun = for {:udp, host} <- hosts, do: %{urls: "stun:" <> host}
    turn = for host <- hosts, url <- turn_urls(host, config), do: turn(url)

    %{
      servers: arrange(stun ++ turn, config.stun_urls, config.max_ice_servers),
      all: arrange(stun ++ turn, config.stun_urls, length(stun ++ turn ++ config.stun_urls)),
      max_ice_servers: config.max_ice_servers,
      ttl: config.ttl,
      secrets: config.secrets,
      opaque?: config.opaque_usernames,
      announce?: Map.get(config.limits, :userhashes, 0) > 0
    }
  end

  @doc false
  # The STUN servers among them, for those who need no relay.
  @spec stun_servers(atom()) :: {:ok, [Provider.ice_server()]} | {:error, :not_running}
  def stun_servers(relay \\ nil) do
    with {:ok, prepared} <- prepared(relay || Relay),
         do: {:ok, Enum.filter(prepared.all, &is_map/1)}
  end

  defp prepared(relay) do
    case :ets.lookup(relay, :offer) do
      [{:offer, prepared}] -> {:ok, prepared}
      [] -> {:error, :not_running}
    end
  rescue
    ArgumentError -> {:error, :not_running}
  end

  # Most callers change nothing.
  defp adapt(prepared, []), do: {:ok, prepared}

  defp adapt(prepared, opts) do
    with {:ok, ttl} <- given(:ttl, opts, prepared.ttl),
         {:ok, opaque?} <- given(:opaque_usernames, opts, prepared.opaque?),
         {:ok, stun_urls} <- given(:stun_urls, opts, []),
         {:ok, most} <- given(:max_ice_servers, opts, prepared.max_ice_servers) do
      {:ok, rearrange(%{prepared | ttl: ttl, opaque?: opaque?}, stun_urls, most)}
    end
  end

  # The relay's own options have answered for all other sources when it started.
  defp given(name, opts, default),
    do: if(opts[name] == nil, do: {:ok, default}, else: Option.fetch(name, opts))

  defp rearrange(%{max_ice_servers: most} = prepared, [], most), do: prepared

  defp rearrange(prepared, stun_urls, most) do
    servers = for server <- prepared.all, do: if(is_map(server), do: server, else: turn(server))
    %{prepared | servers: arrange(servers, stun_urls, most)}
  end

  # Stand-ins take part where credentials will be.
  defp turn(url), do: %{urls: url, username: "-", credential: "-"}

  defp arrange(servers, stun_urls, most) do
    arranged = Payload.build(servers, stun_urls: stun_urls, max_ice_servers: most)
    for server <- arranged, do: if(server[:username], do: server.urls, else: server)
  end

  defp fill(servers, made), do: Enum.map(servers, &fill_one(&1, made))

  defp fill_one(url, made) when is_binary(url),
    do: %{urls: url, username: made.username, credential: made.credential}

  defp fill_one(server, _made), do: server

  # The transport and `host:port` of each address at which clients reach this listener.
  defp hosts(text, config) do
    {:ok, {transport, ip, port}} = Config.parse_listener(text)
    for host <- reached_at(ip, config), do: {transport, "#{host}:#{port}"}
  end

  # RFC 7065 §3.1. With a certificate a TCP listener speaks TLS too.
  defp turn_urls({:udp, host}, _config), do: ["turn:#{host}?transport=udp"]
  defp turn_urls({:dtls, host}, _config), do: ["turns:#{host}?transport=udp"]
  defp turn_urls({:tls, host}, _config), do: ["turns:#{host}?transport=tcp"]
  defp turn_urls({:tcp, host}, %{cert: nil}), do: ["turn:#{host}?transport=tcp"]

  defp turn_urls({:tcp, host}, _config),
    do: ["turn:#{host}?transport=tcp", "turns:#{host}?transport=tcp"]

  defp reached_at(_ip, %{host: host}) when is_binary(host) do
    case Address.parse(host) do
      {:ok, ip} -> [Address.to_host(ip)]
      :error -> [host]
    end
  end

  defp reached_at(ip, config) do
    relays =
      for {bind, external} <- config.relays,
          Address.family(bind) == Address.family(ip),
          do: {bind, external}

    cond do
      Address.wildcard?(ip) -> for {_bind, external} <- relays, do: Address.to_host(external)
      Address.loopback?(ip) -> [Address.to_host(ip)]
      true -> [Address.to_host(external_of(ip, relays))]
    end
  end

  # A listener on one address is reached there, unless a 1:1 NAT stands before that address.
  defp external_of(ip, relays) do
    Enum.find_value(relays, ip, fn {bind, external} -> bind == ip && external end)
  end
end
