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

  use GenServer

  alias Cromulent.Turn.{
    Announced,
    Config,
    Credentials,
    Embedded,
    Frame,
    Keeper,
    OpaqueString,
    OsProcess,
    Program,
    Telemetry
  }

  require Logger

  @type error :: :not_running | :down | :busy | :timeout
  @typedoc "Why a relay did not start; `docs/control.md` has the details."
  @type start_error :: Frame.failure() | {:already_started, pid()}
  @type selector :: :all | {:id, String.t()} | {:username, String.t()} | {:user, String.t()}

  @own_options [:name, :config, :keeper, :program, :start_timeout, :call_timeout, :pulse]
  @start_timeout 10_000
  @call_timeout 5_000
  # How often a relay is asked for a sign of life, and how long it has to give it, in ms: all of its threads
  # answer together, so that one that hangs shows too.
  @pulse 15_000
  # Milliseconds that an old relay gets to end by itself.
  @grace 2_000
  # Pauses before another start, in ms: none for a relay that had run well, then doubling.
  @pause_first 100
  @pause_most 30_000
  # A relay that ran for as long, in ms, has run well.
  @ran_well 10_000
  # Events that the relay may send before it must be granted more.
  @credit 1024
  @refill_ms 100
  @max_ref Bitwise.bsl(1, 60)
  # When a relay that was busy is told usernames again, in ms.
  @retell_ms 100

  defstruct [
    :name,
    :config,
    :keeper,
    :program,
    :start_timeout,
    :call_timeout,
    :port,
    :os_pid,
    :info,
    :timer,
    :up_at,
    :down_at,
    :fault,
    :listen,
    :refill,
    :pulse,
    :pulse_timer,
    :teller,
    :announced,
    status: :starting,
    drain: false,
    calls: %{},
    next_ref: 0,
    credit: 0,
    tries: 0,
    starts: 0,
    surprised?: false
  ]

  # ---- client functions ----

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

    case GenServer.start_link(__MODULE__, {self(), ref, own}, name) do
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
  Its counters since it started: `allocations` (now), `uptime_ms`, `counters` (a map of totals over
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

  # The process times each command itself, and answers.
  defp call(server, request) do
    GenServer.call(server, request, :infinity)
  catch
    :exit, {_reason, {GenServer, :call, _}} -> {:error, :not_running}
  end

  # ---- callbacks ----

  @impl true
  def init({starter, ref, own}) do
    Process.flag(:trap_exit, true)
    kept = if own[:keeper], do: Keeper.get(own[:keeper]), else: %{}
    state = new_state(own, kept)
    if state.name, do: :ets.new(state.name, [:named_table, :protected, read_concurrency: true])

    case kept[:os_pid] do
      nil -> first_start(state, starter, ref)
      os_pid -> {:ok, state, {:continue, {:after, os_pid}}}
    end
  end

  defp new_state(own, kept) do
    %__MODULE__{
      name: own[:name],
      keeper: own[:keeper],
      config: kept[:config] || own[:config],
      drain: kept[:drain] || false,
      starts: if(kept[:os_pid], do: 1, else: 0),
      announced: Announced.new(kept[:announced] || Announced.table()),
      program: own[:program] || Program.path(),
      start_timeout: own[:start_timeout] || @start_timeout,
      call_timeout: own[:call_timeout] || @call_timeout,
      pulse: own[:pulse] || @pulse,
      down_at: now()
    }
  end

  # The one place that waits: whoever starts a relay wants to know whether it runs.
  defp first_start(state, starter, ref) do
    Enum.each(Config.warnings(state.config), &Logger.warning/1)

    with {:ok, state} <- open(state), {:ok, info} <- await_ready(state) do
      {:ok, up(state, info)}
    else
      {:error, reason} ->
        send(starter, {ref, reason})
        :ignore
    end
  end

  defp await_ready(%{port: port, timer: timer} = state) do
    result =
      receive do
        {^port, {:data, bytes}} -> greeting(Frame.decode(bytes))
        {^port, {:exit_status, status}} -> {:error, early_exit(status)}
        {:EXIT, ^port, reason} -> {:error, cut_off(reason)}
        {:start_timeout, ^timer} -> {:error, no_greeting(state)}
      end

    with {:error, _} <- result do
      Program.stop(port, state.os_pid, @grace)
      result
    end
  end

  defp greeting({:ok, {:ready, info}}), do: {:ok, info}
  defp greeting({:ok, {:failed, reason}}), do: {:error, reason}
  defp greeting({:ok, _early}), do: {:error, {:protocol, "the relay spoke before it was ready"}}
  defp greeting({:error, text}), do: {:error, {:protocol, "the relay sent " <> text}}

  defp early_exit(status),
    do: {:system, "the relay ended before it was ready: #{Program.describe_exit(status)}"}

  # A write to a relay that has just ended closes the port, and no exit status is told.
  defp cut_off(reason), do: {:system, "the control channel broke: #{reason}"}

  defp no_greeting(state),
    do: {:system, "the relay did not get ready within #{state.start_timeout} ms"}

  # The process before this one left a relay behind: it must let go of its ports first.
  @impl true
  def handle_continue({:after, os_pid}, state) do
    OsProcess.reap(os_pid, @grace)
    {:noreply, start(state)}
  end

  @impl true
  def handle_call(:info, _from, state) do
    own = %{
      status: state.status,
      realm: state.config.realm,
      restarts: max(state.starts - 1, 0),
      drain: state.drain
    }

    {:reply, {:ok, Map.merge(state.info || %{}, own)}, state}
  end

  # What a user is called in usernames. The option may have been turned on or off since they were made.
  def handle_call({:names, user_id}, _from, state) do
    opaque = Enum.map(state.config.secrets.(), &Credentials.opaque_user_id(user_id, &1))
    {:reply, {:ok, [OpaqueString.prepared(user_id) | opaque]}, state}
  end

  def handle_call({:command, name, args}, from, state) do
    then = if name == :drain, do: [drain: hd(args)], else: []
    command(state, from, name, args, then)
  end

  def handle_call({:announce, usernames}, from, state) do
    announced = Announced.remember(state.announced, usernames, room(state))
    command(%{state | announced: announced}, from, :users, [usernames], [])
  end

  # One at a time: each is made from the configuration in force.
  def handle_call({:configure, opts}, from, state) do
    with {:ok, config} <- Config.update(state.config, opts),
         false <- Enum.any?(state.calls, fn {_, call} -> call.then[:config] end) do
      command(state, from, :configure, [to_relay(config, state.listen)], config: config)
    else
      true -> {:reply, {:error, :busy}, state}
      error -> {:reply, error, state}
    end
  end

  @impl true
  def handle_cast({:announce, username}, state) do
    announced = Announced.owe(state.announced, [username], room(state))
    {:noreply, tell(%{state | announced: announced})}
  end

  @impl true
  def handle_info({port, {:data, bytes}}, %{port: port} = state),
    do: {:noreply, frame(Frame.decode(bytes), state)}

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    reason = if state.status == :up, do: {:exit, status}, else: early_exit(status)
    {:noreply, lost(state, reason)}
  end

  def handle_info({:EXIT, port, reason}, %{port: port} = state),
    do: {:noreply, lost(state, cut_off(reason))}

  def handle_info({:call_timeout, ref}, state), do: {:noreply, give_up(state, ref)}

  def handle_info({:start_timeout, timer}, %{timer: timer} = state),
    do: {:noreply, lost(state, no_greeting(state))}

  def handle_info({:start, timer}, %{timer: timer} = state), do: {:noreply, start(state)}

  def handle_info({:refill, timer}, %{refill: timer, status: :up} = state),
    do: {:noreply, grant(state)}

  def handle_info({:pulse, timer}, %{pulse_timer: timer, status: :up} = state),
    do: {:noreply, feel(state)}

  def handle_info({:tell, timer}, %{teller: timer} = state),
    do: {:noreply, tell(%{state | teller: nil})}

  # What a port or a timer of the past still had to say.
  def handle_info({port, _}, state) when is_port(port), do: {:noreply, state}
  def handle_info({:EXIT, port, _}, state) when is_port(port), do: {:noreply, state}

  def handle_info({timeout, _}, state)
      when timeout in [:start_timeout, :start, :refill, :pulse, :tell],
      do: {:noreply, state}

  def handle_info(message, %{surprised?: false} = state) do
    Logger.warning(
      "#{inspect(__MODULE__)} got a message that it does not know: " <>
        inspect(message, limit: 5, printable_limit: 100) <> "; further ones are not logged"
    )

    {:noreply, %{state | surprised?: true}}
  end

  def handle_info(_message, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, state) do
    if state.port, do: Program.stop(state.port, state.os_pid, @grace)
    :ok
  end

  # ---- starting ----

  defp start(state) do
    case open(%{state | timer: nil}) do
      {:ok, state} -> state
      {:error, reason} -> lost(state, reason)
    end
  end

  defp open(state) do
    listen = state.listen || state.config.listen

    with {:ok, port, os_pid} <- Program.open(state.program) do
      state = %{state | port: port, os_pid: os_pid, status: :starting, listen: listen}
      state = %{state | timer: timer(:start_timeout, state.start_timeout)}
      Program.write(port, Frame.hello())
      {state, ref} = next_ref(state)
      # A relay that does not read shows as one that does not get ready.
      Program.write(port, Frame.encode({:configure, ref, to_relay(state.config, listen)}))
      {:ok, state}
    end
  end

  defp to_relay(config, listen), do: Config.to_relay(%{config | listen: listen})

  defp up(state, info) do
    state = %{
      state
      | status: :up,
        info: %{info | os_pid: state.os_pid || info.os_pid},
        starts: state.starts + 1,
        up_at: now(),
        timer: nil,
        fault: nil,
        credit: 0,
        refill: nil,
        listen: Config.pin(state.listen, info.listen)
    }

    keep(state, os_pid: state.info.os_pid)
    publish(state)
    tell_up(state)
    state |> grant() |> restore_drain() |> announce_again() |> feel_later()
  end

  defp tell_up(state) do
    again? = state.starts > 1
    down_ms = if again?, do: state.up_at - state.down_at, else: 0
    metadata = Map.take(state.info, [:os_pid, :listen, :version])
    Telemetry.execute([:relay, :up], %{down_ms: down_ms, restarts: state.starts - 1}, metadata)
    back = if again?, do: " again, #{down_ms} ms after it was lost", else: ""

    Logger.info(
      "TURN relay runs#{back}: pid #{state.os_pid}, listens on #{Enum.join(state.info.listen, ", ")}"
    )
  end

  defp restore_drain(%{drain: false} = state), do: state

  defp restore_drain(state) do
    {state, ref} = next_ref(state)
    Program.write(state.port, Frame.encode({:drain, ref, true}))
    state
  end

  # ---- usernames ----

  # To a relay that knows nobody yet.
  defp announce_again(state) do
    announced = Announced.owe_all(state.announced, System.os_time(:second))
    tell(%{state | announced: announced, teller: nil})
  end

  defp room(state), do: Map.get(state.config.limits, :userhashes, 0)

  # What it does not take now, it is told a little later.
  defp tell(%{status: :up, teller: nil} = state) do
    case Announced.next(state.announced) do
      {[], _} -> state
      {usernames, announced} -> tell(state, usernames, announced)
    end
  end

  defp tell(state), do: state

  defp tell(state, usernames, announced) do
    {state, ref} = next_ref(state)

    case Program.write(state.port, Frame.encode({:users, ref, usernames})) do
      :ok -> tell(%{state | announced: announced})
      {:error, _} -> %{state | teller: timer(:tell, @retell_ms)}
    end
  end

  # ---- frames ----

  defp frame({:ok, {:ready, info}}, %{status: :starting} = state), do: up(state, info)
  defp frame({:ok, {:failed, reason}}, state), do: lost(state, reason)

  defp frame({:ok, {:reply, ref, result}}, %{status: :up} = state), do: answer(state, ref, result)

  defp frame({:ok, {:event, name, map}}, %{status: :up, credit: credit} = state)
       when credit > 0 do
    Telemetry.relay_event(name, map)
    refill_later(%{state | credit: credit - 1})
  end

  defp frame({:ok, {:event, _, _}}, %{status: :up} = state),
    do: lost(state, {:protocol, "the relay sent more events than it was granted"})

  defp frame({:ok, _}, state), do: lost(state, {:protocol, "the relay spoke out of turn"})
  defp frame({:error, text}, state), do: lost(state, {:protocol, "the relay sent " <> text})

  # Credit comes back by the clock, not by the event: what an attacker makes the relay report must
  # not cost the BEAM more than @credit events per @refill_ms.
  defp refill_later(%{refill: nil, credit: credit} = state) when credit <= div(@credit, 2),
    do: %{state | refill: timer(:refill, @refill_ms)}

  defp refill_later(state), do: state

  defp grant(%{credit: credit} = state) do
    case Program.write(state.port, Frame.encode({:credit, @credit - credit})) do
      :ok -> %{state | credit: @credit, refill: nil}
      {:error, _} -> %{state | refill: timer(:refill, @refill_ms)}
    end
  end

  # ---- its pulse ----

  # A relay may hang and not end: then nobody else would tell.
  defp feel(state) do
    {state, ref} = next_ref(state)

    case Program.write(state.port, Frame.encode({:ping, ref})) do
      :ok ->
        timer = Process.send_after(self(), {:call_timeout, ref}, state.pulse)
        put_in(state.calls[ref], %{from: nil, timer: timer, then: [], pulse?: true})

      {:error, _} ->
        lost(state, hung(state))
    end
  end

  defp feel_later(state), do: %{state | pulse_timer: timer(:pulse, state.pulse)}

  defp hung(state), do: {:system, "it gave no sign of life for #{state.pulse} ms"}

  # ---- commands ----

  defp command(%{status: :up} = state, from, name, args, then) do
    {state, ref} = next_ref(state)

    case Program.write(state.port, Frame.encode(List.to_tuple([name, ref | args]))) do
      :ok ->
        timer = Process.send_after(self(), {:call_timeout, ref}, state.call_timeout)

        {:noreply,
         put_in(state.calls[ref], %{from: from, timer: timer, then: then, pulse?: false})}

      error ->
        {:reply, error, state}
    end
  end

  defp command(state, _from, _name, _args, _then), do: {:reply, {:error, :down}, state}

  defp answer(state, ref, result) do
    case Map.pop(state.calls, ref) do
      {nil, _} ->
        # Nobody waits for it.
        state

      {%{pulse?: true} = call, calls} ->
        Process.cancel_timer(call.timer)
        feel_later(%{state | calls: calls})

      {call, calls} ->
        state = %{state | calls: calls}
        state = if result == :ok and call.then != [], do: adopt(state, call.then), else: state
        reply(call, result)
        state
    end
  end

  # Its time is up for the caller; if the relay obeys later, that is to be known all the same.
  defp give_up(state, ref) do
    case state.calls do
      %{^ref => %{pulse?: true}} ->
        lost(state, hung(state))

      %{^ref => call} ->
        reply(call, {:error, :timeout})
        put_in(state.calls[ref], %{call | from: nil})

      _ ->
        state
    end
  end

  defp reply(%{from: nil}, _result), do: :ok

  defp reply(call, result) do
    Process.cancel_timer(call.timer)
    GenServer.reply(call.from, result)
  end

  # What the relay has accepted is what the next one will be given.
  defp adopt(state, changes) do
    keep(state, changes)
    state = struct!(state, changes)
    publish(state)
    state
  end

  # Never one of an earlier relay: a timer of then may still be on its way.
  defp next_ref(state),
    do: {%{state | next_ref: rem(state.next_ref + 1, @max_ref)}, state.next_ref}

  # ---- the end of a relay ----

  # It has ended, or cannot be trusted any more and is ended here.
  defp lost(state, reason) do
    if state.port, do: Program.stop(state.port, state.os_pid, 0)
    state |> fail_calls() |> report(reason) |> plan()
  end

  defp fail_calls(state) do
    for {_ref, call} <- state.calls do
      Process.cancel_timer(call.timer)
      reply(call, {:error, :down})
    end

    %{state | calls: %{}}
  end

  # One line when the relay is lost, one when it cannot be started again and for what reason.
  defp report(%{status: :up} = state, reason) do
    up_ms = now() - state.up_at
    Telemetry.execute([:relay, :down], %{up_ms: up_ms}, %{reason: reason, os_pid: state.os_pid})

    Logger.error(
      "TURN relay (pid #{state.os_pid}) was lost after #{up_ms} ms: #{Program.describe(reason)}; starting another"
    )

    tries = if up_ms >= @ran_well, do: 0, else: state.tries
    %{state | tries: tries, down_at: now()}
  end

  defp report(%{fault: reason} = state, reason), do: state

  defp report(state, reason) do
    Logger.error(
      "TURN relay cannot be started: #{Program.describe(reason)}; trying again until it can"
    )

    withdraw(state)
    %{state | fault: reason}
  end

  defp plan(%{tries: tries} = state) do
    pause =
      if tries == 0,
        do: 0,
        else: min(@pause_first * Bitwise.bsl(1, min(tries - 1, 16)), @pause_most)

    timer = timer(:start, pause)
    %{state | port: nil, os_pid: nil, status: :down, tries: tries + 1, timer: timer}
  end

  # ---- what others see ----

  defp publish(%{name: nil}), do: :ok

  defp publish(state) do
    if state.info,
      do: :ets.insert(state.name, {:offer, Embedded.prepare(state.config, state.info.listen)})

    :ok
  end

  defp withdraw(%{name: nil}), do: :ok
  defp withdraw(state), do: :ets.delete(state.name, :offer)

  defp keep(%{keeper: nil}, _changes), do: :ok
  defp keep(state, changes), do: Keeper.put(state.keeper, changes)

  # ---- time ----

  # A timer is known by a reference of its own: one that was cancelled too late is not taken for
  # its successor.
  defp timer(kind, ms) do
    ref = make_ref()
    Process.send_after(self(), {kind, ref}, ms)
    ref
  end

  defp now, do: System.monotonic_time(:millisecond)
end
