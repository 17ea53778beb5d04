defmodule Cromulent.Turn.AdmissionClusterTest do
  # Two nodes, each with a relay of its own: a relay knows those who hold a place on its node.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Cluster, Relay}

  @moduletag timeout: 120_000
  @soon 20_000

  setup_all do
    relay = [
      provider: :embedded,
      start: true,
      listen: "udp:127.0.0.1:0",
      relay_ip: "127.0.0.1",
      admission: :presence
    ]

    nodes = Cluster.start_nodes(2, env: relay)
    on_exit(fn -> Enum.each(nodes, &Cluster.stop/1) end)
    {:ok, nodes: nodes}
  end

  setup c do
    Cluster.connect(c.nodes)
    [a, b] = c.nodes
    {:ok, a: a, b: b, topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp grants(node) do
    {:ok, %{grants: count}} = Cluster.call(node, Relay, :stats, [])
    count
  end

  defp assert_grants(nodes, counts),
    do: eventually(fn -> Enum.map(nodes, &grants/1) == counts end, @soon)

  defp kill(node, pid), do: Cluster.call(node, Process, :exit, [pid, :kill])

  test "a grant goes with its holder from node to node", %{a: a, b: b, nodes: nodes, topic: topic} do
    {_, {:ok, _}} = Cluster.join(a, topic, "alice")
    {other, {:ok, _}} = Cluster.join(b, topic, "bob")
    assert_grants(nodes, [1, 1])
    {alice, {:ok, _}} = Cluster.join(b, topic, "alice", on_duplicate: :takeover, grace: 0)
    assert_grants(nodes, [0, 2])
    for pid <- [alice, other], do: kill(b, pid)
    assert_grants(nodes, [0, 0])
  end

  test "who lost his place when a netsplit healed loses his grant",
       %{nodes: [a, b] = nodes} = c do
    Cluster.split([a], [b])
    eventually(fn -> Cluster.connected(a) == [] and Cluster.connected(b) == [] end, @soon)
    {pid, {:ok, _}} = Cluster.join(a, c.topic, "alice")
    {_, {:ok, _}} = Cluster.join(b, c.topic, "alice")
    assert_grants(nodes, [1, 1])
    Cluster.connect(nodes)
    # The older stays.
    assert_grants(nodes, [1, 0])
    kill(a, pid)
    assert_grants(nodes, [0, 0])
  end
end
