defmodule Cromulent.Turn.SupervisorTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Client, Keeper, OsProcess, Relay}

  setup do
    pid = start_supervised!({Cromulent.Turn, options()})
    {:ok, supervisor: pid, relay: relay(Relay)}
  end

  defp back?(old), do: match?({:ok, %{status: :up, os_pid: pid}} when pid != old, Relay.info())

  test "keeps what was changed when the relay's owner dies", %{relay: relay} do
    assert Relay.configure(realm: "changed") == :ok
    assert Relay.drain() == :ok
    owner = Process.whereis(Relay)
    Process.exit(owner, :kill)
    eventually(fn -> back?(relay.os_pid) end)
    refute Process.whereis(Relay) == owner
    refute OsProcess.alive?(relay.os_pid)
    assert {:ok, %{realm: "changed", drain: true, restarts: 1}} = Relay.info()
    # Commands are obeyed in their order, and the first one was to drain.
    assert {:ok, _} = Relay.stats()
    assert {:error, {:refused, 508, _}, _} = Client.allocate(client(relay(Relay)))
  end

  test "starts afresh when the keeper dies", %{relay: relay} do
    assert Relay.configure(realm: "changed") == :ok
    Process.exit(Process.whereis(Keeper), :kill)
    eventually(fn -> back?(relay.os_pid) end)
    assert {:ok, %{realm: "cromulent_turn", restarts: 0}} = Relay.info()
  end

  test "is not brought down by a relay that cannot come back", %{supervisor: supervisor} do
    # With the port fixed by the configuration, and taken by another while the owner is being restarted.
    stop_supervised!(Cromulent.Turn)
    {thief, {ip, port}} = peer()
    :gen_udp.close(thief)
    pid = start_supervised!({Cromulent.Turn, options(listen: "udp:127.0.0.1:#{port}")})
    refute pid == supervisor
    {:ok, %{os_pid: os_pid}} = Relay.info()
    keeper = Process.whereis(Keeper)
    :sys.suspend(Relay)
    OsProcess.kill(os_pid)
    OsProcess.await_exit(os_pid, 1_000)
    {:ok, thief} = :gen_udp.open(port, ip: ip)
    Process.exit(Process.whereis(Relay), :kill)
    eventually(fn -> match?({:ok, %{status: :down}}, Relay.info()) end)
    eventually(fn -> :sys.get_state(Relay).tries >= 3 end, 3_000)
    assert Process.alive?(pid)
    assert Process.whereis(Keeper) == keeper
    :gen_udp.close(thief)
    eventually(fn -> match?({:ok, %{status: :up}}, Relay.info()) end, 5_000)
  end

  test "ends the relay when it ends", %{relay: relay} do
    stop_supervised!(Cromulent.Turn)
    refute OsProcess.alive?(relay.os_pid)
    assert Relay.info() == {:error, :not_running}
  end

  test "shows no secret", %{supervisor: supervisor} do
    for pid <- [supervisor, Process.whereis(Keeper), Process.whereis(Relay)] do
      shown =
        inspect(:sys.get_status(pid), limit: :infinity, printable_limit: :infinity, structs: false)

      refute shown =~ secret()
      dictionary = inspect(Process.info(pid, [:dictionary, :messages]), limit: :infinity)
      refute dictionary =~ secret()
    end
  end
end
