defmodule Cromulent.Turn.JoinHangTest do
  # A node that hangs: its operating-system process is stopped, its connections stay open.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Cluster, Join, Places}

  @moduletag timeout: 120_000
  @refused {:error, :already_in_channel}
  @topic "voice:1"

  setup context do
    nodes = Cluster.start_nodes(context[:nodes] || 2)
    on_exit(fn -> Enum.each(nodes, &Cluster.stop/1) end)
    Cluster.connect(nodes)
    {:ok, nodes: nodes, a: hd(nodes), b: List.last(nodes)}
  end

  setup %{b: b} do
    {_, {:ok, _}} = join(b, "held there")
    {_, 0} = System.cmd("kill", ["-STOP", b.os_pid])
    on_exit(fn -> System.cmd("kill", ["-CONT", b.os_pid], stderr_to_stdout: true) end)
  end

  @tag nodes: 3
  test "delays the first join, and no other; the rest still agree", %{nodes: [a, c, b]} do
    {ms, {_, {:ok, _}}} = timed(fn -> join(a, "alice") end)
    assert ms in 500..10_000
    assert {_, @refused} = join(c, "alice")

    {ms, _} = timed(fn -> for user <- 1..5, do: {_, {:ok, _}} = join(a, user) end)
    assert ms < 5_000

    # Of those that answer one gets it, as before.
    assert [a, c] |> Cluster.race("voice:2", 20) |> Enum.map(&won/1) |> Enum.uniq() == [1]

    {_, 0} = System.cmd("kill", ["-CONT", b.os_pid])
    eventually(fn -> Cluster.call(a, Places.Cluster, :nodes, []) |> length() == 2 end, 30_000)
    assert {_, @refused} = join(b, "alice")
  end

  test "gets its place back when it answers again", %{a: a, b: b} do
    {late, {:ok, _}} = join(a, "held there")
    {_, 0} = System.cmd("kill", ["-CONT", b.os_pid])
    eventually(fn -> evicted?(a, late) end, 30_000)
    assert members(a) == ["held there"]
    assert {_, @refused} = join(a, "held there")
  end

  test "does not delay members/1 for long", %{a: a} do
    {ms, users} = timed(fn -> members(a) end)
    assert users == []
    assert ms < 10_000
  end

  defp join(node, user, opts \\ []), do: Cluster.join(node, @topic, user, opts)
  defp members(node), do: node |> Cluster.call(Join, :members, [@topic]) |> Enum.sort()
  defp won(results), do: Enum.count(results, &match?({:ok, _}, &1))
  defp evicted?(node, pid), do: not Cluster.call(node, Process, :alive?, [pid])

  defp timed(fun) do
    {us, result} = :timer.tc(fun)
    {div(us, 1_000), result}
  end
end
