defmodule Cromulent.Turn.WireDataTest do
  # The main rows of relayed data as a client sees them: a real relay, real sockets. The engine's own
  # tests have the rest, and every timer, in virtual time.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{ChannelData, Client, Relay, Stun}

  # One for each test: an allocation outlives its client's socket, and the next client may get the same port.
  setup do: {:ok, relay: start_relay()}

  # ---- data ----

  describe "Send and Data" do
    setup %{relay: relay} do
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client} = Client.permit(client, [peer])
      {:ok, client: client, relayed: relayed, socket: socket, peer: peer}
    end

    test "carry payloads of every size, byte by byte", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      {ip, port} = relayed

      :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)

      # 65,468: all that fits into a datagram with the head of an indication
      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400, 1472, 9000, 65_468] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, peer, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 2_000) == {:ok, {:data, peer, data}}
      end
    end

    test "drop what is too long for the client's transport, and nothing else", context do
      %{client: client, relayed: {ip, port}, socket: socket, peer: peer} = context
      for size <- [65_473, 65_507], do: :ok = :gen_udp.send(socket, ip, port, big(size))
      :ok = :gen_udp.send(socket, ip, port, "marker")
      assert Client.recv(client, 2_000) == {:ok, {:data, peer, "marker"}}
      {:ok, %{counters: counters}} = Relay.stats(context.relay.pid)
      assert counters.drop_send == 2
    end

    defp big(size), do: :binary.copy("x", size)

    test "look at the peer's IP and not at its port", context do
      {other, other_peer} = peer()
      {ip, port} = context.relayed
      :ok = :gen_udp.send(other, ip, port, "from another port")
      assert Client.recv(context.client, 2_000) == {:ok, {:data, other_peer, "from another port"}}
      :ok = Client.send_to(context.client, other_peer, "to another port")
      assert peer_recv(other) == {context.relayed, "to another port"}
    end

    test "drop what has no permission, in both directions", context do
      %{client: client, relayed: {ip, port}, socket: socket, peer: peer} = context
      {stranger, stranger_address} = peer({127, 0, 0, 2})
      # A connected socket fails to send after an ICMP error.
      :ok = :gen_udp.connect(stranger, ip, port)
      :ok = Client.send_to(client, stranger_address, "out")
      :ok = :gen_udp.send(stranger, "in")
      :ok = :gen_udp.send(socket, ip, port, "marker")
      assert Client.recv(client, 2_000) == {:ok, {:data, peer, "marker"}}
      assert :gen_udp.send(stranger, "in") == :ok

      {:ok, client} = Client.permit(client, [stranger_address])
      refute_relayed(stranger, fn -> Client.send_to(client, stranger_address, "marker") end)
    end

    test "drop indications that are not whole", context do
      %{client: client, socket: socket, peer: peer} = context

      for attributes <- [
            [xor_peer_address: peer],
            [data: "x"],
            [{:xor_peer_address, peer}, {:data, "x"}, {0x7F00, ""}],
            [{0x0012, <<0, 1>>}, {:data, "x"}]
          ] do
        Client.send_packet(client, Stun.encode(Stun.new(:indication, :send, attributes)))
      end

      refute_relayed(socket, fn -> Client.send_to(client, peer, "marker") end)
    end

    test "without an allocation are dropped in silence", %{relay: relay, peer: peer} do
      client = client(relay)
      packet = Stun.encode(Stun.new(:indication, :send, xor_peer_address: peer, data: "x"))
      assert_dropped(client, packet)
      assert_dropped(client, ChannelData.encode(0x4000, "x"))
    end

    test "do not suffer from a port that is closed", context do
      {gone, gone_address} = peer()
      :gen_udp.close(gone)

      for n <- 1..20 do
        :ok = Client.send_to(context.client, gone_address, "anybody?")
        :ok = Client.send_to(context.client, context.peer, "#{n}")
        assert peer_recv(context.socket) == {context.relayed, "#{n}"}
      end
    end

    test "go over IPv6", %{relay: relay} do
      {socket, peer} = peer({0, 0, 0, 0, 0, 0, 0, 1})

      for address <- [relay.address, relay.address6] do
        {client, {ip, port} = relayed} =
          allocated(relay, address: address, attributes: [requested_address_family: :ipv6])

        {:ok, client} = Client.permit(client, [peer])
        :ok = Client.send_to(client, peer, "six")
        assert peer_recv(socket) == {relayed, "six"}
        :ok = :gen_udp.send(socket, ip, port, "back")
        assert Client.recv(client, 2_000) == {:ok, {:data, peer, "back"}}
      end
    end

    test "take DONT-FRAGMENT", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      attributes = [xor_peer_address: peer, data: "whole", dont_fragment: true]
      Client.send_packet(client, Stun.encode(Stun.new(:indication, :send, attributes)))
      assert peer_recv(socket) == {relayed, "whole"}
    end
  end

  # ---- channels ----

  describe "channels" do
    setup %{relay: relay} do
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client: client, relayed: relayed, socket: socket, peer: peer}
    end

    test "have numbers in their range only", %{client: client, peer: peer} do
      for number <- [0x0000, 0x3FFF, 0x8000, 0xFFFF] do
        attributes = [channel_number: number, xor_peer_address: peer]
        assert request_code(client, :channel_bind, attributes) == 400, "#{number}"
      end

      assert request_code(client, :channel_bind, channel_number: 0x4000) == 400
      assert request_code(client, :channel_bind, xor_peer_address: peer) == 400
      assert {:ok, client} = Client.bind(client, 0x4FFF, peer)
      assert {:ok, _} = Client.bind(client, 0x4FFF, peer)
    end

    test "are married to their peer", %{client: client, peer: {ip, port} = peer} do
      {:ok, client} = Client.bind(client, 0x4000, peer)
      bind = &request_code(client, :channel_bind, channel_number: &1, xor_peer_address: &2)
      assert bind.(0x4000, {ip, port - 1}) == 400
      assert bind.(0x4001, peer) == 400
      assert bind.(0x4001, {ip, port - 1}) == 200
      assert bind.(0x4000, peer) == 200
      assert bind.(0x4002, {{0, 0, 0, 0, 0, 0, 0, 1}, port}) == 443
    end

    test "to a forbidden peer get 403, and no permission" do
      relay = start_relay(allow_peers: [])
      {client, _} = allocated(relay)
      attributes = [channel_number: 0x4000, xor_peer_address: {{10, 0, 0, 1}, 9}]
      assert request_code(client, :channel_bind, attributes) == 403
      assert {:ok, [%{permissions: 0, channels: 0}]} = Relay.list(10, relay.pid)
    end

    test "carry payloads of every size, byte by byte", context do
      %{client: client, relayed: {ip, port} = relayed, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)

      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400, 1472, 9000, 65_503] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, 0x4000, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 2_000) == {:ok, {:channel, 0x4000, data}}
      end
    end

    test "leave other ports of the peer to Data indications", context do
      %{client: client, relayed: {ip, port}, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      {other, other_peer} = peer()
      :ok = :gen_udp.send(other, ip, port, "x")
      assert Client.recv(client, 2_000) == {:ok, {:data, other_peer, "x"}}
      :ok = Client.send_to(client, peer, "Send works too")
      assert peer_recv(context.socket) == {context.relayed, "Send works too"}
    end

    test "that nobody bound carry nothing", context do
      %{client: client, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = Client.send_to(client, 0x4001, "nowhere")
      # 4 bytes of payload are announced, and 2 are there
      :ok = Client.send_packet(client, <<0x4000::16, 4::16, "ab">>)
      refute_relayed(socket, fn -> Client.send_to(client, 0x4000, "marker") end)
    end

    test "belong to one allocation", %{relay: relay, peer: peer} = context do
      {:ok, client} = Client.bind(context.client, 0x4000, peer)
      {other, other_relayed} = allocated(relay)
      {other_socket, other_peer} = peer()
      {:ok, other} = Client.bind(other, 0x4000, other_peer)
      :ok = Client.send_to(client, 0x4000, "mine")
      :ok = Client.send_to(other, 0x4000, "theirs")
      assert peer_recv(context.socket) == {context.relayed, "mine"}
      assert peer_recv(other_socket) == {other_relayed, "theirs"}
    end

    test "pass padding by", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = Client.send_packet(client, ChannelData.encode(0x4000, "abc", stream?: true))
      assert peer_recv(socket) == {relayed, "abc"}
    end

    test "between two clients of the relay go through it", %{relay: relay} do
      for _ <- 1..4 do
        {one, first} = allocated(relay)
        {other, second} = allocated(relay)
        {:ok, one} = Client.bind(one, 0x4000, second)
        {:ok, other} = Client.bind(other, 0x4ABC, first)
        :ok = Client.send_to(one, 0x4000, "there")
        assert Client.recv(other, 2_000) == {:ok, {:channel, 0x4ABC, "there"}}
        :ok = Client.send_to(other, 0x4ABC, "back")
        assert Client.recv(one, 2_000) == {:ok, {:channel, 0x4000, "back"}}
      end
    end
  end

  # ---- timers, short ones ----

  describe "time" do
    test "ends allocations, and gives their ports back" do
      relay = start_relay(lifetime_default: 1, lifetime_max: 1)
      {client, {ip, port}} = allocated(relay)
      assert {:ok, [_]} = Relay.list(10, relay.pid)
      eventually(fn -> Relay.list(10, relay.pid) == {:ok, []} end, 5_000)
      assert request_code(client, :refresh, []) == 437

      # the wheel of allocations turns once a second
      {:ok, socket} = eventually(fn -> opened(:gen_udp.open(port, ip: ip)) end, 5_000)
      :gen_udp.close(socket)

      eventually(fn ->
        {:ok, %{allocations: now, counters: counters}} = Relay.stats(relay.pid)
        {now, counters.allocations_expired} == {0, 1}
      end)
    end

    defp opened({:ok, socket}), do: {:ok, socket}
    defp opened(_error), do: nil

    test "makes nonces stale, and the allocation goes on" do
      relay = start_relay(nonce_lifetime: 1)
      {client, _} = allocated(relay)

      eventually(
        fn ->
          {answer, _} = once(client, :refresh, [])
          code(answer) == 438
        end,
        5_000
      )

      assert {:ok, 600, _} = Client.refresh(client)
    end

    test "ends permissions, whatever traffic there is" do
      relay = start_relay(permission_lifetime: 1)
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client} = Client.permit(client, [peer])
      Client.send_to(client, peer, "first")
      assert peer_recv(socket) == {relayed, "first"}

      eventually(
        fn ->
          Client.send_to(client, peer, "again")
          {:ok, stats} = Relay.stats(relay.pid)
          stats.counters.drop_no_permission > 0
        end,
        5_000
      )

      {:ok, client} = Client.permit(client, [peer])
      refute_relayed_late(socket, fn -> Client.send_to(client, peer, "marker") end)
    end

    # After what came while there was a permission, only the marker comes.
    defp refute_relayed_late(socket, send_marker) do
      send_marker.()

      case peer_recv(socket) do
        {_, "again"} -> refute_relayed_late(socket, fn -> :ok end)
        {_, data} -> assert data == "marker"
      end
    end
  end

  # ---- bandwidth ----

  describe "a user's bandwidth" do
    @rate 100_000
    @size 1000

    # More than there is to be had: what is above the rate of the time that it took is dropped, and the rest comes.
    test "is kept, both ways, and for all allocations of the user together" do
      relay = start_relay(user_bandwidth: @rate, workers: 1)
      {socket, peer} = peer()
      :ok = :inet.setopts(socket, recbuf: 1_048_576)
      start = now()
      clients = for _ <- 1..2, do: bound(relay, peer)
      data = big(@size)

      for _ <- 1..100, {client, {ip, port}} <- clients do
        :ok = Client.send_to(client, 0x4000, data)
        :ok = :gen_udp.send(socket, ip, port, data)
      end

      counters = settled(relay, 400)
      most = div(@rate, @size) + div((now() - start) * @rate, 1000 * @size) + 1

      for passed <- [counters.up_packets, counters.down_packets],
          do: assert(passed in div(@rate, @size)..most)

      assert counters.drop_bandwidth == 400 - counters.up_packets - counters.down_packets
      assert counters.drop_bandwidth >= 400 - 2 * most
      got = for _ <- 1..counters.up_packets, do: elem(peer_recv(socket), 1)
      assert Enum.uniq(got) == [data]

      # Somebody else has not spent his, and time gives more.
      {other, relayed} = bound(relay, peer, user: "ben")
      :ok = Client.send_to(other, 0x4000, "at once")
      assert peer_recv(socket) == {relayed, "at once"}
      {client, relayed} = hd(clients)

      again = fn ->
        :ok = Client.send_to(client, 0x4000, data)
        receive(do: ({:udp, ^socket, _, _, ^data} -> relayed), after: (20 -> nil))
      end

      assert eventually(again, 10_000) == relayed
    end

    test "is not limited without the option" do
      relay = start_relay(workers: 1)
      {socket, peer} = peer()
      :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)
      {client, relayed} = bound(relay, peer)
      data = big(60_000)

      for _ <- 1..20 do
        :ok = Client.send_to(client, 0x4000, data)
        assert peer_recv(socket) == {relayed, data}
      end
    end

    defp bound(relay, peer, opts \\ []) do
      {client, relayed} = allocated(relay, opts)
      {:ok, client} = Client.bind(client, 0x4000, peer)
      {client, relayed}
    end

    # The relay's counters when it has seen so many datagrams.
    defp settled(relay, count) do
      seen = fn ->
        {:ok, %{counters: counters}} = Relay.stats(relay.pid)
        seen = counters.up_packets + counters.down_packets + counters.drop_bandwidth
        seen == count and counters
      end

      eventually(seen, 10_000)
    end

    defp now, do: System.monotonic_time(:millisecond)
  end

  test "counters agree with what a client did" do
    relay = start_relay(workers: 1)
    {socket, peer} = peer()
    client = client(relay)
    for _ <- 1..3, do: {:ok, _} = Client.binding(client)
    {:ok, allocation, client} = Client.allocate(client)
    {:ok, client} = Client.permit(client, [peer])
    {:ok, client} = Client.bind(client, 0x4000, peer)
    assert request_code(client, :channel_bind, channel_number: 1, xor_peer_address: peer) == 400
    assert request_code(client, :create_permission, xor_peer_address: {{10, 0, 0, 1}, 1}) == 403
    for _ <- 1..10, do: Client.send_to(client, 0x4000, "12345")
    for _ <- 1..10, do: peer_recv(socket)
    {ip, port} = allocation.relayed
    for _ <- 1..4, do: :gen_udp.send(socket, ip, port, "123")
    for _ <- 1..4, do: {:ok, _} = Client.recv(client, 2_000)
    Client.send_to(client, 0x4001, "unbound")
    Client.send_to(client, {{127, 0, 0, 9}, 9}, "no permission")
    {:ok, 700, client} = Client.refresh(client, 700)
    {:ok, 0, _} = Client.refresh(client, 0)
    Client.send_to(client, peer, "no allocation")
    Client.send_packet(client, "rubbish")
    {:ok, _} = Client.binding(client)

    {:ok, %{counters: counters, allocations: 0}} = Relay.stats(relay.pid)

    expected = %{
      bindings: 4,
      challenges: 1,
      allocations_created: 1,
      allocations_released: 1,
      permissions: 2,
      channels: 1,
      refreshes: 2,
      up_packets: 10,
      up_bytes: 50,
      down_packets: 4,
      down_bytes: 12,
      errors: 2,
      forbidden: 1,
      drop_no_channel: 1,
      drop_no_permission: 1,
      drop_no_allocation: 1,
      drop_malformed: 1,
      unauthenticated: 0
    }

    assert Map.take(counters, Map.keys(expected)) == expected
  end
end
