defmodule Cromulent.Turn.WireIcmpTest do
  # ICMP errors as a client sees them: real closed ports, on Linux, where the kernel tells of them.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Client, Relay, Stun}

  @v6 {0, 0, 0, 0, 0, 0, 0, 1}

  setup do: {:ok, relay: start_relay()}

  # A port that was open a moment ago.
  defp closed(ip) do
    {socket, address} = peer(ip)
    :gen_udp.close(socket)
    address
  end

  defp allocated_to(relay, family, peers) do
    {client, relayed} = allocated(relay, attributes: [requested_address_family: family])
    {:ok, client} = Client.permit(client, peers)
    {client, relayed}
  end

  test "a closed port is told, over IPv4 and IPv6", %{relay: relay} do
    for {family, ip, error} <- [{:ipv4, {127, 0, 0, 1}, {3, 3, 0}}, {:ipv6, @v6, {1, 4, 0}}] do
      gone = closed(ip)
      {client, _} = allocated_to(relay, family, [gone])
      :ok = Client.send_to(client, gone, "anybody?")
      assert Client.recv(client, 5_000) == {:ok, {:icmp, gone, error}}
    end
  end

  test "it is told in an indication even where a channel is bound", %{relay: relay} do
    gone = closed({127, 0, 0, 1})
    {client, _} = allocated(relay)
    {:ok, client} = Client.bind(client, 0x4000, gone)
    :ok = Client.send_to(client, 0x4000, "anybody?")
    assert Client.recv(client, 5_000) == {:ok, {:icmp, gone, {3, 3, 0}}}
  end

  test "no datagram to or from another peer is lost by it", %{relay: relay} do
    gone = closed({127, 0, 0, 1})
    {socket, peer} = peer()
    {client, {ip, port}} = allocated_to(relay, :ipv4, [peer])

    for n <- 1..200 do
      :ok = Client.send_to(client, gone, "anybody?")
      :ok = Client.send_to(client, peer, "up #{n}")
      assert {{^ip, ^port}, data} = peer_recv(socket, 5_000)
      assert data == "up #{n}"
      :ok = :gen_udp.send(socket, ip, port, "down #{n}")
      assert data_after_errors(client, gone) == {:ok, {:data, peer, "down #{n}"}}
    end

    # some were told, not all
    {:ok, %{counters: counters}} = Relay.stats(relay.pid)
    assert counters.icmp_errors in 1..199
    assert counters.drop_send == 0
  end

  defp data_after_errors(client, gone) do
    case Client.recv(client, 5_000) do
      {:ok, {:icmp, ^gone, {3, 3, 0}}} -> data_after_errors(client, gone)
      other -> other
    end
  end

  # RFC 8656 §15. The loopback device takes packets of 65,536 bytes, an IPv4 datagram never has more.
  test "a datagram over TCP goes in one piece or not at all where DONT-FRAGMENT says so" do
    relay = start_relay(listen: ["tcp:127.0.0.1:0"])
    {socket, peer} = peer(@v6)
    :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)
    attributes = [requested_address_family: :ipv6]
    {client, relayed} = allocated(relay, transport: :tcp, attributes: attributes)
    {:ok, client} = Client.permit(client, [peer])
    data = :crypto.strong_rand_bytes(65_500)

    for _ <- 1..3 do
      send_whole(client, peer, data)
      assert {:ok, {:icmp, ^peer, {2, 0, mtu}}} = Client.recv(client, 5_000)
      assert mtu in 1280..65_536
      send_whole(client, peer, "short")
      assert peer_recv(socket) == {relayed, "short"}
      # what comes next may be cut again
      :ok = Client.send_to(client, peer, data)
      assert peer_recv(socket) == {relayed, data}
    end
  end

  defp send_whole(client, peer, data) do
    attributes = [xor_peer_address: peer, dont_fragment: true, data: data]
    :ok = Client.send_packet(client, Stun.encode(Stun.new(:indication, :send, attributes)))
  end
end
