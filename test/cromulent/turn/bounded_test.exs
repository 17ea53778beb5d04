defmodule Cromulent.Turn.BoundedTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog
  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.Bounded

  defp telling(fun) do
    test = self()

    fn ->
      send(test, {:worker, self()})
      fun.()
    end
  end

  test "gives what the function returns, from another process" do
    assert Bounded.run(telling(fn -> {:ok, 1} end), 5_000) == {:ok, 1}
    assert_received {:worker, pid}
    refute pid == self()
    refute Process.alive?(pid)
    refute_received _
  end

  test "kills it when its time is over" do
    assert Bounded.run(telling(fn -> Process.sleep(:infinity) end), 50) == {:error, :timeout}
    assert_received {:worker, pid}
    refute Process.alive?(pid)
  end

  test "turns every end of it into an answer, without a word in the log" do
    log =
      capture_log(fn ->
        assert Bounded.run(fn -> raise "secret" end, 5_000) == {:error, :crashed}
        assert Bounded.run(fn -> throw("secret") end, 5_000) == {:error, :crashed}
        assert Bounded.run(fn -> exit("secret") end, 5_000) == {:error, :crashed}
        assert Bounded.run(fn -> Process.exit(self(), :kill) end, 5_000) == {:error, :crashed}

        assert Bounded.run(
                 fn ->
                   spawn_link(fn -> exit(:x) end)
                   Process.sleep(:infinity)
                 end,
                 5_000
               ) == {:error, :crashed}
      end)

    refute log =~ "secret"
  end

  test "ends with its caller" do
    run = telling(fn -> Process.sleep(:infinity) end)
    caller = spawn(fn -> Bounded.run(run, 60_000) end)
    assert_receive {:worker, pid}, 5_000
    Process.exit(caller, :kill)
    eventually(fn -> not Process.alive?(pid) end, 5_000)
  end
end
