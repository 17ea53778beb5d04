defmodule Cromulent.Turn.AdmissionPropertyTest do
  # Random joins, takeovers, leaves and deaths of real processes at the same time, and a real relay that is lost now and
  # then: at rest it has the grants of those who hold a place, and no others. A failure prints the seed: SEED=... runs the
  # same scripts again.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Admission, Client, Credentials, OsProcess, Places, Relay}
  alias Cromulent.Turn.Places.Server

  require Places

  @scenarios 400
  @runners 2
  @soon 20_000
  @moduletag timeout: 300_000

  setup do
    seed = String.to_integer(System.get_env("SEED", "#{:rand.uniform(1_000_000_000)}"))
    {:ok, seed: seed}
  end

  test "grants are what places are, whatever the interleaving", %{seed: seed} do
    log =
      capture_log(fn ->
        0..(@runners - 1)
        |> Enum.map(fn runner -> start_runner(runner, seed) end)
        |> Task.await_many(300_000)
      end)

    refute log =~ "could not be admitted to admission:"
  end

  defp start_runner(runner, seed) do
    name = :"#{__MODULE__}.#{runner}"
    linger = if runner == 0, do: 0, else: 20

    options =
      options(listen: "udp:127.0.0.1:0", admission: :presence, withdraw_after: linger, workers: 2)

    owner = start_supervised!({Relay, [name: name] ++ options}, id: name)

    Task.async(fn ->
      for index <- 1..div(@scenarios, @runners) do
        :rand.seed(:exsss, {seed, runner, index})
        # Now and then: a relay that is lost often is started after growing pauses.
        scenario(name, rem(index, 50) == 0, "SEED=#{seed}, scenario #{runner}/#{index}")
      end

      # Relays were lost, as they were killed; their owner was not.
      assert Process.whereis(name) == owner
    end)
  end

  defp scenario(relay, lose?, what) do
    base = "admission:#{System.unique_integer([:positive])}"
    rooms = for n <- 1..2, do: "#{base}:#{n}"
    mode = Enum.random([:reject, {:max, 2}, :takeover])
    scripts = for _ <- 1..Enum.random(2..5), do: for(_ <- 1..Enum.random(1..8), do: move())
    script = %{relay: relay, base: base, rooms: rooms, mode: mode, names: names(relay)}

    actors = for moves <- scripts, do: spawn_monitor(fn -> act(moves, script) end)
    if lose?, do: lose(relay)
    for {pid, _monitor} <- actors, do: send(pid, {:go, self()})
    for {pid, monitor} <- actors, do: await(pid, monitor, what)

    at_rest(script, what)
    for {pid, _} <- actors, do: Process.exit(pid, :kill)
    eventually(fn -> held(script) == [] and granted(script) == [] end, @soon)
    eventually(fn -> relay_grants(relay) == 0 end, @soon)
    assert :ets.match(Admission.Holders, {:"$1", :_, relay, :_, :_}) == [], what
  end

  # Both the number of grants, and of one user whether he is let in.
  defp at_rest(script, what) do
    # What a killed process left between two steps, now and not in half a minute.
    Server.sweep()
    eventually(fn -> held(script) == granted(script) end, @soon)
    eventually(fn -> relay_grants(script.relay) == length(held(script)) end, @soon)
    {:ok, info} = Relay.info(script.relay)
    user = Enum.random(script.names)
    expected = Enum.any?(held(script), &(elem(&1, 0) == user))
    assert allocates?(address(hd(info.listen)), user) == expected, what
  end

  defp allocates?(address, user) do
    made = Credentials.generate(user, secret())
    options = [username: made.username, password: made.credential, deadline: @soon]
    {:ok, client} = Client.open(address, options)

    result =
      case Client.allocate(client) do
        {:ok, _, client} -> match?({:ok, 0, _}, Client.refresh(client, 0))
        {:error, {:refused, 403, _}, _} -> false
      end

    Client.close(client)
    result
  end

  # Those that anybody alive holds.
  defp held(%{rooms: rooms}) do
    places =
      for Places.place(key: {room, user, _}, pid: pid) <- Places.all(),
          room in rooms and Process.alive?(pid),
          do: {user, room}

    places |> Enum.uniq() |> Enum.sort()
  end

  # Those that are in force.
  defp granted(%{relay: relay, rooms: rooms}) do
    now = Admission.now()

    for {user, room} <- Admission.pairs(relay),
        room in rooms and Admission.state({relay, user, room}, now) != :none,
        do: {user, room}
  end

  defp relay_grants(relay) do
    with {:ok, %{grants: count}} <- Relay.stats(relay), do: count
  end

  defp lose(relay) do
    with {:ok, %{os_pid: os_pid}} <- Relay.info(relay), do: OsProcess.kill(os_pid)
  end

  defp await(pid, monitor, what) do
    receive do
      {:done, ^pid} -> :ok
      {:DOWN, ^monitor, _, _, reason} when reason in [:killed, {:shutdown, :taken_over}] -> :ok
      {:DOWN, ^monitor, _, _, reason} -> flunk("#{what}: a process crashed: #{inspect(reason)}")
    after
      60_000 -> flunk("#{what}: a process hangs")
    end
  end

  defp names(relay), do: for(n <- 1..2, do: "#{relay}-#{n}")

  defp move do
    case :rand.uniform(20) do
      n when n <= 10 -> {:join, :rand.uniform(2), :rand.uniform(2)}
      n when n <= 16 -> {:leave, :rand.uniform(2), :rand.uniform(2)}
      n when n <= 19 -> :yield
      20 -> :die
    end
  end

  defp act(moves, script) do
    runner = receive do: ({:go, runner} -> runner)
    Enum.each(moves, &move(&1, script))
    send(runner, {:done, self()})
    Process.sleep(:infinity)
  end

  defp move(:yield, _script), do: :erlang.yield()
  defp move(:die, _script), do: Process.exit(self(), :kill)

  defp move({:leave, user, room}, script),
    do: Turn.leave(Enum.at(script.rooms, room - 1), Enum.at(script.names, user - 1))

  defp move({:join, user, room}, script) do
    options = [on_duplicate: script.mode, grace: 0, provider: :embedded, relay: script.relay]
    Turn.join(nil, Enum.at(script.rooms, room - 1), Enum.at(script.names, user - 1), options)
  end
end
