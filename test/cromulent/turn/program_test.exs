defmodule Cromulent.Turn.ProgramTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Frame, OsProcess, Program}

  # Whatever becomes of the test, the program ends with it.
  defp open(path) do
    {:ok, _port, os_pid} = result = Program.open(path)
    on_exit(fn -> OsProcess.reap(os_pid, 0) end)
    result
  end

  test "is in the directory of CROMULENT_TURN_PRIV, else in the application's" do
    put_env([{"CROMULENT_TURN_PRIV", "/somewhere"}])
    assert Program.path() == "/somewhere/turn_relay"
    System.put_env("CROMULENT_TURN_PRIV", "")
    assert Program.path() == Application.app_dir(:cromulent_turn, "priv/turn_relay")
  end

  test "is a program that speaks the protocol" do
    {:ok, port, os_pid} = Program.open(Program.path())
    assert OsProcess.alive?(os_pid)
    assert Program.write(port, Frame.hello()) == :ok
    assert Program.write(port, Frame.encode({:configure, 0, %{}})) == :ok
    assert_receive {^port, {:data, bytes}}, 2_000
    assert {:ok, {:failed, {:config, _}}} = Frame.decode(bytes)
    assert_receive {^port, {:exit_status, 1}}, 2_000
    refute OsProcess.alive?(os_pid)
    assert Program.close(port) == :ok
    assert Program.write(port, "x") == {:error, :down}
  end

  test "that refuses the protocol says so" do
    {:ok, port, _} = Program.open(Program.path())
    assert Program.write(port, Frame.encode({:hello, 99})) == :ok
    assert_receive {^port, {:data, bytes}}, 2_000
    assert {:ok, {:failed, {:protocol, text}}} = Frame.decode(bytes)
    assert is_binary(text)
    assert_receive {^port, {:exit_status, 1}}, 2_000
  end

  test "that is not there cannot be opened" do
    assert {:error, {:system, text}} = Program.open("/nowhere/turn_relay")
    assert text == "/nowhere/turn_relay: there is no such program; `mix compile` builds it"
    assert {:error, {:system, text}} = Program.open(__ENV__.file)
    assert text =~ "may not be run"
  end

  test "is stopped gently where it listens, and by force where not" do
    {:ok, port, os_pid} = open(fake("never_ready"))
    assert Program.stop(port, os_pid, 2_000) == :ok
    refute OsProcess.alive?(os_pid)

    {:ok, port, os_pid} = open(fake("ignores_eof"))
    assert Program.stop(port, os_pid, 50) == :ok
    refute OsProcess.alive?(os_pid)
  end

  test "leaves no message of a closed port behind" do
    {:ok, port, _} = open(fake("floods"))
    for _ <- 1..100, do: assert_receive({^port, {:data, _}}, 2_000)
    Program.close(port)
    refute_received {^port, _}
  end

  test "that does not read never holds up its writer" do
    {:ok, port, os_pid} = open(fake("ignores_eof"))
    frame = Frame.encode({:filler, :binary.copy("x", 65_536)})
    results = for _ <- 1..20, do: Program.write(port, frame)
    assert {:error, :busy} in results
    Program.stop(port, os_pid, 0)
  end

  test "gets of the environment what it needs only" do
    put_env([
      {"SECRET_KEY_BASE", "hunter2"},
      {"TURN_SECRET", "hunter2"},
      {"ASAN_OPTIONS", "abort_on_error=0"}
    ])

    {:ok, port, os_pid} = open(fake("ignores_eof"))
    # Between fork and exec it still has that of the BEAM.
    eventually(fn -> File.read!("/proc/#{os_pid}/cmdline") =~ "sleep" end)
    environment = File.read!("/proc/#{os_pid}/environ")
    refute environment =~ "hunter2"
    assert environment =~ "ASAN_OPTIONS="
    assert environment =~ "PATH="
    Program.stop(port, os_pid, 0)
  end

  test "says what became of it" do
    for {reason, words} <- [
          {{:listen, "udp:127.0.0.1:1", :eaddrinuse},
           "cannot listen on udp:127.0.0.1:1: the port is in use (eaddrinuse)"},
          {{:relay_ip, "192.0.2.1", :eaddrnotavail},
           "cannot relay from 192.0.2.1: this host does not have that address (eaddrnotavail)"},
          {{:exit, 137}, "it ended by itself, killed by signal 9"},
          {{:exit, 1}, "it ended by itself, exit status 1"},
          {{:config, "realm: must not be empty"}, "realm: must not be empty"},
          {:odd, ":odd"}
        ],
        do: assert(Program.describe(reason) == words)
  end
end
