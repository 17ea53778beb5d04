defmodule Cromulent.Turn.ControlEndTest do
  # What the relay gives up once it is ready, and how it ends.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Control
  import Cromulent.Turn.Helpers, only: [eventually: 1, eventually: 2]

  alias Cromulent.Turn.{OsProcess, Program}

  # ---- the sandbox ----

  describe "once it is ready" do
    test "the relay cannot win back what it gave up, on any of its threads" do
      {port, info, _relay} = start()
      grant(port, 100)
      said = said_of_sandbox(port)

      assert said =~ "seccomp" or said =~ ~r/^off (in a sanitizer build|on this system)$/

      # What is said to be off may have been put on by whoever started us.
      for file <- Path.wildcard("/proc/#{info.os_pid}/task/*/status") do
        status = File.read!(file)
        if said =~ "no_new_privs on", do: assert(status =~ "NoNewPrivs:\t1\n")
        if said =~ "seccomp on", do: assert(status =~ "Seccomp:\t2\n")
      end
    end
  end

  defp said_of_sandbox(port) do
    case event(port, :log) do
      %{level: :info, message: "sandbox: " <> said} -> said
      _ -> said_of_sandbox(port)
    end
  end

  # ---- the end ----

  describe "the relay ends" do
    test "when the channel is closed, whatever was said before" do
      {port, info, relay} = start()
      allocate(relay)
      Port.close(port)
      assert OsProcess.await_exit(info.os_pid, 1_000) == :ok

      for port <- [open(), send_term(open(), {:hello, 1})] do
        os_pid = os_pid(port)
        Port.close(port)
        assert OsProcess.await_exit(os_pid, 1_000) == :ok
      end
    end

    test "and lets go of its ports" do
      {port, info, _relay} = start()
      Port.close(port)
      assert OsProcess.await_exit(info.os_pid, 1_000) == :ok
      {again, _, _} = start(%{listen: info.listen})
      Port.close(again)
    end

    test "when its BEAM is killed" do
      config = config() |> :erlang.term_to_binary() |> Base.encode64()

      code = """
      P = open_port({spawn_executable, "#{Program.path()}"},
                    [{packet, 4}, nouse_stdio, binary, exit_status]),
      [port_command(P, term_to_binary(T))
       || T <- [{hello, 1}, {configure, 1, binary_to_term(base64:decode("#{config}"))}]],
      receive {P, {data, B}} ->
          {ready, \#{os_pid := Relay}} = binary_to_term(B),
          io:format("~s ~b~n", [os:getpid(), Relay])
      end,
      receive never -> ok end.
      """

      beam =
        Port.open({:spawn_executable, System.find_executable("erl")}, [
          :binary,
          line: 1_000,
          args: ["-noinput", "-noshell", "-eval", code]
        ])

      assert_receive {^beam, {:data, {:eol, line}}}, 10_000
      [beam_pid, relay_pid] = line |> String.split() |> Enum.map(&String.to_integer/1)
      assert OsProcess.alive?(relay_pid)
      OsProcess.kill(beam_pid)
      assert OsProcess.await_exit(relay_pid, 2_000) == :ok
    end

    test "on SIGTERM and SIGINT, and says goodbye" do
      for signal <- ["TERM", "INT"] do
        {port, info, relay} = start()
        grant(port, 100)
        allocate(relay)
        assert event(port, :allocation_created)
        {_, 0} = System.cmd("kill", ["-#{signal}", "#{info.os_pid}"])
        assert event(port, :allocation_ended).reason == :shutdown
        assert frame(port) == {:exit, 0}
      end
    end

    test "with all the descriptors that it opened" do
      {port, info, relay} = start()
      open = fn -> length(File.ls!("/proc/#{info.os_pid}/fd")) end

      if File.dir?("/proc/self/fd") do
        before = open.()
        for _ <- 1..20, do: allocate(relay)
        assert open.() == before + 20
        assert call(port, :kill, [:all]) == {:ok, 20}
        eventually(fn -> open.() == before end)
      end

      Port.close(port)
      eventually(fn -> not OsProcess.alive?(info.os_pid) end, 1_000)
    end
  end
end
