defmodule Cromulent.Turn.ApplicationTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureLog

  alias Cromulent.Turn.{Config, OsProcess, Relay}

  setup do
    capture_log(fn -> Application.stop(:cromulent_turn) end)

    on_exit(fn ->
      capture_log(fn -> Application.stop(:cromulent_turn) end)
      {:ok, _} = Application.ensure_all_started(:cromulent_turn)
    end)
  end

  defp environment(more) do
    put_env([{"TURN_LISTEN", "udp:127.0.0.1:0"}, {"TURN_RELAY_IP", "127.0.0.1"} | more])
  end

  test "starts no relay by default" do
    assert Application.start(:cromulent_turn) == :ok
    assert Relay.info() == {:error, :not_running}
  end

  test "starts the relay when TURN_PROVIDER=embedded, and ends it" do
    environment([{"TURN_PROVIDER", "embedded"}])
    assert Application.start(:cromulent_turn) == :ok
    assert {:ok, %{status: :up, os_pid: os_pid}} = Relay.info()

    assert {:ok, [%{urls: "stun:127.0.0.1:" <> _}, %{credential: _}]} =
             Cromulent.Turn.ice_servers("alice")

    [secret] = Config.boot_secret().()

    capture_log(fn -> Application.stop(:cromulent_turn) end)
    refute OsProcess.alive?(os_pid)

    # The same boot, the same secret.
    assert Application.start(:cromulent_turn) == :ok
    assert Config.boot_secret().() == [secret]
  end

  test "leaves it to the host with start: false" do
    environment([{"TURN_PROVIDER", "embedded"}])
    put_config(start: false)
    assert Application.start(:cromulent_turn) == :ok
    assert Relay.info() == {:error, :not_running}
    start_supervised!({Cromulent.Turn, options()})
    assert {:ok, [_, _, %{credential: _}, _]} = Cromulent.Turn.ice_servers("alice")
  end

  test "tells a host that starts a second one" do
    environment([{"TURN_PROVIDER", "embedded"}])
    assert Application.start(:cromulent_turn) == :ok
    assert {:error, {{:already_running, text}, _}} = start_supervised({Cromulent.Turn, options()})
    assert text =~ "start: false"
  end

  for {variable, value} <- [
        {"TURN_PROVIDER", "embeded"},
        {"TURN_LISTEN", "3478"},
        {"TURN_TTL", "1h"},
        {"TURN_RELAY_PORTS", "1-2"},
        {"TURN_SECRET", "${TURN_SECRET}"},
        {"TURN_SECRET", ""}
      ] do
    test "refuses to start with #{variable}=#{value}" do
      environment([{"TURN_PROVIDER", "embedded"}, {unquote(variable), unquote(value)}])

      capture_log(fn ->
        assert {:error, reason} = Application.start(:cromulent_turn)
        assert inspect(reason) =~ unquote(variable)

        assert inspect(reason) =~ "must be" or inspect(reason) =~ "must not" or
                 inspect(reason) =~ "expanded"
      end)
    end
  end

  test "refuses to start on a port that is in use" do
    {_socket, {_, port}} = peer()
    environment([{"TURN_PROVIDER", "embedded"}, {"TURN_LISTEN", "udp:127.0.0.1:#{port}"}])

    capture_log(fn ->
      assert {:error, reason} = Application.start(:cromulent_turn)
      assert inspect(reason) =~ "{:listen, \"udp:127.0.0.1:#{port}\", :eaddrinuse}"
    end)
  end
end
