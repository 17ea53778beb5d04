defmodule Cromulent.Turn do
  @moduledoc """
  STUN and TURN for applications with voice and video, in the same release.

      # .env: TURN_PROVIDER=embedded
      {:ok, ice_servers} = Cromulent.Turn.ice_servers(user.id)

  With the provider `embedded` this node runs a relay of its own (`Cromulent.Turn.Relay`); the others
  are in `Cromulent.Turn.Provider`. The relay is started by this application when
  `TURN_PROVIDER=embedded`, or by the host, in its own tree and with its own options:

      children = [{Cromulent.Turn, external_ip: "203.0.113.5"}, MyAppWeb.Endpoint]

  There is one relay per node: a host that starts it while `TURN_PROVIDER=embedded` is set too says
  `config :cromulent_turn, start: false`.

  ## Options

  An option comes from, in rising precedence: its default, its environment variable,
  `config :cromulent_turn, ...`, the options given in code. All of them are read at run time. Lists may be
  lists, or strings with commas. A wrong value is refused when the relay starts, with an error that
  names the source, the value and what would be right.

  | option | variable | default | meaning |
  |---|---|---|---|
  | `provider` | `TURN_PROVIDER` | see `Cromulent.Turn.Provider` | where ICE servers come from; several make a chain: the first that can answers |
  | `secret` | `TURN_SECRET` | random per boot | signs credentials; several for rotation: the first signs, all are valid |
  | `realm` | `TURN_REALM` | `cromulent_turn` | the realm of RFC 8489 §9.2 |
  | `listen` | `TURN_LISTEN` | `udp:0.0.0.0:3478,udp:[::]:3478` | where clients are listened for; port 0 takes a free one |
  | `cert` | `TURN_TLS_CERT` | none | certificate and chain in PEM form, a file or the text itself; with it TCP listeners speak TLS too |
  | `key` | `TURN_TLS_KEY` | none | its private key, likewise |
  | `proxy_from` | `TURN_PROXY_FROM` | none | blocks of load balancers whose TCP and TLS connections begin with a PROXY header (v1, v2) |
  | `relay_ip` | `TURN_RELAY_IP` | the host's primary addresses | local addresses that relayed traffic uses |
  | `external_ip` | `TURN_EXTERNAL_IP` | none | the public address of a host behind 1:1 NAT, or `EXTERNAL/LOCAL` pairs |
  | `relay_ports` | `TURN_RELAY_PORTS` | `49152-65535` | UDP ports of relayed traffic |
  | `ttl` | `TURN_TTL` | 3600 | lifetime of credentials, seconds |
  | `stun_urls` | `TURN_STUN_URLS` | none; a public server without a relay | more STUN servers for clients |
  | `workers` | `TURN_WORKERS` | one per core | threads of the relay |
  | `allow_peers` | `TURN_ALLOW_PEERS` | none | blocks of peers that are allowed although private; the longest prefix decides |
  | `deny_peers` | `TURN_DENY_PEERS` | none | blocks of peers that are refused although public |
  | `alternate` | `TURN_ALTERNATE` | none | a second address and port of this host, for NAT behaviour discovery (RFC 5780) |
  | `redirect` | `TURN_REDIRECT` | none | other servers, `IP:PORT`, to which clients that ask for an allocation are sent (300, RFC 8489 §10); who has one stays |
  | `alternate_domain` | `TURN_ALTERNATE_DOMAIN` | none | the name in those servers' certificates, if it is another |
  | `classic_stun` | `TURN_CLASSIC_STUN` | `false` | Binding requests of RFC 3489, which have no magic cookie, are answered over UDP |
  | `keep_dscp` | `TURN_KEEP_DSCP` | `false` | relayed datagrams keep the DSCP and ECN that they came with; Linux |
  | `mobility` | `TURN_MOBILITY` | `false` | clients may take an allocation to another address (RFC 8016) |
  | `tcp_allocations` | `TURN_TCP_ALLOCATIONS` | `true` | clients that come over TCP or TLS may relay TCP connections (RFC 6062) |
  | `mode` | `TURN_MODE` | `open` | `switch`: relayed addresses are virtual, clients of this relay reach only each other, and no port but the listeners' is open (docs/switch-mode.md) |
  | `admission` | `TURN_ADMISSION` | `off` | who may allocate: `presence`, those who are in a room, by `join/4` or `Cromulent.Turn.Relay.admit/3`; `room`, the same, and they reach members of their rooms only, in `mode` `switch` unless that is set (docs/admission.md) |
  | `withdraw_after` | `TURN_WITHDRAW_AFTER` | 0 | milliseconds that the allocations of who has left outlive that, for connections that come back |
  | `oauth_keys` | `TURN_OAUTH_KEYS` | none | keys of authorization servers, as JWK or JWK sets in files or as text; their access tokens let clients in too (RFC 7635), see `Cromulent.Turn.AccessToken` |
  | `oauth_server_name` | `TURN_OAUTH_SERVER_NAME` | the realm | the name that those tokens are for |
  | `user_quota` | `TURN_USER_QUOTA` | 0 | allocations that a user may have at once, 0 for any number |
  | `user_bandwidth` | `TURN_USER_BANDWIDTH` | 0 | bytes per second that a user may have relayed, in each direction and on each worker; 0 for any number |
  | `opaque_usernames` | `TURN_OPAQUE_USERNAMES` | `false` | hides the user id in usernames, see `Cromulent.Turn.Credentials.opaque_user_id/2` |
  | `max_ice_servers` | `TURN_MAX_ICE_SERVERS` | 8 | servers in one payload, 1 to 32 |
  | `host` | | | the DNS name or address that clients are told |
  | `software` | | `cromulent_turn/VERSION` | SOFTWARE of RFC 8489 §14.14; empty to hide |
  | `permission_events` | | `false` | each new permission is told and logged, see `Cromulent.Turn.Telemetry` |

  Further options, in code and `config` only, are the limits and lifetimes of `docs/control.md`:
  `max_allocations`, `userhashes`, `max_permissions`, `max_channels`, `lifetime_default`, `lifetime_max`,
  `permission_lifetime`, `channel_lifetime`, `channel_quarantine`,
  `reservation_lifetime`, `nonce_lifetime`, `challenge_rate`, `challenge_burst`, `max_connections`,
  `source_connections`, `connection_idle`, `handshake_rate`, `handshake_burst`, `max_tcp_peers`,
  `allocation_tcp_peers`, `max_grants` and `pair`.

  These are the other providers'. They are read when a provider is asked, and a wrong one is a failure of
  that provider.

  | option | variable | default | meaning |
  |---|---|---|---|
  | `turn_urls` | `TURN_URL` | none | URLs of the TURN server of `Cromulent.Turn.Coturn` |
  | `metered_url` | `METERED_URL` | none | `https://APP.metered.live`, for `Cromulent.Turn.Metered` |
  | `metered_secret_key` | `METERED_SECRET_KEY` | none | makes a credential for each user |
  | `metered_api_key` | `METERED_API_KEY` | none | fetches the servers of one credential for all |
  | `metered_region` | `METERED_REGION` | the nearest | the region of its servers |
  | `cloudflare_key_id` | `CLOUDFLARE_TURN_KEY_ID` | none | the TURN key of `Cromulent.Turn.Cloudflare` |
  | `cloudflare_api_token` | `CLOUDFLARE_TURN_API_TOKEN` | none | that key's token |
  | `cloudflare_url` | `CLOUDFLARE_TURN_URL` | `https://rtc.live.cloudflare.com` | where its API is |
  | `cloudflare_shared` | `CLOUDFLARE_TURN_SHARED` | `false` | one credential for all users of a node |
  | `http` | | `:otp` | what speaks HTTP: `:otp`, `{Finch, MyApp.Finch}`, `Req`, or a module with the behaviour `Cromulent.Turn.Http` |
  | `http_timeout` | `TURN_HTTP_TIMEOUT` | 5000 | milliseconds that a request may take, 100 to 60000 |
  | `http_cacertfile` | `TURN_HTTP_CACERTFILE` | the system's | the file of certificates to trust, PEM |

  A secret that is empty or still reads `${...}` is refused: a relay with a known secret is an open
  one. Secrets reach the relay over its control channel, never by its command line or environment, and
  no log, crash report or `inspect/1` shows them.
  """

  alias Cromulent.Turn.{Chain, Config, Embedded, Provider, Reason, StunServers, Telemetry}

  @typedoc """
  What a client gets: its ICE servers, and when their credentials expire (Unix seconds; nil where there
  are none, as in the list of STUN servers).
  """
  @type payload :: %{
          ice_servers: [Provider.ice_server(), ...],
          expires_at: pos_integer() | nil
        }

  @typedoc "Why a relay did not start."
  @type start_error :: Cromulent.Turn.Relay.start_error() | {:already_running, String.t()}

  @doc """
  The ICE servers of a user, ready for the browser's `RTCPeerConnection`, with credentials that are
  this user's own and expire: give them only to users who may join a call.

      {:ok, [%{urls: "stun:203.0.113.5:3478"},
             %{urls: "turn:203.0.113.5:3478?transport=udp", username: "...", credential: "..."}]}

  Never raises, and always gives a list: when the provider fails, or every one of a chain, the reason is
  logged (one line per cause and minute), the event `[:cromulent, :turn, :provider, :fallback]` is sent, and the
  list has STUN servers only. What the list looks like is in `Cromulent.Turn.Payload.build/2`.

  Options, instead of the configured ones: `provider`, `ttl` in seconds, `stun_urls`, `max_ice_servers`,
  `opaque_usernames`, and all those of the providers; for `embedded`, `relay` too, the name of the
  `Cromulent.Turn.Relay` to take.
  """
  @spec ice_servers(user_id :: term(), keyword()) :: {:ok, [Provider.ice_server(), ...]}
  def ice_servers(user_id, opts \\ []), do: {:ok, payload(user_id, opts).ice_servers}

  @doc """
  The same list, and when its credentials expire, in Unix seconds; nil where there are none. Never raises either.

      %{ice_servers: [%{urls: "stun:203.0.113.5:3478"}, ...], expires_at: 1763712000}
  """
  @spec payload(user_id :: term(), keyword()) :: payload()
  def payload(user_id, opts \\ []) do
    with {:keyword, true} <- {:keyword, Keyword.keyword?(opts)},
         {:ok, answer} <- Chain.ask(user_id, opts) do
      Map.delete(answer, :provider)
    else
      {:keyword, false} ->
        fall_back([], {:config, "the options must be a keyword list"}, user_id)

      {:error, reason} ->
        fall_back(opts, reason, user_id)
    end
  end

  @doc """
  The application's STUN servers: those of the relay of this node and of `TURN_STUN_URLS`, else a public one.

  They are those that clients get, for what else takes part in a call, such as an SFU on this server. Never raises;
  a wrong `TURN_STUN_URLS` is logged.
  """
  @spec stun_servers() :: [Provider.ice_server(), ...]
  def stun_servers do
    with {:ok, [_ | _] = servers} <- Embedded.stun_servers(),
         do: servers,
         else: (_ -> configured_stun_servers([]))
  end

  @doc """
  Joins a voice channel: takes the user's place in it, and gives its holder the ICE servers.

  See `Cromulent.Turn.Join` for options, guarantees and cost.
  """
  @spec join(presence :: module() | nil, topic :: String.t(), user_id :: term(), keyword()) ::
          {:ok, payload()} | {:error, :already_in_channel}
  defdelegate join(presence, topic, user_id, opts \\ []), to: Cromulent.Turn.Join

  @doc "Gives the places back that the calling process holds for this user in this topic."
  @spec leave(topic :: String.t(), user_id :: term()) :: :ok | {:error, :not_in_channel}
  defdelegate leave(topic, user_id), to: Cromulent.Turn.Join

  @doc "The users who hold a place in a topic, on every node."
  @spec members(topic :: String.t()) :: [term()]
  defdelegate members(topic), to: Cromulent.Turn.Join

  @doc "Whether the calling process holds a place of this user in this topic."
  @spec holds?(topic :: String.t(), user_id :: term()) :: boolean()
  defdelegate holds?(topic, user_id), to: Cromulent.Turn.Join

  @doc """
  Starts the relay of this node under a supervisor, and returns when it is ready.

  `{:error, reason}` says why it cannot run: `{:listen, "udp:0.0.0.0:3478", :eaddrinuse}`,
  `{:config, text}` and so on (`docs/control.md`), or `{:already_running, text}`.
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, start_error()}
  def start_link(opts \\ []) do
    case Cromulent.Turn.Supervisor.start_link(opts) do
      {:ok, pid} -> {:ok, pid}
      {:error, {:already_started, _pid}} -> {:error, already_running()}
      {:error, {:shutdown, {:failed_to_start_child, _child, reason}}} -> {:error, reason}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc false
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts) do
    # Supervisors print the arguments of children that fail.
    %{
      id: __MODULE__,
      start: {__MODULE__, :start_link, [Config.seal_opts(opts)]},
      type: :supervisor
    }
  end

  defp already_running do
    {:already_running,
     "this node runs its relay already: either TURN_PROVIDER=embedded lets the application " <>
       ":cromulent_turn start it, or {Cromulent.Turn, opts} in a supervision tree, not both; " <>
       "`config :cromulent_turn, start: false` leaves it to the latter"}
  end

  defp fall_back(opts, reason, user_id) do
    name = last_provider(opts)
    metadata = %{provider: name, reason: Reason.clean(reason, opts), user_id: user_id}
    Telemetry.execute([:provider, :fallback], %{count: 1}, metadata)

    Telemetry.once(:error, {:fallback, name, Reason.cause(reason)}, fn ->
      "TURN provider #{show(name)} failed, clients get STUN servers only: " <>
        Reason.describe(reason, opts)
    end)

    %{ice_servers: configured_stun_servers(opts), expires_at: nil}
  end

  # Who had the last word; nil where the name itself is wrong.
  defp last_provider(opts) do
    case Chain.providers(opts) do
      {:ok, providers} -> providers |> List.last() |> Provider.name()
      {:error, _} -> nil
    end
  end

  defp configured_stun_servers(opts) do
    case StunServers.get_ice_servers(nil, opts) do
      {:ok, servers} ->
        servers

      {:error, reason} ->
        Telemetry.once(:error, {:setting, :stun_urls}, fn ->
          "TURN: #{Reason.describe(reason, opts)}; clients get a public STUN server"
        end)

        StunServers.fallback()
    end
  end

  defp show(nil), do: "(none)"
  defp show(name), do: name |> inspect() |> String.trim_leading(":")
end
