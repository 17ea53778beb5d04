defmodule Mix.TurnTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureIO
  import ExUnit.CaptureLog

  alias Cromulent.Turn.{OsProcess, Relay}

  @switches [listen: [:string, :keep], relay_ip: [:string, :keep], realm: :string, port: :integer]

  defp failed(argv) do
    me = self()

    line =
      capture_io(:stderr, fn ->
        send(me, catch_exit(Mix.Turn.parse("turn.test", argv, @switches)))
      end)

    assert_received {:shutdown, 2}
    assert String.ends_with?(line, "\n")
    String.trim_trailing(line, "\n")
  end

  test "makes options of flags, lists of those that may be repeated" do
    assert Mix.Turn.parse("turn.test", [], @switches) == []

    argv = ~w(--realm a --listen x --listen y --realm b --port 7 --relay-ip=z)

    assert Mix.Turn.parse("turn.test", argv, @switches) ==
             [listen: ["x", "y"], relay_ip: ["z"], realm: "b", port: 7]
  end

  test "ends the task with one line and status 2 for what is no flag" do
    assert failed(["--nonsense"]) ==
             "mix turn.test: unknown flag --nonsense; there are --listen, --relay-ip, --realm, --port"

    assert failed(["--realm"]) == "mix turn.test: --realm: needs a value"
    assert failed(["--port", "x"]) == "mix turn.test: --port \"x\": not understood"
    assert failed(["--realm", "a", "b"]) == "mix turn.test: unexpected argument \"b\""
  end

  test "keeps what it says to one line" do
    line =
      capture_io(:stderr, fn ->
        assert catch_exit(Mix.Turn.fail("t", 3, "a\n  b\n")) == {:shutdown, 3}
      end)

    assert line == "mix t: a b \n"
  end

  test "starts a relay in the application's tree, once, and ends it" do
    assert {:ok, %{os_pid: os_pid}} = Mix.Turn.start_relay(options())
    assert {:ok, %{os_pid: ^os_pid}} = Relay.info()
    capture_log(fn -> assert {:error, _} = Mix.Turn.start_relay(options()) end)
    assert Mix.Turn.stop_relay() == :ok
    refute OsProcess.alive?(os_pid)
    assert Mix.Turn.stop_relay() == :ok

    capture_log(fn ->
      assert {:error, {:config, _}} = Mix.Turn.start_relay(ttl: 1)
      {_socket, {_, port}} = peer()
      listener = "udp:127.0.0.1:#{port}"

      assert Mix.Turn.start_relay(options(listen: listener)) ==
               {:error, {:listen, listener, :eaddrinuse}}
    end)
  end
end
