defmodule Cromulent.Turn.Places.ClusterTest do
  # What needs no other node; join_cluster, join_netsplit and join_hang have the rest.
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Places
  alias Cromulent.Turn.Places.Cluster

  require Places

  defp place(joined_at, slot, limit) do
    Places.new("cluster:1", "alice", limit)
    |> Places.place(key: {"cluster:1", "alice", slot}, joined_at: joined_at)
  end

  test "losers/1 are those who would have been refused, had all joined in turn" do
    assert Cluster.losers([]) == []
    [a, b, c] = [place(1, 0, 1), place(2, 1, 1), place(3, 2, 1)]
    assert Cluster.losers([a]) == []
    assert Enum.sort(Cluster.losers([c, a, b])) == Enum.sort([b, c])
    # Of the same age: the slot, where the node is the same.
    assert Cluster.losers([place(1, 1, 1), a])
           |> Enum.map(&Places.place(&1, :key))
           |> hd()
           |> elem(2) == 1

    [a, b, c] = [place(1, 0, 2), place(2, 1, 2), place(3, 2, 2)]
    assert Cluster.losers([c, b, a]) == [c]
    # Each keeps to its own limit.
    d = place(4, 3, 3)
    assert Cluster.losers([d, c, b, a]) == [c]
    e = place(5, 4, 1)
    assert Cluster.losers([e, a]) == [e]
  end

  test "alone there is nobody to ask, to forgive or to settle with" do
    assert Cluster.nodes() == []
    assert Cluster.members("cluster:1") == []
    assert Cluster.forgive([:nobody@nowhere]) == :ok
    assert Cluster.settle() == {:settled, [], []}
  end

  test "claim/3 leaves it to the local claim when nobody else is there" do
    place = place(1, 0, 1)
    assert Cluster.claim(place, 1_000, fn [] -> {:ok, place, []} end) == {:ok, place, []}
    assert Cluster.claim(place, 1_000, fn [] -> {:full, :place} end) == {:full, :place}
  end

  test "take/1 and give_up/1 remove one hold" do
    {:ok, place} = Places.claim(Places.new("cluster:#{System.unique_integer()}", "alice", 1))
    assert Cluster.holders(elem(Places.place(place, :key), 0), "alice") == [place]
    assert Cluster.take(place)
    refute Cluster.take(place)
    refute Cluster.give_up(place)
  end
end
