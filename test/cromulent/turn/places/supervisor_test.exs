defmodule Cromulent.Turn.Places.SupervisorTest do
  # The tables are everybody's, and here they crash.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers, only: [eventually: 1]
  import Cromulent.Turn.Joiner, only: [join: 2, start: 0]
  import ExUnit.CaptureLog

  alias Cromulent.Turn.{Places, Renewer}
  alias Cromulent.Turn.Places.{Server, Supervisor, Tables}

  defp replaced(name) do
    old = Process.whereis(name)

    capture_log(fn ->
      Process.exit(old, :kill)
      eventually(fn -> Process.whereis(name) not in [nil, old] end)
      eventually(fn -> is_pid(Process.whereis(Renewer)) end)
    end)
  end

  test "a crash of what works on the tables loses no place" do
    {pid, {:ok, _}} = join("supervisor:1", "alice")
    # More often than one supervisor bears.
    for _ <- 1..2, name <- [Server, Renewer, Places.Tasks], do: replaced(name)
    assert Places.members("supervisor:1") == [{"alice", pid}]
    assert :ets.info(Places, :owner) == Process.whereis(Tables)
    eventually(fn -> is_map_key(:sys.get_state(Server).holders, pid) end)
  end

  test "tables that are lost come back empty, with everything behind them" do
    {_, {:ok, _}} = join("supervisor:2", "alice")
    replaced(Tables)
    eventually(fn -> :ets.whereis(Places) != :undefined and is_pid(Process.whereis(Server)) end)
    assert Places.members("supervisor:2") == []
    assert {_, {:ok, _}} = join("supervisor:2", "alice")
  end

  test "tasks run beside their caller" do
    test = self()
    assert Supervisor.spawn_task(fn -> send(test, {:ran, self()}) end) == :ok
    assert_receive {:ran, pid} when pid != test, 5_000
    %Task{ref: ref} = Supervisor.async(fn -> 42 end)
    assert_receive {^ref, 42}, 5_000
    # One that crashes takes nobody along.
    pid = start()

    log =
      capture_log(fn ->
        (%Task{ref: ref} = Supervisor.async(fn -> exit(:boom) end)) &&
          assert_receive({:DOWN, ^ref, _, _, :boom}, 5_000)
      end)

    assert log =~ "boom"
    assert Process.alive?(pid)
  end
end
