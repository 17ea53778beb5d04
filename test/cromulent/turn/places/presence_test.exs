defmodule Cromulent.Turn.Places.PresenceTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Joiner, only: [start: 0, run: 2, kill: 1]

  alias Cromulent.Turn.Places.Presence

  test "check!/1 takes a module or nil" do
    assert Presence.check!(nil) == nil
    assert Presence.check!(__MODULE__) == __MODULE__

    for wrong <- ["Presence", NoSuchModule, 1, {}] do
      assert_raise ArgumentError, ~r/^presence: /, fn -> Presence.check!(wrong) end
    end
  end

  test "processes/3 of no Presence are none" do
    assert Presence.processes(nil, "voice:1", "alice") == []
  end

  test "living/1 leaves out the dead, here and on nodes that are gone" do
    [a, b] = [start(), start()]
    kill(b)
    assert Presence.living([a, b]) == [a]
    # A pid of another node, in the external term format: NEW_PID_EXT.
    far = :erlang.binary_to_term(<<131, 88, 119, 6, "a@b.cd", 0::32, 1::32, 0::32, 1::32>>)
    assert node(far) == :"a@b.cd"
    assert Presence.living([a, far]) == [a]
  end

  test "transport/1 is that of a Phoenix channel only" do
    pid = start()
    assert Presence.transport(pid) == nil
    assert Presence.transport(self()) == nil

    for {call, callers, transport} <- [
          {{MyAppWeb.VoiceChannel, :join, 3}, [self()], self()},
          {{MyAppWeb.VoiceChannel, :join, 3}, [], nil},
          {{MyAppWeb.VoiceLive, :mount, 3}, [self()], nil}
        ] do
      run(pid, fn -> {Process.put(:"$initial_call", call), Process.put(:"$callers", callers)} end)
      assert Presence.transport(pid) == transport
      assert run(pid, fn -> Presence.transport(self()) end) == transport
    end

    kill(pid)
    assert Presence.transport(pid) == nil
  end
end
