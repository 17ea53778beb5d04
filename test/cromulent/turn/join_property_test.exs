defmodule Cromulent.Turn.JoinPropertyTest do
  # Random joins, leaves and deaths of real processes at the same time, and what must hold whatever
  # their order turns out to be. A failure prints the seed: SEED=... runs the same scripts again.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn
  alias Cromulent.Turn.{Places, Renewer}
  alias Cromulent.Turn.Places.Server

  require Places

  @scenarios 10_000
  @runners 4
  @moduletag timeout: 300_000

  defmodule Hour do
    @behaviour Cromulent.Turn.Provider

    @impl true
    def get_ice_servers(_user_id) do
      expires_at = System.os_time(:second) + 3600
      {:ok, [%{urls: "turn:192.0.2.1", username: "#{expires_at}:x", credential: "y"}]}
    end
  end

  setup do
    seed = String.to_integer(System.get_env("SEED", "#{:rand.uniform(1_000_000_000)}"))
    on_exit(fn -> eventually(fn -> no_place?() end, 10_000) end)
    {:ok, seed: seed}
  end

  test "10,000 interleavings: never too many holders, never a leaked place", %{seed: seed} do
    # Registered by whoever was admitted, and until it gives its place back: {{topic, user}, pid, ref}.
    register = :ets.new(:register, [:bag, :public, write_concurrency: true])

    counts =
      0..(@runners - 1)
      |> Enum.map(fn runner -> Task.async(fn -> run_some(runner, seed, register) end) end)
      |> Task.await_many(300_000)

    # That it was no idle exercise.
    totals = Enum.reduce(counts, &Map.merge(&1, &2, fn _, a, b -> a + b end))
    assert totals.scenarios == @scenarios

    for what <- [:admitted, :refused, :left, :died, :taken_over], do: assert(totals[what] > 500)

    # Nothing is left, in no table and no process.
    eventually(&no_place?/0, 10_000)
    eventually(fn -> not Enum.any?(:ets.tab2list(Renewer), &ours?(elem(&1, 1))) end, 10_000)
    assert %{holders: holders} = :sys.get_state(Server)
    refute Enum.any?(holders, fn {_, {_, places}} -> Enum.any?(Map.values(places), &ours?/1) end)
  end

  test "one after the other, joins go as a simple model says", %{seed: seed} do
    :rand.seed(:exsss, {seed, 1, 1})
    topics = for mode <- [:reject, {:max, 2}, :takeover], do: {topic(), mode}
    workers = for _ <- 1..6, do: spawn_link(fn -> obey() end)

    Enum.reduce(1..5_000, {workers, %{}}, fn step, {workers, model} ->
      {topic, mode} = Enum.random(topics)
      {worker, key} = {Enum.random(workers), {topic, Enum.random(1..3)}}
      result = step(Enum.random([:join, :join, :leave, :members, :die]), worker, key, mode)
      {expected, model} = model(result, worker, key, mode, model)
      assert {step, seed, result} == {step, seed, expected}
      {replace(workers, result, worker), model}
    end)
    |> elem(0)
    |> Enum.each(&end_process/1)
  end

  # ---- the model of joins that do not overlap: %{{topic, user} => [pid]} ----

  defp step(:die, worker, _key, _mode), do: {:die, end_process(worker)}

  defp step(:members, worker, {topic, _}, _mode),
    do: {:members, Enum.sort(ask(worker, fn -> Turn.members(topic) end))}

  defp step(:leave, worker, {topic, user}, _mode),
    do: {:leave, ask(worker, fn -> Turn.leave(topic, user) end)}

  defp step(:join, worker, {topic, user}, mode) do
    join = fn ->
      Turn.join(nil, topic, user, on_duplicate: mode, grace: 60_000, provider: Hour)
    end

    {:join, with({:ok, _payload} <- ask(worker, join), do: :ok)}
  end

  defp model({:die, _}, worker, _key, _mode, model) do
    {{:die, :ok}, Map.new(model, fn {key, pids} -> {key, pids -- List.duplicate(worker, 9)} end)}
  end

  defp model({:members, _}, _worker, {topic, _}, _mode, model),
    do: {{:members, Enum.sort(for {{^topic, user}, [_ | _]} <- model, do: user)}, model}

  defp model({:leave, _}, worker, key, _mode, model) do
    {own, others} = model |> Map.get(key, []) |> Enum.split_with(&(&1 == worker))
    result = if own == [], do: {:error, :not_in_channel}, else: :ok
    {{:leave, result}, Map.put(model, key, others)}
  end

  defp model({:join, _}, worker, key, mode, model) do
    held = Map.get(model, key, [])

    cond do
      mode == :takeover -> {{:join, :ok}, Map.put(model, key, [worker])}
      length(held) < limit(mode) -> {{:join, :ok}, Map.put(model, key, [worker | held])}
      true -> {{:join, {:error, :already_in_channel}}, model}
    end
  end

  defp replace(workers, {:die, _}, worker),
    do: [spawn_link(fn -> obey() end) | List.delete(workers, worker)]

  defp replace(workers, _result, _worker), do: workers

  defp obey do
    receive do
      {:ask, from, tag, fun} -> send(from, {tag, fun.()})
      {:cromulent_turn, :taken_over, _topic} -> :ok
    end

    obey()
  end

  defp ask(pid, fun) do
    tag = make_ref()
    send(pid, {:ask, self(), tag, fun})
    assert_receive {^tag, answer}, 10_000
    answer
  end

  defp end_process(pid) do
    Process.unlink(pid)
    monitor = Process.monitor(pid)
    Process.exit(pid, :kill)
    assert_receive {:DOWN, ^monitor, _, _, _}, 10_000
    :ok
  end

  # ---- scenarios ----

  defp run_some(runner, seed, register) do
    for index <- 1..div(@scenarios, @runners), reduce: %{} do
      totals ->
        :rand.seed(:exsss, {seed, runner, index})
        name = "SEED=#{seed}, scenario #{runner}/#{index}"
        counts = scenario(script(), name, register)
        Map.merge(totals, Map.put(counts, :scenarios, 1), fn _, a, b -> a + b end)
    end
  end

  defp script do
    mode = Enum.random([:reject, :reject, {:max, 2}, {:max, 3}, :takeover])
    processes = Enum.random(2..5)
    users = Enum.random(1..2)
    steps = for _ <- 1..processes, do: for(_ <- 1..Enum.random(1..6), do: move(users, processes))
    %{topic: topic(), mode: mode, users: users, grace: Enum.random([0, 60_000]), steps: steps}
  end

  defp move(users, processes) do
    case :rand.uniform(20) do
      n when n <= 9 -> {:join, :rand.uniform(users)}
      n when n <= 14 -> {:leave, :rand.uniform(users)}
      n when n <= 17 -> :yield
      18 -> :die
      n when n <= 20 -> {:kill, :rand.uniform(processes) - 1}
    end
  end

  defp scenario(script, name, register) do
    runner = self()

    actors =
      for moves <- script.steps, do: spawn_monitor(fn -> act(moves, script, runner, register) end)

    pids = Enum.map(actors, &elem(&1, 0))
    for pid <- pids, do: send(pid, {:go, pids})
    outcomes = for {pid, monitor} <- actors, do: outcome(pid, monitor, name)

    for {:broken, what} <- Enum.concat(outcomes),
        do: flunk("#{name}: #{what}\n#{inspect(script)}")

    at_rest(script, pids, name, register)
    for pid <- pids, do: end_process(pid)
    # The dead hold nothing, at once.
    for user <- 1..script.users, do: free_again(script.topic, user, name)
    outcomes |> Enum.concat() |> Enum.frequencies()
  end

  # What a process did, whether it came to its end or was killed on the way.
  defp outcome(pid, monitor, name) do
    receive do
      {:done, ^pid, outcome} -> outcome
      {:DOWN, ^monitor, _, _, :killed} -> [:died]
      {:DOWN, ^monitor, _, _, {:shutdown, :taken_over}} -> [:died, :taken_over]
      {:DOWN, ^monitor, _, _, reason} -> flunk("#{name}: a process crashed: #{inspect(reason)}")
    after
      60_000 -> flunk("#{name}: a process hangs")
    end
  end

  # All did what they had to, and those that live hold still: who believes to, does, and no other.
  defp at_rest(script, pids, name, register) do
    for user <- 1..script.users do
      held = for place <- Places.holders(script.topic, user), do: Places.place(place, :pid)
      assert length(held) <= limit(script.mode), "#{name}: #{length(held)} hold at rest"
      assert Enum.uniq(held) -- pids == [], name

      believe = registered(register, {script.topic, user})

      # One that is killed now, by a signal that was long on its way, may be in one of the lists only.
      dead = Enum.reject(pids, &Process.alive?/1)
      [held, believe] = for list <- [held, believe], do: Enum.reject(list, &(&1 in dead))

      if script.mode == :takeover,
        do: assert(held -- believe == [], name),
        else: assert(Enum.sort(held) == Enum.sort(believe), "#{name}: #{inspect(script)}")
    end
  end

  defp free_again(topic, user, name) do
    assert Places.holders(topic, user) == [], name
    assert {:ok, _} = Turn.join(nil, topic, user, provider: Hour), name
    assert Turn.members(topic) == [user], name
    assert Turn.leave(topic, user) == :ok, name
  end

  defp act(moves, script, runner, register) do
    pids = receive do: ({:go, pids} -> pids)
    outcome = Enum.map(moves, &move(&1, script, pids, register))
    send(runner, {:done, self(), outcome ++ told()})
    Process.sleep(:infinity)
  end

  defp move(:yield, _script, _pids, _register), do: :erlang.yield() && :yielded
  defp move(:die, _script, _pids, _register), do: Process.exit(self(), :kill)

  defp move({:kill, index}, _script, pids, _register) do
    Process.exit(Enum.at(pids, index), :kill)
    :killed
  end

  defp move({:leave, user}, %{topic: topic}, _pids, register) do
    :ets.match_delete(register, {{topic, user}, self(), :_})
    if Turn.leave(topic, user) == :ok, do: :left, else: :not_in_channel
  end

  defp move({:join, user}, %{topic: topic, mode: mode} = script, _pids, register) do
    case Turn.join(nil, topic, user, on_duplicate: mode, grace: script.grace, provider: Hour) do
      {:ok, %{expires_at: at}} when is_integer(at) -> admitted({topic, user}, mode, register)
      {:error, :already_in_channel} -> :refused
    end
  end

  # Whoever is registered and alive has its place, unless it was taken over.
  defp admitted({topic, user} = key, mode, register) do
    :ets.insert(register, {key, self(), make_ref()})
    holders = length(registered(register, key))

    cond do
      mode == :takeover -> :admitted
      not Turn.holds?(topic, user) -> {:broken, "admitted, but holds nothing"}
      holders > limit(mode) -> {:broken, "#{holders} holders"}
      true -> :admitted
    end
  end

  defp registered(register, key),
    do: for({_, pid, _} <- :ets.lookup(register, key), Process.alive?(pid), do: pid)

  defp told do
    receive do
      {:cromulent_turn, :taken_over, _topic} -> [:taken_over | told()]
    after
      0 -> []
    end
  end

  defp limit({:max, n}), do: n
  defp limit(_mode), do: 1

  defp topic, do: "property:#{System.unique_integer([:positive])}"

  # A process that was killed before it was watched is swept out, now and not in half a minute.
  defp no_place? do
    Server.sweep()
    not Enum.any?(Places.all(), &ours?/1)
  end

  defp ours?(place), do: match?({"property:" <> _, _, _}, Places.place(place, :key))
end
