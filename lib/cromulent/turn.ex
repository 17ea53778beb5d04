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
  | `provider` | `TURN_PROVIDER` | see `Cromulent.Turn.Provider` | where ICE servers come from |
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
  | `host` | | | the DNS name or address that clients are told |
  | `software` | | `cromulent_turn/VERSION` | SOFTWARE of RFC 8489 §14.14; empty to hide |

  Further options, in code and `config` only, are the limits and lifetimes of `docs/control.md`:
  `max_allocations`, `user_quota`, `max_permissions`, `max_channels`, `lifetime_default`,
  `lifetime_max`, `permission_lifetime`, `channel_lifetime`, `channel_quarantine`,
  `reservation_lifetime`, `nonce_lifetime`, `challenge_rate`, `challenge_burst`, `max_connections`,
  `source_connections`, `connection_idle`, `handshake_rate` and `handshake_burst`.

  A secret that is empty or still reads `${...}` is refused: a relay with a known secret is an open
  one. Secrets reach the relay over its control channel, never by its command line or environment, and
  no log, crash report or `inspect/1` shows them.
  """

  alias Cromulent.Turn.{Config, Embedded, Option, Provider, StunServers, Telemetry}
  alias Cromulent.Turn.Stun

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

  Never raises, and always gives a list: when the provider fails, the reason is logged (one line
  per cause and minute), the event `[:cromulent, :turn, :provider, :fallback]` is sent, and the list
  has STUN servers only.

  Options: `provider` instead of the configured one; for `embedded`, `ttl` in seconds, and `relay`, the name
  of the `Cromulent.Turn.Relay` to take.
  """
  @spec ice_servers(user_id :: term(), keyword()) :: {:ok, [Provider.ice_server(), ...]}
  def ice_servers(user_id, opts \\ []) do
    with {:ok, provider} <- provider(opts),
         {:ok, [_ | _] = servers} <- ask(provider, user_id, opts) do
      {:ok, servers}
    else
      {:error, reason} -> {:ok, fall_back(opts, reason, user_id)}
      other -> {:ok, fall_back(opts, {:bad_answer, other}, user_id)}
    end
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

  defp provider(opts) do
    case Option.fetch(:provider, opts) do
      :unset -> {:ok, if(Embedded.running?(), do: Embedded, else: Stun)}
      result -> result
    end
  end

  # Providers may be anybody's code, and a user who joins a call must not suffer from it.
  defp ask(provider, user_id, opts) do
    if Code.ensure_loaded?(provider) and function_exported?(provider, :get_ice_servers, 2),
      do: provider.get_ice_servers(user_id, opts),
      else: provider.get_ice_servers(user_id)
  rescue
    exception -> {:error, exception}
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  defp fall_back(opts, reason, user_id) do
    name =
      opts[:provider] || Application.get_env(:cromulent_turn, :provider) ||
        System.get_env("TURN_PROVIDER")

    metadata = %{provider: name, reason: reason, user_id: user_id}
    Telemetry.execute([:provider, :fallback], %{count: 1}, metadata)

    Telemetry.once(:error, {:fallback, name, cause(reason)}, fn ->
      "TURN provider #{name} failed, clients get STUN servers only: #{describe(reason)}"
    end)

    stun_servers(user_id)
  end

  defp stun_servers(user_id) do
    case StunServers.get_ice_servers(user_id) do
      {:ok, servers} -> servers
      {:error, _} -> StunServers.fallback()
    end
  end

  # What two failures must share to be the same cause: not the details, of which there is no end.
  defp cause(%module{}), do: module
  defp cause(reason) when is_tuple(reason) and tuple_size(reason) > 0, do: elem(reason, 0)
  defp cause(reason), do: reason

  defp describe(reason) when is_exception(reason), do: Exception.message(reason)
  defp describe({:config, text}), do: text
  defp describe(:not_running), do: "no relay runs on this node"
  defp describe(reason), do: inspect(reason, limit: 10, printable_limit: 200)
end
