defmodule Cromulent.Turn.CommandsTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Commands, Frame}

  # What is written comes back as it is.
  setup do
    port = Port.open({:spawn_executable, System.find_executable("cat")}, [:binary, packet: 4])
    {:ok, port: port}
  end

  defp echo(port) do
    assert_receive {^port, {:data, bytes}}, 5_000
    :erlang.binary_to_term(bytes)
  end

  test "are sent with references that count up, and answered by them", %{port: port} do
    commands = %Commands{}
    assert {:ok, commands} = Commands.tell(commands, port, :drain, [true])
    assert echo(port) == {:drain, 0, true}
    assert {:ok, commands} = Commands.ask(commands, port, :stats, [], {:caller, :about}, 5_000)
    assert echo(port) == {:stats, 1}
    assert [%{from: :caller, about: :about, timer: timer}] = Commands.open(commands)
    assert {nil, ^commands} = Commands.answered(commands, 0)
    assert {%{from: :caller}, commands} = Commands.answered(commands, 1)
    assert Process.read_timer(timer) == false
    assert Commands.open(commands) == []
    assert {nil, _} = Commands.answered(commands, 1)
  end

  test "an answer that does not come in time can come later, for nobody", %{port: port} do
    {:ok, commands} = Commands.ask(%Commands{}, port, :stats, [], {:caller, nil}, 1)
    assert echo(port) == {:stats, 0}
    assert_receive {:call_timeout, 0}, 5_000
    assert {%{from: :caller}, commands} = Commands.late(commands, 0)
    assert {nil, _} = Commands.late(commands, 1)
    assert {%{from: nil}, _} = Commands.answered(commands, 0)
  end

  test "those of other processes are known by their age", %{port: port} do
    test = self()
    spawn_link(fn -> send(test, Commands.write(port, :admit, [[{"a", "r"}]])) end)
    assert_receive :ok, 5_000
    assert {:admit, ref, [{"a", "r"}]} = echo(port)
    assert ref < Bitwise.bsl(1, 60)
    assert Commands.age(ref) in 0..60_000_000
    assert Commands.age(Bitwise.bsl(1, 59) - 1) == nil
    Port.close(port)
    assert Commands.write(port, :admit, [[]]) == {:error, :down}
  end

  test "all end with the relay", %{port: port} do
    {:ok, commands} = Commands.ask(%Commands{}, port, :stats, [], {:caller, nil}, 5_000)
    assert echo(port) == {:stats, 0}
    assert {[%{from: :caller, timer: timer}], commands} = Commands.close(commands)
    assert Process.read_timer(timer) == false
    assert Commands.open(commands) == []
    Port.close(port)

    assert {{:error, :down}, %{open: open}} =
             Commands.ask(commands, port, :stats, [], {:me, nil}, 9)

    assert open == %{}
  end

  test "references stay within what the relay takes", %{port: port} do
    last = Bitwise.bsl(1, 59) - 1
    {:ok, commands} = Commands.tell(%Commands{next: last}, port, :ping, [])
    assert echo(port) == {:ping, last}
    assert commands.next == 0
    assert is_binary(Frame.encode({:ping, last}))
  end
end
