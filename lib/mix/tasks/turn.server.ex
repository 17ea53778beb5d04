defmodule Mix.Tasks.Turn.Server do
  @shortdoc "Runs the relay in the foreground"

  @moduledoc """
  Runs a STUN and TURN relay in the foreground, without the project's own application.

      mix turn.server --listen udp:127.0.0.1:3478 --relay-ip 127.0.0.1 --secret S

  | flag | | else |
  |---|---|---|
  | `--listen udp:IP:PORT` | repeatable, also with `tcp:`, `tls:` and `dtls:`; port 0 takes a free one | `TURN_LISTEN` |
  | `--cert FILE` | certificate and chain in PEM form, or the text itself; `tls:` and `dtls:` need it, and with it `tcp:` speaks TLS too | `TURN_TLS_CERT` |
  | `--key FILE` | its private key, likewise; seen by `ps` where it is the text | `TURN_TLS_KEY` |
  | `--relay-ip IP` | repeatable | `TURN_RELAY_IP` |
  | `--external-ip IP` | repeatable; or `EXTERNAL/LOCAL` | `TURN_EXTERNAL_IP` |
  | `--proxy-from CIDR` | repeatable; TCP and TLS connections from there begin with a PROXY header | `TURN_PROXY_FROM` |
  | `--realm R` | | `TURN_REALM` |
  | `--secret S` | repeatable; seen by `ps`, so better by the variable | `TURN_SECRET` |
  | `--ports MIN-MAX` | | `TURN_RELAY_PORTS` |
  | `--workers N` | | `TURN_WORKERS` |
  | `--allow-peer CIDR` | repeatable | `TURN_ALLOW_PEERS` |
  | `--deny-peer CIDR` | repeatable | `TURN_DENY_PEERS` |
  | `--alternate IP:PORT` | second address and port, for RFC 5780 | `TURN_ALTERNATE` |
  | `--redirect IP:PORT` | repeatable; other servers that clients are sent to (300) | `TURN_REDIRECT` |
  | `--alternate-domain NAME` | the name in those servers' certificates | `TURN_ALTERNATE_DOMAIN` |
  | `--classic-stun` | answers Binding requests of RFC 3489 too | `TURN_CLASSIC_STUN` |
  | `--keep-dscp` | what is relayed keeps its DSCP and ECN | `TURN_KEEP_DSCP` |
  | `--mobility` | tickets of RFC 8016 | `TURN_MOBILITY` |
  | `--mode switch` | no relay sockets: clients reach only each other (docs/switch-mode.md) | `TURN_MODE` |
  | `--user-quota N` | allocations that a user may have at once, 0 for any number | `TURN_USER_QUOTA` |
  | `--user-bandwidth N` | bytes per second that a user may have relayed, in each direction and on each worker, 0 for any number | `TURN_USER_BANDWIDTH` |
  | `--oauth-key FILE` | repeatable; keys of authorization servers (RFC 7635), see below | `TURN_OAUTH_KEYS` |
  | `--oauth-server-name NAME` | whom their tokens are for, else the realm | `TURN_OAUTH_SERVER_NAME` |

  A FILE with keys is a JWK, or a set of them as `{"keys": [...]}`, with the key in Base64url: 32 bytes for
  A256GCM, 16 for A128GCM (`Cromulent.Turn.AccessToken.Key` has the rest):

      {"kty": "oct", "kid": "2026-11", "alg": "A256GCM", "k": "SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM"}

  Once every listener is bound, it prints one line on standard output:

      ready {"pid": 4711, "listen": ["udp:127.0.0.1:3478"], "realm": "R"}

  where `pid` is the relay's process id and `listen` has the real ports. Everything else goes to standard
  error. (In a project that depends on this library, what mix says while it compiles that project comes
  first on standard output: let scripts read lines until `ready `.)

  SIGTERM and Ctrl-C end it, relay included, with status 0. Unknown flags and wrong values give one line and
  status 2; a relay that cannot start, such as for a port in use, one line and status 1.
  """

  use Mix.Task

  alias Cromulent.Turn.{Config, Json, Program}

  @task "turn.server"
  @switches [
    listen: [:string, :keep],
    relay_ip: [:string, :keep],
    external_ip: [:string, :keep],
    realm: :string,
    secret: [:string, :keep],
    ports: :string,
    workers: :string,
    allow_peer: [:string, :keep],
    deny_peer: [:string, :keep],
    mobility: :boolean,
    mode: :string,
    keep_dscp: :boolean,
    classic_stun: :boolean,
    alternate: :string,
    redirect: [:string, :keep],
    alternate_domain: :string,
    user_quota: :string,
    user_bandwidth: :string,
    cert: :string,
    key: :string,
    proxy_from: [:string, :keep],
    oauth_key: [:string, :keep],
    oauth_server_name: :string
  ]
  @renamed [
    ports: :relay_ports,
    allow_peer: :allow_peers,
    deny_peer: :deny_peers,
    oauth_key: :oauth_keys
  ]

  @impl true
  def run(argv) do
    opts =
      for {flag, value} <- Mix.Turn.parse(@task, argv, @switches),
          do: {@renamed[flag] || flag, value}

    Mix.Turn.boot()
    config = check(opts)
    :ok = :cromulent_turn_nif.sigint_to_sigterm()
    info = start(opts)

    if config.random_secret? do
      IO.puts(
        :stderr,
        "no --secret and no TURN_SECRET: a random one, which nobody outside can know"
      )
    end

    line = Json.encode(pid: info.os_pid, listen: info.listen, realm: config.realm)
    IO.puts("ready " <> line)
    Process.sleep(:infinity)
  end

  defp check(opts) do
    case Config.new(opts, :flag) do
      {:ok, config} -> config
      {:error, {:config, text}} -> Mix.Turn.fail(@task, 2, text)
    end
  end

  defp start(opts) do
    case Mix.Turn.start_relay(opts) do
      {:ok, info} -> info
      {:error, reason} -> Mix.Turn.fail(@task, 1, Program.describe(reason))
    end
  end
end
