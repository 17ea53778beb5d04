defmodule Cromulent.Turn.JoinClusterTest do
  # Real nodes: operating-system processes that are connected over the loopback address.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Cluster, Join, Places}
  alias Cromulent.Turn.Cluster.Holder

  @moduletag timeout: 120_000
  @topic "voice:1"
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
  defp stop_holder(node, pid), do: Cluster.call(node, Process, :exit, [pid, :kill])

  # Told, and then ended, since it stays.
  defp evicted?(node, pid) do
    unless alive?(node, pid), do: true
  end

  defp won(results), do: Enum.count(results, &match?({:ok, _}, &1))
  defp refused?(results), do: Enum.all?(results, &(match?({:ok, _}, &1) or &1 == refusal()))
  defp refusal, do: {:error, :already_in_channel}

  test "of two that join at the same instant on two nodes, one gets the place", %{nodes: nodes} do
    rounds = Cluster.race(nodes, @topic, 60)
    assert length(rounds) == 60
    assert Enum.map(rounds, &won/1) |> Enum.uniq() == [1]
    assert Enum.all?(rounds, &refused?/1)
    assert members(hd(nodes)) == Enum.to_list(1..60)
  end

  @tag nodes: 3
  test "of three on three nodes one gets it, or two of {:max, 2}, and the last of takeovers", %{
    nodes: nodes
  } do
    assert nodes |> Cluster.race(@topic, 25) |> Enum.map(&won/1) |> Enum.uniq() == [1]

    assert nodes
           |> Cluster.race("voice:2", 25, on_duplicate: {:max, 2})
           |> Enum.map(&won/1)
           |> Enum.uniq() ==
             [2]

    rounds = Cluster.race(nodes, "voice:3", 25, on_duplicate: :takeover, grace: 0)
    assert Enum.all?(rounds, &(won(&1) in 1..3))

    for user <- 1..25 do
      held = Enum.flat_map(nodes, &Cluster.call(&1, Places, :holders, ["voice:3", user]))
      assert length(held) == 1
    end
  end

  test "a place is free on the other node the moment its holder ends", %{a: a, b: b} do
    for user <- 1..20 do
      assert {pid, {:ok, _}} = join(a, user)
      assert {_, {:error, :already_in_channel}} = join(b, user)
      stop_holder(a, pid)
      assert {other, {:ok, _}} = join(b, user)
      assert :ok = Cluster.call(b, Holder, :run, [other, Join, :leave, [@topic, user]])
      assert {_, {:ok, _}} = join(a, user)
    end
  end

  test "leave, holds? and members see what is whose", %{a: a, b: b} do
    {pid, {:ok, _}} = join(a, "alice")
    {_, {:ok, _}} = join(b, :bob)
    {_, {:ok, _}} = Cluster.join(b, "voice:2", "alice")
    assert members(a) == [:bob, "alice"]
    assert members(b) == [:bob, "alice"]
    assert Cluster.call(a, Holder, :run, [pid, Join, :holds?, [@topic, "alice"]])
    refute Cluster.call(a, Holder, :run, [pid, Join, :holds?, ["voice:2", "alice"]])
  end

  test "the places of a node that dies are free", %{a: a, b: b} do
    {_, {:ok, _}} = join(a, "alice")
    assert {_, {:error, :already_in_channel}} = join(b, "alice")
    Cluster.kill(a)
    eventually(fn -> match?({_, {:ok, _}}, join(b, "alice")) end, 20_000)
    assert members(b) == ["alice"]
  end

  test "a takeover ends the holder on the other node", %{a: a, b: b} do
    {old, {:ok, _}} = join(a, "alice")
    {new, {:ok, _}} = join(b, "alice", on_duplicate: :takeover, grace: 1_500)
    eventually(fn -> Cluster.told(a, old) == [@taken_over] end, 10_000)
    refute Cluster.call(a, Holder, :run, [old, Join, :holds?, [@topic, "alice"]])
    assert Cluster.call(b, Holder, :run, [new, Join, :holds?, [@topic, "alice"]])
    eventually(fn -> evicted?(a, old) end, 20_000)
    assert alive?(b, new)
    assert Cluster.told(b, new) == []
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
    assert {_, {:error, :already_in_channel}} = join(a, "alice")
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

  describe "a node that hangs" do
    setup %{b: b} do
      {_, {:ok, _}} = join(b, "held there")
      {_, 0} = System.cmd("kill", ["-STOP", b.os_pid])
      on_exit(fn -> System.cmd("kill", ["-CONT", b.os_pid], stderr_to_stdout: true) end)
    end

    @tag nodes: 3
    test "delays the first join, and no other; the rest still agree", %{nodes: [a, c, b]} do
      {ms, {_, {:ok, _}}} = timed(fn -> join(a, "alice") end)
      assert ms in 500..10_000
      assert {_, {:error, :already_in_channel}} = join(c, "alice")

      {ms, _} = timed(fn -> for user <- 1..5, do: {_, {:ok, _}} = join(a, user) end)
      assert ms < 2_000

      # Of those that answer one gets it, as before.
      assert [a, c] |> Cluster.race("voice:2", 20) |> Enum.map(&won/1) |> Enum.uniq() == [1]

      {_, 0} = System.cmd("kill", ["-CONT", b.os_pid])
      eventually(fn -> Cluster.call(a, Places.Cluster, :nodes, []) |> length() == 2 end, 30_000)
      assert {_, {:error, :already_in_channel}} = join(b, "alice")
    end

    test "gets its place back when it answers again", %{a: a, b: b} do
      {late, {:ok, _}} = join(a, "held there")
      {_, 0} = System.cmd("kill", ["-CONT", b.os_pid])
      eventually(fn -> evicted?(a, late) end, 30_000)
      assert members(a) == ["held there"]
      assert {_, {:error, :already_in_channel}} = join(a, "held there")
    end

    test "does not delay members/1 for long", %{a: a} do
      {ms, users} = timed(fn -> members(a) end)
      assert users == []
      assert ms < 10_000
    end
  end

  @tag nodes: 1
  test "a node without this library has nobody", %{a: a} do
    b = Cluster.start_node(start: false)
    on_exit(fn -> Cluster.stop(b) end)
    Cluster.connect([a, b])
    assert Cluster.connected(a) == [b.node]
    assert {_, {:ok, _}} = join(a, "alice")
    assert {_, {:error, :already_in_channel}} = join(a, "alice")
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

  defp timed(fun) do
    {us, result} = :timer.tc(fun)
    {div(us, 1_000), result}
  end
end
