defmodule Cromulent.Turn.JoinClusterTest do
  # Three nodes that are connected: operating-system processes on the loopback address.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Cluster, Join, Places}
  alias Cromulent.Turn.Cluster.Holder

  @moduletag timeout: 120_000
  @refused {:error, :already_in_channel}

  setup_all do
    nodes = Cluster.start_nodes(3)
    on_exit(fn -> Enum.each(nodes, &Cluster.stop/1) end)
    Cluster.connect(nodes)
    {:ok, nodes: nodes, a: hd(nodes), b: List.last(nodes)}
  end

  setup do
    {:ok, topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp members(node, topic), do: node |> Cluster.call(Join, :members, [topic]) |> Enum.sort()
  defp alive?(node, pid), do: Cluster.call(node, Process, :alive?, [pid])

  defp run(node, pid, function, args),
    do: Cluster.call(node, Holder, :run, [pid, Join, function, args])

  defp won(results), do: Enum.count(results, &match?({:ok, _}, &1))

  test "of two or three that join at the same instant, one gets the place", %{
    nodes: nodes,
    topic: topic
  } do
    for {some, topic} <- [{nodes, topic}, {tl(nodes), topic <> "2"}] do
      rounds = Cluster.race(some, topic, 40)
      assert length(rounds) == 40
      assert rounds |> Enum.map(&won/1) |> Enum.uniq() == [1]
      assert Enum.all?(Enum.concat(rounds), &(match?({:ok, _}, &1) or &1 == @refused))
      assert members(hd(nodes), topic) == Enum.to_list(1..40)
    end
  end

  test "of three that join at the same instant, {:max, 2} lets two in", %{
    nodes: nodes,
    topic: topic
  } do
    rounds = Cluster.race(nodes, topic, 25, on_duplicate: {:max, 2})
    assert rounds |> Enum.map(&won/1) |> Enum.uniq() == [2]
  end

  test "of three takeovers at the same instant, one holds the place in the end", %{
    nodes: nodes,
    topic: topic
  } do
    rounds = Cluster.race(nodes, topic, 25, on_duplicate: :takeover, grace: 0)
    assert Enum.all?(rounds, &(won(&1) in 1..3))

    for user <- 1..25 do
      assert [_one] = Enum.flat_map(nodes, &Cluster.call(&1, Places, :holders, [topic, user]))
    end
  end

  test "a place is free on the other node the moment its holder ends or leaves", %{
    a: a,
    b: b,
    topic: topic
  } do
    for user <- 1..20 do
      assert {pid, {:ok, _}} = Cluster.join(a, topic, user)
      assert {_, @refused} = Cluster.join(b, topic, user)
      Cluster.call(a, Process, :exit, [pid, :kill])
      assert {other, {:ok, _}} = Cluster.join(b, topic, user)
      assert run(b, other, :leave, [topic, user]) == :ok
      assert {_, {:ok, _}} = Cluster.join(a, topic, user)
    end
  end

  test "leave, holds? and members see what is whose", %{a: a, b: b, topic: topic} do
    {pid, {:ok, _}} = Cluster.join(a, topic, "alice")
    {_, {:ok, _}} = Cluster.join(b, topic, :bob)
    {_, {:ok, _}} = Cluster.join(b, topic <> "2", "alice")
    assert members(a, topic) == [:bob, "alice"]
    assert members(b, topic) == [:bob, "alice"]
    assert run(a, pid, :holds?, [topic, "alice"])
    refute run(a, pid, :holds?, [topic <> "2", "alice"])
    assert run(a, pid, :leave, [topic <> "2", "alice"]) == {:error, :not_in_channel}
  end

  test "a takeover tells the holder on the other node, and ends it", %{a: a, b: b, topic: topic} do
    {old, {:ok, _}} = Cluster.join(a, topic, "alice")
    {new, {:ok, _}} = Cluster.join(b, topic, "alice", on_duplicate: :takeover, grace: 1_500)
    eventually(fn -> Cluster.told(a, old) == [{:cromulent_turn, :taken_over, topic}] end, 10_000)
    refute run(a, old, :holds?, [topic, "alice"])
    assert run(b, new, :holds?, [topic, "alice"])
    eventually(fn -> not alive?(a, old) end, 20_000)
    assert alive?(b, new)
    assert Cluster.told(b, new) == []
  end

  test "no lock outlives its join", %{nodes: nodes, topic: topic} do
    Cluster.race(nodes, topic, 10)
    locks = fn node -> Cluster.call(node, :ets, :tab2list, [:global_locks]) end
    eventually(fn -> Enum.all?(nodes, &(locks.(&1) == [])) end, 10_000)
  end
end
