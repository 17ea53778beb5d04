defmodule Cromulent.Turn.BrokerTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.Broker

  # A flight that tells the test that it is under way, and lands when it is told how.
  defp flight(name \\ :flight) do
    test = self()

    fn ms ->
      send(test, {name, self(), ms})
      receive do: ({:land, landing} -> landing)
    end
  end

  defp land(name \\ :flight, landing) do
    assert_receive {^name, pid, _ms}, 10_000
    send(pid, {:land, landing})
  end

  defp now, do: System.os_time(:second)
  defp value(life \\ 3600), do: {:ok, :value, now() + life}
  defp lands(landing), do: fn _ms -> landing end

  setup context do
    limits = Map.get(context, :limits, [])
    broker = :"broker_#{System.unique_integer([:positive])}"
    pid = start_supervised!({Broker, [name: broker] ++ limits})
    %{broker: broker, pid: pid}
  end

  defp fetch(broker, key, fun, bound \\ 10_000, account \\ :account),
    do: Broker.fetch(key, account, bound, fun, broker)

  defp later(fun), do: Task.async(fun)

  # Until this many wait for a flight or in the queue.
  defp waiting(pid, count) do
    eventually(
      fn ->
        pid |> :sys.get_state() |> Map.get(:waiting) |> Map.values() |> Enum.concat() |> length() ==
          count
      end,
      30_000
    )
  end

  describe "what was fetched" do
    test "is kept, and read without a process", %{broker: broker, pid: pid} do
      assert fetch(broker, :key, lands(value())) == {:ok, :value}
      :sys.suspend(pid)
      assert fetch(broker, :key, fn _ -> flunk("asked again") end, 100) == {:ok, :value}
      assert fetch(broker, :other, lands(value()), 100) == {:error, :timeout}
      :sys.resume(pid)
    end

    test "is given while a quarter of its life is left, and renewed from half of it on",
         context do
      # Lives in the past cannot be had: so times are put into the table as if they had passed.
      %{broker: broker, pid: pid} = context
      assert fetch(broker, :key, lands(value(1000))) == {:ok, :value}
      [{:key, :value, aging, until, nil, _, 0}] = :ets.lookup(broker, :key)
      assert_in_delta aging, now() + 500, 2
      assert_in_delta until, now() + 750, 2

      age(pid, broker, :key, now(), now() + 250)
      assert fetch(broker, :key, flight()) == {:ok, :value}
      assert fetch(broker, :key, fn _ -> flunk("a second renewal") end) == {:ok, :value}
      land({:ok, :next, now() + 1000})
      eventually(fn -> fetch(broker, :key, lands(value())) == {:ok, :next} end, 10_000)

      age(pid, broker, :key, now() - 10, now())
      assert fetch(broker, :key, lands({:ok, :third, now() + 1000})) == {:ok, :third}
    end

    test "is given up to fifteen minutes before its end", %{broker: broker} do
      assert fetch(broker, :key, lands(value(86_400))) == {:ok, :value}
      [{:key, :value, _aging, until, nil, _, 0}] = :ets.lookup(broker, :key)
      assert_in_delta until, now() + 86_400 - 900, 2
    end

    test "stays when it cannot be renewed", %{broker: broker, pid: pid} do
      assert fetch(broker, :key, lands(value(1000))) == {:ok, :value}
      age(pid, broker, :key, now(), now() + 250)
      assert fetch(broker, :key, flight()) == {:ok, :value}
      land({:error, :refused, :answered})
      waiting(pid, 0)
      assert fetch(broker, :key, fn _ -> flunk("asked too soon") end) == {:ok, :value}
    end

    test "without an end of life is fetched again after minutes", %{broker: broker} do
      assert fetch(broker, :key, lands({:ok, :value, nil})) == {:ok, :value}
      [{:key, :value, _aging, until, nil, _, 0}] = :ets.lookup(broker, :key)
      assert (until - now()) in 200..300
    end

    test "must have some life left, and the shape of an answer", %{broker: broker} do
      assert fetch(broker, 1, lands({:ok, :value, now()})) == {:error, :expired}
      assert fetch(broker, 2, lands(:nonsense)) == {:error, :crashed}
      assert fetch(broker, 3, lands({:ok, :value, "soon"})) == {:error, :crashed}
    end

    test "can be dropped", %{broker: broker} do
      assert fetch(broker, 1, lands({:ok, :one, now() + 60})) == {:ok, :one}
      assert fetch(broker, 2, lands({:ok, :two, now() + 60})) == {:ok, :two}
      assert Broker.drop(&(&1 == :one), broker) == :ok
      assert fetch(broker, 1, lands({:ok, :new, now() + 60})) == {:ok, :new}
      assert fetch(broker, 2, fn _ -> flunk("dropped too") end) == {:ok, :two}
    end
  end

  # Writes as the owner of the table.
  defp age(pid, table, key, aging, until) do
    :sys.replace_state(pid, fn state ->
      :ets.update_element(table, key, [
        {3, aging},
        {4, until},
        {6, System.monotonic_time(:millisecond)}
      ])

      state
    end)
  end

  describe "a failure" do
    test "is kept for five seconds, growing to sixty", %{broker: broker, pid: pid} do
      assert fetch(broker, :key, lands({:error, :refused, :answered})) == {:error, :refused}
      assert fetch(broker, :key, fn _ -> flunk("asked again") end) == {:error, :refused}

      for {pause, failures} <- [{5, 1}, {10, 2}, {20, 3}, {40, 4}, {60, 5}, {60, 6}] do
        [{:key, nil, 0, 0, :refused, retry, ^failures}] = :ets.lookup(broker, :key)
        assert_in_delta retry, System.monotonic_time(:millisecond) + pause * 1000, 4_000
        age(pid, broker, :key, 0, 0)
        assert fetch(broker, :key, lands({:error, :refused, :answered})) == {:error, :refused}
      end
    end

    test "is forgotten with a success", %{broker: broker, pid: pid} do
      assert fetch(broker, :key, lands({:error, :refused, :answered})) == {:error, :refused}
      age(pid, broker, :key, 0, 0)
      assert fetch(broker, :key, lands(value())) == {:ok, :value}
      assert [{:key, :value, _, _, nil, _, 0}] = :ets.lookup(broker, :key)
    end
  end

  describe "a flight" do
    test "is one for all who ask for the same", %{broker: broker, pid: pid} do
      fun = flight()
      tasks = for _ <- 1..1000, do: later(fn -> fetch(broker, :key, fun, 60_000) end)
      waiting(pid, 1000)
      land(value())
      assert tasks |> Task.await_many(60_000) |> Enum.uniq() == [{:ok, :value}]
      refute_received {:flight, _, _}
    end

    test "answers everybody when it crashes, and nothing of it is logged", %{broker: broker} do
      secret = "MARKED"
      Cromulent.Turn.LogWatch.start()
      assert fetch(broker, 1, fn _ -> raise secret end) == {:error, {:crashed, RuntimeError}}
      assert fetch(broker, 2, fn _ -> throw(secret) end) == {:error, :crashed}
      assert fetch(broker, 3, fn _ -> exit(secret) end) == {:error, :crashed}
      assert fetch(broker, 4, fn _ -> Process.exit(self(), :oops) end) == {:error, :crashed}

      tasks =
        for _ <- 1..10,
            do:
              later(fn ->
                fetch(broker, 5, fn _ ->
                  Process.sleep(50)
                  raise secret
                end)
              end)

      assert tasks |> Task.await_many() |> Enum.uniq() == [{:error, {:crashed, RuntimeError}}]
      for {_level, text} <- Cromulent.Turn.LogWatch.texts(), do: refute(text =~ secret)
    end

    test "is told its time, and killed when that is over", %{broker: broker} do
      assert fetch(broker, :key, flight(), 300) == {:error, :timeout}
      assert_receive {:flight, pid, ms}, 10_000
      assert ms <= 270
      eventually(fn -> not Process.alive?(pid) end, 10_000)
      # And kept as a failure, for those who come next.
      eventually(fn -> :ets.lookup(broker, :key) != [] end, 10_000)
      assert fetch(broker, :key, fn _ -> flunk("asked again") end) == {:error, :timeout}
    end

    test "goes on without the caller who started it", %{broker: broker, pid: pid} do
      fun = flight()
      first = spawn(fn -> fetch(broker, :key, fun) end)
      waiting(pid, 1)
      second = later(fn -> fetch(broker, :key, fun) end)
      waiting(pid, 2)
      Process.exit(first, :kill)
      land(value())
      assert Task.await(second) == {:ok, :value}
    end

    @tag limits: [at_once: 2, queued: 2]
    test "waits when there are too many, and is refused when too many wait", context do
      %{broker: broker, pid: pid} = context
      tasks = for n <- 1..4, do: {n, later_in_order(broker, pid, n)}
      assert fetch(broker, 5, fn _ -> flunk("started") end) == {:error, :overloaded}
      assert_receive {1, first, _}, 10_000
      assert_receive {2, second, _}, 10_000
      refute_received {3, _, _}
      for pid <- [first, second], do: send(pid, {:land, value()})
      land(3, value())
      land(4, {:error, :refused, :answered})
      results = for {_n, task} <- tasks, do: Task.await(task)
      assert results == [{:ok, :value}, {:ok, :value}, {:ok, :value}, {:error, :refused}]
    end

    @tag limits: [at_once: 1]
    test "is not started when its time went by in the queue", %{broker: broker, pid: pid} do
      first = later_in_order(broker, pid, 1)
      assert fetch(broker, 2, fn _ -> flunk("started") end, 200) == {:error, :timeout}
      land(1, value())
      assert Task.await(first) == {:ok, :value}
      waiting(pid, 0)
      # Nothing is known of that key.
      assert :ets.lookup(broker, 2) == []
    end
  end

  defp later_in_order(broker, pid, n) do
    fun = flight(n)
    task = later(fn -> fetch(broker, n, fun) end)
    eventually(fn -> is_map_key(:sys.get_state(pid).waiting, n) end, 10_000)
    task
  end

  describe "an account" do
    defp fail(broker, keys, account \\ :account) do
      for key <- keys,
          do:
            assert(
              fetch(broker, {account, key}, lands({:error, :down, :failed}), 10_000, account) ==
                {:error, :down}
            )
    end

    # As if the pause of the breaker were over.
    defp wait_out(pid, account) do
      :sys.replace_state(pid, fn state ->
        update_in(state.breakers[account], &%{&1 | until: System.monotonic_time(:millisecond)})
      end)
    end

    test "is left alone after five failures, tried once, and trusted again", context do
      %{broker: broker, pid: pid} = context
      fail(broker, 1..5)
      assert fetch(broker, 6, fn _ -> flunk("asked") end) == {:error, :circuit_open}
      # The others are not concerned.
      assert fetch(broker, :b, lands(value()), 10_000, :other) == {:ok, :value}

      wait_out(pid, :account)
      trial = later_in_order(broker, pid, 7)
      assert fetch(broker, 8, fn _ -> flunk("a second trial") end) == {:error, :circuit_open}
      land(7, {:error, :down, :failed})
      assert Task.await(trial) == {:error, :down}
      assert fetch(broker, 8, fn _ -> flunk("asked") end) == {:error, :circuit_open}

      wait_out(pid, :account)
      assert fetch(broker, 9, lands(value())) == {:ok, :value}
      assert fetch(broker, 8, lands(value())) == {:ok, :value}
    end

    test "is asked on when it answers, though with refusals", %{broker: broker} do
      for key <- 1..10,
          do:
            assert(fetch(broker, key, lands({:error, :refused, :answered})) == {:error, :refused})

      assert fetch(broker, 11, lands(value())) == {:ok, :value}
    end

    test "is left alone for as long as it wants", %{broker: broker, pid: pid} do
      assert fetch(broker, 1, lands({:error, :busy, {:failed, 120_000}})) == {:error, :busy}
      assert fetch(broker, 2, fn _ -> flunk("asked") end) == {:error, :circuit_open}

      assert_in_delta :sys.get_state(pid).breakers[:account].until,
                      System.monotonic_time(:millisecond) + 120_000,
                      10_000
    end

    test "keeps giving what was kept while it is left alone", %{broker: broker} do
      assert fetch(broker, :kept, lands(value())) == {:ok, :value}
      fail(broker, 1..5)
      assert fetch(broker, :kept, fn _ -> flunk("asked") end) == {:ok, :value}
    end

    test "has failed when its flight had to be killed", %{broker: broker, pid: pid} do
      for n <- 1..5,
          do:
            assert(
              fetch(broker, n, fn _ -> Process.sleep(:infinity) end, 300) == {:error, :timeout}
            )

      eventually(fn -> :sys.get_state(pid).flights == %{} end, 10_000)
      assert fetch(broker, 6, fn _ -> flunk("asked") end) == {:error, :circuit_open}
    end
  end

  describe "the table" do
    @tag limits: [entries: 3]
    test "has no more rows than it may have", %{broker: broker} do
      for key <- 1..10, do: assert(fetch(broker, key, lands(value())) == {:ok, :value})
      assert :ets.info(broker, :size) == 3
      assert fetch(broker, 10, lands(value())) == {:ok, :value}
    end

    @tag limits: [sweep: 20]
    test "is swept of what is over", %{broker: broker, pid: pid} do
      for key <- [:old, :young], do: assert(fetch(broker, key, lands(value())) == {:ok, :value})
      past = System.monotonic_time(:millisecond) - 200_000

      :sys.replace_state(pid, fn state ->
        :ets.update_element(broker, :old, [{3, now() - 2}, {4, now() - 1}, {6, past}])
        state
      end)

      eventually(fn -> :ets.lookup(broker, :old) == [] end, 10_000)
      assert [_] = :ets.lookup(broker, :young)
    end

    test "is nobody else's to write", %{broker: broker} do
      assert :ets.info(broker, :protection) == :protected
      assert_raise ArgumentError, fn -> :ets.insert(broker, {:key}) end
    end
  end

  test "shows no credentials in its state, nor in its last words", %{broker: broker, pid: pid} do
    Cromulent.Turn.LogWatch.start()
    secret = "MARKED"

    assert fetch(broker, :key, lands({:ok, %{credential: secret}, now() + 60})) ==
             {:ok, %{credential: secret}}

    task =
      later(fn ->
        catch_exit(
          throw_away(
            fetch(broker, :other, fn _ ->
              Process.sleep(:infinity)
              secret
            end)
          )
        )
      end)

    waiting(pid, 1)
    refute inspect(:sys.get_status(pid), limit: :infinity, printable_limit: :infinity) =~ secret
    GenServer.cast(broker, :crash_it)
    eventually(fn -> Process.whereis(broker) not in [nil, pid] end, 10_000)
    texts = for {_level, text} <- Cromulent.Turn.LogWatch.texts(), do: text
    assert Enum.any?(texts, &(&1 =~ "crash_it" and &1 =~ "waiting"))
    for text <- texts, do: refute(text =~ secret)
    Task.shutdown(task, :brutal_kill)
    # A new start: nothing is kept, and it works.
    assert fetch(broker, :key, lands(value())) == {:ok, :value}
  end

  defp throw_away(_result), do: exit(:done)

  test "leaves nobody waiting when it ends", %{broker: broker, pid: pid} do
    fun = flight()
    task = later(fn -> fetch(broker, :key, fun, 60_000) end)
    waiting(pid, 1)
    Process.exit(pid, :kill)
    assert Task.await(task) == {:error, :not_running}
  end

  test "says when it does not run" do
    assert Broker.fetch(1, 1, 100, lands(:nonsense), :no_broker) == {:error, :not_running}
    assert Broker.drop(fn _ -> true end, :no_broker) == {:error, :not_running}
  end

  test "names secrets without giving them away" do
    assert Broker.digest("a") == Broker.digest("a")
    refute Broker.digest("a") == Broker.digest("b")
    assert byte_size(Broker.digest(String.duplicate("secret", 100))) == 16
  end
end
