defmodule Cromulent.Turn.Owner do
  @moduledoc false
  # Owns the relay's program: starts it, and another when it is lost; sends it the commands that
  # `Cromulent.Turn.Relay` is asked for and gives back the answers; tells it of usernames and grants.

  use GenServer

  alias Cromulent.Turn.{
    Admission,
    Announced,
    Commands,
    Config,
    Credentials,
    Embedded,
    Frame,
    Greeting,
    Keeper,
    OpaqueString,
    OsProcess,
    Program,
    Telemetry
  }

  alias Cromulent.Turn.Admission.{App, Feed}

  require Logger

  @start_timeout 10_000
  @call_timeout 5_000
  # How often a relay is asked for a sign of life, and how long it has to give it, in ms: all of its threads
  # answer together, so that one that hangs shows too.
  @pulse 15_000
  # How often it is tried within that time to ask one that does not read.
  @pulse_tries 15
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
  # When a relay that was busy is told usernames again, in ms.
  @retell_ms 100
  # When grants that the relay had no room for are tried again, in ms.
  @regrant_ms 5_000
  # When a relay that was busy is told of grants again, in ms.
  @refeed_ms 5

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
    :feed,
    :feeder,
    status: :starting,
    drain: false,
    commands: %Commands{},
    credit: 0,
    choked: 0,
    tries: 0,
    starts: 0,
    surprised?: false
  ]

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
    config = kept[:config] || own[:config]

    %__MODULE__{
      name: own[:name],
      keeper: own[:keeper],
      config: config,
      feed: Feed.new(own[:name] || self(), Admission.on?(config)),
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

  defp first_start(state, starter, ref) do
    Enum.each(Config.warnings(state.config), &Logger.warning/1)

    with :ok <- Admission.serve(state.feed.relay, state.config),
         {:ok, state} <- open(state),
         {:ok, info} <- greeting(state) do
      {:ok, up(state, info)}
    else
      {:error, reason} ->
        send(starter, {ref, reason})
        :ignore
    end
  end

  defp greeting(%{port: port, timer: timer} = state) do
    with {:error, _} = error <- Greeting.await(port, timer, state.start_timeout) do
      Program.stop(port, state.os_pid, @grace)
      error
    end
  end

  # The process before this one left a relay behind: it must let go of its ports first.
  @impl true
  def handle_continue({:after, os_pid}, state) do
    :ok = Admission.serve(state.feed.relay, state.config)
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
    command(state, from, name, args, if(name == :drain, do: {:adopt, drain: hd(args)}))
  end

  def handle_call({:announce, usernames}, from, state) do
    announced = Announced.remember(state.announced, usernames, userhashes(state))
    command(%{state | announced: announced}, from, :users, [usernames], nil)
  end

  def handle_call({name, _user_id, _room}, _from, %{feed: %{on?: false}} = state)
      when name in [:admit, :withdraw],
      do: {:reply, {:error, :admission_off}, state}

  def handle_call({:admit, user_id, room}, from, %{feed: feed} = state) do
    case App.admit(feed.relay, state.config, keeper(state), user_id, room) do
      {:ok, holder, pairs} -> command(state, from, :admit, [pairs], {:admit, holder})
      error -> {:reply, error, state}
    end
  end

  def handle_call({:withdraw, user_id, room}, from, state) do
    case App.withdraw(keeper(state), user_id, room) do
      [] -> {:reply, :ok, state}
      pairs -> state |> regrant(pairs) |> command(from, :withdraw, [pairs], nil)
    end
  end

  # One at a time: each is made from the configuration in force.
  def handle_call({:configure, opts}, from, state) do
    with {:ok, config} <- Config.update(state.config, opts),
         false <-
           Enum.any?(Commands.open(state.commands), &match?({:adopt, [config: _]}, &1.about)) do
      command(state, from, :configure, [to_relay(config, state.listen)], {:adopt, config: config})
    else
      true -> {:reply, {:error, :busy}, state}
      error -> {:reply, error, state}
    end
  end

  @impl true
  def handle_cast({:announce, username}, state) do
    announced = Announced.owe(state.announced, [username], userhashes(state))
    {:noreply, tell_names(%{state | announced: announced})}
  end

  def handle_cast({:grants, pairs}, state), do: {:noreply, regrant(state, pairs)}

  @impl true
  def handle_info({port, {:data, bytes}}, %{port: port} = state),
    do: {:noreply, frame(Frame.decode(bytes), state)}

  def handle_info({port, {:exit_status, status}}, %{port: port} = state) do
    reason = if state.status == :up, do: {:exit, status}, else: Greeting.early_exit(status)
    {:noreply, lost(state, reason)}
  end

  def handle_info({:EXIT, port, reason}, %{port: port} = state),
    do: {:noreply, lost(state, Greeting.cut_off(reason))}

  def handle_info({:call_timeout, ref}, state), do: {:noreply, give_up(state, ref)}

  def handle_info({:start_timeout, timer}, %{timer: timer} = state),
    do: {:noreply, lost(state, Greeting.missing(state.start_timeout))}

  def handle_info({:start, timer}, %{timer: timer} = state), do: {:noreply, start(state)}

  def handle_info({:refill, timer}, %{refill: timer, status: :up} = state),
    do: {:noreply, give_credit(state)}

  def handle_info({:pulse, timer}, %{pulse_timer: timer, status: :up} = state),
    do: {:noreply, feel(state)}

  def handle_info({:tell, timer}, %{teller: timer} = state),
    do: {:noreply, tell_names(%{state | teller: nil})}

  def handle_info({:feed, timer}, %{feeder: timer} = state),
    do: {:noreply, feed(%{state | feeder: nil})}

  # Some end now.
  def handle_info({:grants, pairs}, state), do: {:noreply, regrant(state, pairs)}

  def handle_info({:regrant, _timer}, state),
    do: {:noreply, feed_soon(%{state | feed: Feed.retry(state.feed)})}

  # What a port or a timer of the past still had to say.
  def handle_info({port, _}, state) when is_port(port), do: {:noreply, state}
  def handle_info({:EXIT, port, _}, state) when is_port(port), do: {:noreply, state}

  def handle_info({timeout, _}, state)
      when timeout in [:start_timeout, :start, :refill, :pulse, :tell, :feed],
      do: {:noreply, state}

  def handle_info(message, %{surprised?: false} = state) do
    Logger.warning(
      "#{inspect(Cromulent.Turn.Relay)} got a message that it does not know: " <>
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
      # A relay that does not read shows as one that does not get ready.
      {_sent, state} = tell(state, :configure, [to_relay(state.config, listen)])
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
        choked: 0,
        refill: nil,
        listen: Config.pin(state.listen, info.listen)
    }

    keep(state, os_pid: state.info.os_pid)
    publish(state)
    Admission.serve(state.feed.relay, state.config, state.port)
    tell_up(state)
    state |> feed_all() |> give_credit() |> restore_drain() |> announce_again() |> feel_later()
  end

  defp tell_up(state) do
    down_ms = if state.starts > 1, do: state.up_at - state.down_at, else: 0
    Telemetry.relay_up(%{state.info | os_pid: state.os_pid}, down_ms, state.starts - 1)
  end

  defp restore_drain(%{drain: false} = state), do: state

  defp restore_drain(state), do: state |> tell(:drain, [true]) |> elem(1)

  # ---- usernames ----

  # To a relay that knows nobody yet.
  defp announce_again(state) do
    announced = Announced.owe_all(state.announced, System.os_time(:second))
    tell_names(%{state | announced: announced, teller: nil})
  end

  defp userhashes(state), do: Map.get(state.config.limits, :userhashes, 0)

  # What it does not take now, it is told a little later.
  defp tell_names(%{status: :up, teller: nil} = state) do
    with {[_ | _] = usernames, announced} <- Announced.next(state.announced),
         {:ok, state} <- tell(state, :users, [usernames]) do
      tell_names(%{state | announced: announced})
    else
      {[], _} -> state
      {{:error, _}, state} -> %{state | teller: timer(:tell, @retell_ms)}
    end
  end

  defp tell_names(state), do: state

  # ---- grants ----

  # To a relay that knows of none yet.
  defp feed_all(state), do: feed(%{state | feed: Feed.start(state.feed), feeder: nil})

  # A relay that starts will be told all there are.
  defp regrant(%{status: :up} = state, [_ | _] = pairs),
    do: feed_soon(%{state | feed: Feed.changed(state.feed, pairs)})

  defp regrant(state, _pairs), do: state

  # When all that has come by now is heard: many go into one command.
  defp feed_soon(%{feeder: nil} = state) do
    ref = make_ref()
    send(self(), {:feed, ref})
    %{state | feeder: ref}
  end

  defp feed_soon(state), do: state

  defp feed(%{status: :up} = state) do
    case Feed.next(state.feed, Admission.now()) do
      :wait ->
        state

      {commands, ends, feed} ->
        for {pair, at} <- ends, do: Process.send_after(self(), {:grants, [pair]}, at, abs: true)
        feed(%{state | feed: feed}, commands)
    end
  end

  defp feed(state), do: state

  defp feed(state, []), do: feed(state)

  defp feed(state, [{name, args} = command | rest] = commands) do
    case ask(state, name, args, {nil, {:fed, command, now_us()}}, state.call_timeout) do
      {:ok, state} -> feed(%{state | feed: Feed.sent(state.feed, command)}, rest)
      {_busy, state} -> feed_later(%{state | feed: Feed.unsent(state.feed, commands)})
    end
  end

  defp feed_later(state), do: %{state | feeder: timer(:feed, @refeed_ms)}

  defp fed(state, command, since, result) do
    Telemetry.admission(command, now_us() - since, result)
    state = refused(state, undone(command, result))
    feed(%{state | feed: Feed.answered(state.feed)})
  end

  # An error is about all of them, such as that memory was short.
  defp undone({_name, [pairs]}, {:error, reason}),
    do: {:ok, for({user, room} <- pairs, do: {user, room, reason})}

  defp undone(_command, result), do: result

  # What somebody who joined has told the relay himself.
  defp joined(state, us, result) do
    Telemetry.admission({:admit, [[:one]]}, us, result)
    refused(state, any(result, state.feed.relay))
  end

  # Which one an error is about is not known.
  defp any({:error, _} = error, relay), do: undone({:admit, [Admission.pairs(relay)]}, error)
  defp any(result, _relay), do: result

  defp refused(state, {:ok, [_ | _] = refused}) do
    if Enum.empty?(state.feed.refused), do: timer(:regrant, @regrant_ms)
    %{state | feed: Feed.refused(state.feed, refused)}
  end

  defp refused(state, _result), do: state

  # What an application admitted is kept as long as this process.
  defp keeper(%{keeper: nil}), do: self()
  defp keeper(%{keeper: keeper}), do: GenServer.whereis(keeper)

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

  defp give_credit(%{credit: credit} = state) do
    case Program.write(state.port, Frame.encode({:credit, @credit - credit})) do
      :ok -> %{state | credit: @credit, refill: nil}
      {:error, _} -> %{state | refill: timer(:refill, @refill_ms)}
    end
  end

  # ---- its pulse ----

  # A relay may hang and not end: then nobody else would tell.
  defp feel(state) do
    case ask(state, :ping, [], {nil, :pulse}, state.pulse) do
      {:ok, state} -> %{state | choked: 0}
      {{:error, :busy}, %{choked: n} = state} when n < @pulse_tries -> choke(state)
      {{:error, _}, state} -> lost(state, hung(state))
    end
  end

  # It may be reading what it was told of grants.
  defp choke(state) do
    timer = timer(:pulse, div(state.pulse, @pulse_tries))
    %{state | choked: state.choked + 1, pulse_timer: timer}
  end

  defp feel_later(state), do: %{state | pulse_timer: timer(:pulse, state.pulse)}

  defp hung(state), do: {:system, "it gave no sign of life for #{state.pulse} ms"}

  # ---- commands ----

  defp command(%{status: :up} = state, from, name, args, about) do
    case ask(state, name, args, {from, about}, state.call_timeout) do
      {:ok, state} -> {:noreply, state}
      {error, state} -> {:reply, error, state}
    end
  end

  defp command(state, _from, _name, _args, _about), do: {:reply, {:error, :down}, state}

  defp ask(state, name, args, waiting, ms) do
    {sent, commands} = Commands.ask(state.commands, state.port, name, args, waiting, ms)
    {sent, %{state | commands: commands}}
  end

  defp tell(state, name, args) do
    {sent, commands} = Commands.tell(state.commands, state.port, name, args)
    {sent, %{state | commands: commands}}
  end

  defp answer(state, ref, result) do
    {call, commands} = Commands.answered(state.commands, ref)
    state = %{state | commands: commands}

    case call do
      nil -> nobodys(state, Commands.age(ref), result)
      %{about: :pulse} -> feel_later(state)
      %{about: {:fed, command, since}} -> fed(state, command, since, result)
      call -> finish(state, call, result)
    end
  end

  defp nobodys(state, nil, _result), do: state
  defp nobodys(state, us, result), do: joined(state, us, result)

  defp finish(state, %{about: {:adopt, changes}} = call, :ok) do
    state = adopt(state, changes)
    reply(call, :ok)
    state
  end

  defp finish(state, %{about: {:admit, holder}} = call, {:ok, refused}) do
    with [{_user, _room, reason} | _] <- refused do
      Admission.drop(holder)
      reply(call, {:error, reason})
    else
      [] -> reply(call, :ok)
    end

    state
  end

  defp finish(state, call, result) do
    reply(call, result)
    state
  end

  # Its time is up for the caller; if the relay obeys later, that is to be known all the same.
  defp give_up(state, ref) do
    {call, commands} = Commands.late(state.commands, ref)

    case call do
      nil -> state
      %{about: :pulse} -> lost(state, hung(state))
      %{about: {:fed, _, _}} -> feed(%{state | feed: Feed.answered(state.feed)})
      call -> reply(call, {:error, :timeout}) && %{state | commands: commands}
    end
  end

  defp reply(%{from: nil}, _result), do: :ok
  defp reply(call, result), do: GenServer.reply(call.from, result)

  # What the relay has accepted is what the next one will be given.
  defp adopt(state, changes) do
    keep(state, changes)
    state = struct!(state, changes)
    publish(state)
    Admission.serve(state.feed.relay, state.config, state.port)
    regrant(state, App.rename(state.feed.relay, state.config, keeper(state)))
  end

  # ---- the end of a relay ----

  # It has ended, or cannot be trusted any more and is ended here.
  defp lost(state, reason) do
    if state.port, do: Program.stop(state.port, state.os_pid, 0)
    state |> fail_calls() |> report(reason) |> plan()
  end

  defp fail_calls(state) do
    {calls, commands} = Commands.close(state.commands)
    Enum.each(calls, &reply(&1, {:error, :down}))
    %{state | commands: commands}
  end

  # One line when the relay is lost, one when it cannot be started again and for what reason.
  defp report(%{status: :up} = state, reason) do
    up_ms = now() - state.up_at
    Telemetry.relay_down(state.os_pid, up_ms, reason)
    tries = if up_ms >= @ran_well, do: 0, else: state.tries
    %{state | tries: tries, down_at: now()}
  end

  defp report(%{fault: reason} = state, reason), do: state

  defp report(state, reason) do
    Logger.error(
      "TURN relay cannot be started: #{Program.describe(reason)}; trying again until it can"
    )

    retract(state)
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

  defp retract(%{name: nil}), do: :ok
  defp retract(state), do: :ets.delete(state.name, :offer)

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
  defp now_us, do: System.monotonic_time(:microsecond)
end
