defmodule Cromulent.Turn.OsProcessTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.OsProcess

  defp sleeper do
    port = Port.open({:spawn_executable, System.find_executable("sleep")}, args: ["60"])
    {:os_pid, pid} = Port.info(port, :os_pid)
    {port, pid}
  end

  test "tells the living from the dead" do
    {_port, pid} = sleeper()
    assert OsProcess.alive?(pid)
    assert OsProcess.alive?(String.to_integer(System.pid()))
    assert OsProcess.kill(pid)
    assert OsProcess.await_exit(pid, 1_000) == :ok
    refute OsProcess.alive?(pid)
    refute OsProcess.kill(pid)
  end

  test "waits no longer than it is told to" do
    {port, pid} = sleeper()
    assert OsProcess.await_exit(pid, 20) == :timeout
    assert OsProcess.alive?(pid)
    # sleep does not read, so a closed port is nothing to it: it takes force.
    Port.close(port)
    assert OsProcess.reap(pid, 20) == :ok
    refute OsProcess.alive?(pid)
  end

  test "leaves those alone that end by themselves" do
    port = Port.open({:spawn_executable, System.find_executable("cat")}, [])
    {:os_pid, pid} = Port.info(port, :os_pid)
    Port.close(port)
    assert OsProcess.reap(pid, 2_000) == :ok
  end

  test "sees through a name with spaces and brackets" do
    dir = Path.join(System.tmp_dir!(), "turn (a) R #{System.pid()}")
    File.mkdir_p!(dir)
    program = Path.join(dir, "b) Z (")
    File.cp!(System.find_executable("sleep"), program)
    port = Port.open({:spawn_executable, program}, args: ["60"])
    {:os_pid, pid} = Port.info(port, :os_pid)
    assert OsProcess.alive?(pid)
    OsProcess.kill(pid)
    assert OsProcess.await_exit(pid, 1_000) == :ok
    File.rm_rf!(dir)
  end

  test "has no business with init" do
    assert_raise FunctionClauseError, fn -> OsProcess.kill(1) end
  end
end
