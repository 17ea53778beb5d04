defmodule Cromulent.Turn.Places.ServerTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]
  import Cromulent.Turn.Joiner, only: [start: 0, run: 2, kill: 1, ended: 1]

  alias Cromulent.Turn.Places
  alias Cromulent.Turn.Places.Server

  require Places

  setup do
    pid = start()
    topic = "server:#{System.unique_integer([:positive])}"
    claim = fn n -> run(pid, fn -> Places.claim(Places.new(topic, n, 1)) end) end
    {:ok, pid: pid, topic: topic, places: for(n <- 1..2, {:ok, place} <- [claim.(n)], do: place)}
  end

  defp watched(pid) do
    case :sys.get_state(Server).holders do
      %{^pid => {_monitor, places}} -> map_size(places)
      _ -> 0
    end
  end

  defp rows(topic), do: :ets.match(Places, Places.place(key: {topic, :_, :_}, _: :_))

  test "frees all places of a holder that ends", %{pid: pid, topic: topic, places: places} do
    Enum.each(places, &Server.watch/1)
    assert watched(pid) == 2
    assert length(rows(topic)) == 2
    kill(pid)
    eventually(fn -> rows(topic) == [] end, 5_000)
    assert watched(pid) == 0
  end

  test "forgets what is gone, and watches nothing that is", %{pid: pid, places: [one, two]} do
    Enum.each([one, two], &Server.watch/1)
    assert Places.remove(one)
    Server.forget(one)
    assert watched(pid) == 1
    # Its first holder's message comes late.
    Server.watch(one)
    assert watched(pid) == 1
    assert Places.remove(two)
    Server.forget(two)
    assert watched(pid) == 0
    Server.forget(two)
    assert watched(pid) == 0
  end

  test "sweeps out who was killed before it was watched", %{topic: topic} do
    test = self()
    claim = fn -> Places.claim(Places.new(topic, "unwatched", 1)) end
    {pid, monitor} = spawn_monitor(fn -> send(test, {:claimed, claim.()}) end)
    assert_receive {:claimed, {:ok, left}}
    assert_receive {:DOWN, ^monitor, :process, ^pid, _}
    # It holds nothing, but is in the table.
    assert Places.holders(topic, "unwatched") == []
    assert left in Places.all()
    Server.sweep()
    eventually(fn -> left not in Places.all() end, 10_000)
  end

  test "tells a holder whose place went to somebody who was killed on the way", c do
    [one | _] = c.places
    Server.watch(one)
    assert watched(c.pid) == 1
    # A takeover's first step, and no other.
    {taker, monitor} =
      spawn_monitor(fn -> {:ok, _, [^one]} = Places.take_over(Places.new(c.topic, 1, 1)) end)

    assert_receive {:DOWN, ^monitor, :process, ^taker, :normal}
    refute Places.held?(one)
    # Once could be a place that was given back a moment ago, with the word of it on its way.
    for _ <- 1..2, do: Server.sweep()
    assert ended(c.pid) == {:shutdown, :taken_over}
    assert watched(c.pid) == 0
  end

  test "has nothing to settle when it is alone", %{pid: pid, places: [one | _]} do
    Server.settle()
    Server.settle(node(), 1)
    eventually(fn -> match?(%{settling: nil, timer: nil}, :sys.get_state(Server)) end, 10_000)
    assert Places.held?(one)
    assert Process.alive?(pid)
  end
end
