defmodule Cromulent.Turn.PlacesTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Joiner, only: [start: 0, run: 2, kill: 1]

  alias Cromulent.Turn.Places

  require Places

  setup do
    {:ok, topic: "places:#{System.unique_integer([:positive])}"}
  end

  defp claim(pid, topic, limit \\ 1, elsewhere \\ 0),
    do: run(pid, fn -> Places.claim(Places.new(topic, "alice", limit), elsewhere) end)

  defp slot({:ok, Places.place(key: {_, _, slot})}), do: slot

  test "id/1 tells users apart, also where == does not, and holds no atom" do
    users = [1, 1.0, "1", :one, nil, {1}, {1.0}, [1], %{a: 1}, %{a: 1.0}, :_]
    ids = Enum.map(users, &Places.id/1)
    for {a, i} <- Enum.with_index(ids), {b, j} <- Enum.with_index(ids), i != j, do: refute(a == b)
    assert Places.id(%{b: 1, a: 2}) == Places.id(%{a: 2, b: 1})
    refute Enum.any?(ids, &is_atom/1)
  end

  test "claim/2 takes the lowest free slot, up to the limit less those elsewhere", %{topic: topic} do
    [a, b, c] = for _ <- 1..3, do: start()
    assert claim(a, topic, 3) |> slot() == 0
    assert claim(b, topic, 3) |> slot() == 1
    assert claim(c, topic, 3, 1) == :full
    assert claim(c, topic, 2) == :full
    kill(a)
    assert claim(c, topic, 3, 1) |> slot() == 0
    assert for(place <- Places.holders(topic, "alice"), do: Places.place(place, :pid)) == [c, b]
  end

  test "remove/1 and held?/1 mean one hold, not its key", %{topic: topic} do
    pid = start()
    {:ok, first} = claim(pid, topic)
    assert Places.held?(first)
    assert Places.remove(first)
    refute Places.remove(first)
    {:ok, second} = claim(pid, topic)
    assert Places.place(first, :key) == Places.place(second, :key)
    refute Places.held?(first)
    refute Places.remove(first)
    assert Places.held?(second)
  end

  test "take_over/1 gives the new place, and those that were given up", %{topic: topic} do
    [a, b, c] = for _ <- 1..3, do: start()
    take = fn -> Places.take_over(Places.new(topic, "alice", 1)) end
    assert {:ok, first, []} = run(a, take)
    assert {:ok, second, [^first]} = run(b, take)
    kill(b)
    # Nobody to be told: the last one is gone.
    assert {:ok, third, []} = run(c, take)
    refute Places.held?(second)
    assert Places.holders(topic, "alice") == [third]
  end

  test "members/1 and all/0 list what is there", %{topic: topic} do
    [a, b] = [start(), start()]
    {:ok, place} = claim(a, topic)
    assert Places.members(topic) == [{"alice", a}]
    assert place in Places.all()
    {:ok, _} = claim(b, topic <> "2")
    assert Places.members(topic) == [{"alice", a}]
    kill(a)
    assert Places.members(topic) == []
  end
end
