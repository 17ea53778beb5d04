defmodule Cromulent.Turn.Relay do
  @moduledoc """
  The relay of this node: a program of its own, supervised, that moves the packets.

  It is started by the application when `TURN_PROVIDER=embedded`, or by `{Cromulent.Turn, opts}` in a
  supervision tree. If it ends by itself, or gives no sign of life for 15 seconds, another is started at once
  with the same configuration; when that fails too, again after growing pauses of at most 30 seconds.

  The functions take the process to ask as their last argument, for nodes that run several. They
  return `{:error, reason}` with a `t:error/0` when the relay cannot answer:

    * `:not_running` - there is no such process
    * `:down` - the relay has ended, and the next one is not ready yet
    * `:busy` - the relay does not read its commands, or is being configured by somebody else
    * `:timeout` - it did not answer in time

  An allocation is a map of `id`, `username`, `client`, `server` and `relayed` (addresses as
  `"ip:port"`), `transport`, `age_ms`, `expires_in_ms`, `up_packets`, `up_bytes` (client to peers),
  `down_packets`, `down_bytes` (peers to client), `permissions`, `channels` and `worker`; a dual one has
  `also_relayed` too, its address of the other family. `protocol` is what it relays, `:udp` or `:tcp`, and
  `tcp_peers` how many connections with peers it has.
  """

  alias Cromulent.Turn.{Announced, Config, Frame, Owner}

  @type error :: :not_running | :down | :busy | :timeout
  @typedoc "Why a relay did not start; `docs/control.md` has the details."
  @type start_error :: Frame.failure() | {:already_started, pid()}
  @type grant_error :: :admission_off | :bad_user_id | :too_many_grants | :too_many_rooms
  @type selector :: :all | {:id, String.t()} | {:username, String.t()} | {:user, String.t()}

  # What is the process's, and not the relay's.
  @own_options [:name, :config, :keeper, :program, :start_timeout, :call_timeout, :pulse]

  @doc false
  @spec child_spec(keyword()) :: Supervisor.child_spec()
  def child_spec(opts), do: %{id: __MODULE__, start: {__MODULE__, :start_link, [opts]}}

  @doc """
  Starts a relay with the options of `Cromulent.Turn`, and returns when every listener is bound.

  A relay that cannot run gives `{:error, reason}`, such as
  `{:error, {:listen, "udp:127.0.0.1:3478", :eaddrinuse}}` or `{:error, {:config, text}}`.
  `name: nil` leaves the process without a name; `Cromulent.Turn.ice_servers/2` uses the one with
  the default name.
  """
  @spec start_link(keyword()) :: {:ok, pid()} | {:error, start_error()}
  def start_link(opts \\ []) do
    {own, opts} = Keyword.split(opts, @own_options)
    own = Keyword.put_new(own, :name, __MODULE__)

    with {:ok, config} <- if(own[:config], do: {:ok, own[:config]}, else: Config.new(opts)) do
      start_process(Keyword.put(own, :config, config))
    end
  end

  # A start that fails ends the process normally and tells why in a message: no crash report for what
  # is an answer, and no exit signal for a caller that is no supervisor.
  defp start_process(own) do
    ref = make_ref()
    name = if own[:name], do: [name: own[:name]], else: []

    case GenServer.start_link(Owner, {self(), ref, own}, name) do
      :ignore -> receive(do: ({^ref, reason} -> {:error, reason}))
      result -> result
    end
  end

  @doc """
  What runs: `os_pid`, `listen` (with the real ports), `realm`, `relays`, `workers`, `version`, `udp`,
  `status` (`:up`, or `:down` while another is being started), `restarts`, `drain`.
  """
  @spec info(GenServer.server()) :: {:ok, map()} | {:error, error()}
  def info(server \\ __MODULE__), do: call(server, :info)

  @doc "Its allocations, at most `limit` of them."
  @spec list(non_neg_integer(), GenServer.server()) :: {:ok, [map()]} | {:error, error()}
  def list(limit \\ 1000, server \\ __MODULE__) when is_integer(limit) and limit >= 0,
    do: call(server, {:command, :list, [limit]})

  @doc """
  Ends allocations at once: `:all`, `{:id, id}`, `{:username, username}` (the whole USERNAME), or
  `{:user, user_id}` (the user id that credentials were made for). Returns how many.

  With `{:user, user_id}` also those whose usernames hide that id (`opaque_usernames`), under any of the
  relay's secrets.
  """
  @spec kill(selector(), GenServer.server()) :: {:ok, non_neg_integer()} | {:error, error()}
  def kill(selector, server \\ __MODULE__)

  def kill({:user, user_id}, server) when is_binary(user_id) do
    with {:ok, names} <- call(server, {:names, user_id}), do: kill_all(names, 0, server)
  end

  def kill({key, value} = selector, server) when key in [:id, :username] and is_binary(value),
    do: call(server, {:command, :kill, [selector]})

  def kill(:all, server), do: call(server, {:command, :kill, [:all]})

  defp kill_all([], killed, _server), do: {:ok, killed}

  defp kill_all([name | names], killed, server) do
    with {:ok, count} <- call(server, {:command, :kill, [{:user, name}]}),
         do: kill_all(names, killed + count, server)
  end

  @doc """
  With true, new allocations are refused (508) and all else goes on; with false they are taken again.

  To send clients to another server meanwhile instead, set the option `redirect` with `configure/2`.
  """
  @spec drain(boolean(), GenServer.server()) :: :ok | {:error, error()}
  def drain(on \\ true, server \\ __MODULE__) when is_boolean(on),
    do: call(server, {:command, :drain, [on]})

  @doc """
  Tells the relay of usernames that clients may hide in a USERHASH (RFC 8489, 14.4), which cannot be
  inverted. `Cromulent.Turn.ice_servers/2` does it for the credentials that it makes; what issues
  credentials by itself has to, where the option `userhashes` is set. As many as that option says are
  remembered, the newest; a relay that takes another's place is told them again.
  """
  @spec announce([String.t()], GenServer.server()) :: :ok | {:error, error()}
  def announce(usernames, server \\ __MODULE__) when is_list(usernames) do
    unless Enum.all?(usernames, &(is_binary(&1) and byte_size(&1) in 1..508)),
      do: raise(ArgumentError, "usernames must be binaries of 1 to 508 bytes")

    usernames
    |> Announced.portions()
    |> Enum.find_value(:ok, fn some ->
      with :ok <- call(server, {:announce, some}), do: nil
    end)
  end

  @doc false
  # The same for one username, without waiting: the relay has been told before a client can use it.
  @spec announce_soon(String.t(), GenServer.server()) :: :ok
  def announce_soon(username, server), do: GenServer.cast(server, {:announce, username})

  @doc """
  Its counters since it started: `allocations` and `grants` (now), `uptime_ms`, `counters` (a map of totals over
  all workers), `workers` (the same for each) and `events_dropped`.
  """
  @spec stats(GenServer.server()) :: {:ok, map()} | {:error, error()}
  def stats(server \\ __MODULE__), do: call(server, {:command, :stats, []})

  @doc """
  Changes options of the running relay without touching its allocations: `secret`, `realm`, `ttl`,
  `oauth_keys`, `cert` and `key` (files are read anew; open connections keep the certificate that they were opened
  with), `host`, `stun_urls`, `allow_peers`, `deny_peers`, `redirect`, `proxy_from`, and the limits but for `max_allocations`,
  `max_connections` and `max_tcp_peers`. To change secrets without refusing anybody, give the new one first and the
  old ones after it, and take those away once their credentials have expired.
  """
  @spec configure(keyword(), GenServer.server()) ::
          :ok | {:error, error() | {:config, String.t()}}
  def configure(opts, server \\ __MODULE__) when is_list(opts),
    do: call(server, {:configure, Config.seal_opts(opts)})

  @doc """
  Admits a user to a room, for applications that do not use `Cromulent.Turn.join/4`, under `admission: :presence` or
  `:room` (docs/admission.md): as long as the relay runs, or until `withdraw/3`. Twice is once.

  The grant is kept for the relay that takes another's place, and is not when the answer is `:too_many_grants` (the option
  `max_grants`), `:too_many_rooms` (a user can be in 8), `:bad_user_id` or `:admission_off`.
  """
  @spec admit(String.Chars.t(), String.t(), GenServer.server()) ::
          :ok | {:error, error() | grant_error()}
  def admit(user_id, room, server \\ __MODULE__) when is_binary(room) and room != "",
    do: call(server, {:admit, user_id, room})

  @doc """
  Takes back what `admit/3` gave, and is answered when the allocations of a user who is in no room any more have ended.
  What a user was granted by joining stays.
  """
  @spec withdraw(String.Chars.t(), String.t(), GenServer.server()) ::
          :ok | {:error, error() | :admission_off}
  def withdraw(user_id, room, server \\ __MODULE__) when is_binary(room) and room != "",
    do: call(server, {:withdraw, user_id, room})

  # The process times each command itself, and answers.
  defp call(server, request) do
    GenServer.call(server, request, :infinity)
  catch
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end
end
