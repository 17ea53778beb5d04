defmodule Cromulent.Turn.Places.EvictionTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Joiner, only: [start: 0, run: 2, ended: 1]

  alias Cromulent.Turn.Places
  alias Cromulent.Turn.Places.Eviction

  require Places

  defp claim(pid, topic), do: run(pid, fn -> Places.claim(Places.new(topic, "alice", 1)) end)

  test "start/3 tells, waits, and ends" do
    pid = start()
    {:ok, place} = claim(pid, "eviction:1")
    assert Eviction.start(place, 100, :takeover) == :ok
    assert_receive {:told, ^pid, {:cromulent_turn, :taken_over, "eviction:1"}}, 5_000
    assert ended(pid) == {:shutdown, :taken_over}
  end

  test "stop/3 tells a transport, and bears one that is gone" do
    [pid, other] = [start(), start()]
    assert Eviction.stop(pid, self(), 0) == :ok
    assert_receive {:socket_close, ^pid, {:shutdown, :taken_over}}, 5_000
    assert ended(pid) == {:shutdown, :taken_over}
    assert Eviction.stop(other, pid, 0) == :ok
    assert ended(other) == {:shutdown, :taken_over}
  end

  test "healed/1 ends the holder of a place that is held still, and no other" do
    pid = start()
    {:ok, place} = claim(pid, "eviction:2")
    assert Places.remove(place)
    assert Eviction.healed(place) == :ok
    {:ok, again} = claim(pid, "eviction:2")
    refute_received {:told, ^pid, _}
    assert Eviction.healed(again) == :ok
    refute Places.held?(again)
    assert ended(pid) == {:shutdown, :taken_over}
  end
end
