defmodule Cromulent.Turn.JoinNetsplitTest do
  # Nodes that come and go, lose each other or hang: each test has its own.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Cluster, Join, Places}
  alias Cromulent.Turn.Cluster.Holder

  @moduletag timeout: 120_000
  @topic "voice:1"
  @refused {:error, :already_in_channel}
  @taken_over {:cromulent_turn, :taken_over, @topic}

  setup context do
    nodes = Cluster.start_nodes(context[:nodes] || 2)
    on_exit(fn -> Enum.each(nodes, &Cluster.stop/1) end)
    unless context[:apart], do: Cluster.connect(nodes)
    {:ok, nodes: nodes, a: hd(nodes), b: List.last(nodes)}
  end

  defp join(node, user, opts \\ []), do: Cluster.join(node, @topic, user, opts)
  defp members(node), do: node |> Cluster.call(Join, :members, [@topic]) |> Enum.sort()
  defp alive?(node, pid), do: Cluster.call(node, Process, :alive?, [pid])
  # Told, and then ended, since it stays.
  defp evicted?(node, pid) do
    unless alive?(node, pid), do: true
  end

  defp won(results), do: Enum.count(results, &match?({:ok, _}, &1))

  test "the places of a node that dies are free", %{a: a, b: b} do
    {_, {:ok, _}} = join(a, "alice")
    assert {_, @refused} = join(b, "alice")
    Cluster.kill(a)
    eventually(fn -> match?({_, {:ok, _}}, join(b, "alice")) end, 20_000)
    assert members(b) == ["alice"]
  end

  test "in a netsplit both sides admit; when it heals the older stays", %{a: a, b: b} do
    Cluster.split([a], [b])
    eventually(fn -> Cluster.connected(a) == [] and Cluster.connected(b) == [] end, 10_000)
    {old, {:ok, _}} = join(b, "alice")
    {new, {:ok, _}} = join(a, "alice")
    {alone, {:ok, _}} = join(a, "bob")
    Cluster.connect([a, b])
    eventually(fn -> evicted?(a, new) end, 20_000)
    assert alive?(b, old)
    assert alive?(a, alone)
    assert Cluster.told(b, old) == []
    assert Cluster.told(a, alone) == []
    assert members(a) == ["alice", "bob"]
    assert {_, @refused} = join(a, "alice")
  end

  @tag nodes: 3, apart: true
  test "when three sides meet, {:max, 2} keeps the two oldest", %{nodes: nodes} do
    held =
      for node <- nodes do
        {pid, {:ok, _}} = join(node, "alice", on_duplicate: {:max, 2})
        {node, pid}
      end

    Cluster.connect(nodes)
    {youngest, pid} = List.last(held)
    eventually(fn -> evicted?(youngest, pid) end, 20_000)

    for {node, pid} <- Enum.take(held, 2) do
      assert alive?(node, pid)
      assert Cluster.told(node, pid) == []
    end

    assert members(youngest) == ["alice"]
  end

  test "a loser is told before it is ended", %{a: a, b: b} do
    Cluster.split([a], [b])
    eventually(fn -> Cluster.connected(a) == [] and Cluster.connected(b) == [] end, 10_000)
    {_, {:ok, _}} = join(a, "alice")
    {loser, {:ok, _}} = join(b, "alice")
    test = self()
    spawn_link(fn -> send(test, {:seen, Cluster.call(b, Holder, :watch, [loser])}) end)
    Cluster.connect([a, b])
    assert_receive {:seen, {[@taken_over], {:shutdown, :taken_over}}}, 20_000
  end

  @tag nodes: 1
  test "a node without this library has nobody", %{a: a} do
    b = Cluster.start_node(start: false)
    on_exit(fn -> Cluster.stop(b) end)
    Cluster.connect([a, b])
    assert Cluster.connected(a) == [b.node]
    assert {_, {:ok, _}} = join(a, "alice")
    assert {_, @refused} = join(a, "alice")
    assert members(a) == ["alice"]
  end

  @tag apart: true
  test "nodes that connect while joins are going on leave one holder of each place", %{
    nodes: [a, b] = nodes
  } do
    race = Task.async(fn -> Cluster.race(nodes, @topic, 60) end)
    {_, []} = {nil, Cluster.connected(a)}
    eventually(fn -> length(members(a)) > 15 end, 20_000)
    Cluster.connect(nodes)
    rounds = Task.await(race, 60_000)
    assert Enum.all?(rounds, &(won(&1) in 1..2))

    eventually(
      fn ->
        for(
          user <- 1..60,
          node <- nodes,
          do: Cluster.call(node, Places, :holders, [@topic, user])
        )
        |> Enum.concat()
        |> length() == 60
      end,
      20_000
    )

    assert members(b) == Enum.to_list(1..60)
  end
end
