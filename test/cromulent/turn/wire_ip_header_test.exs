defmodule Cromulent.Turn.WireIpHeaderTest do
  # What the IP header of a relayed datagram says of DSCP and ECN (RFC 8656 §13, §14). The sockets here are plain
  # ones, which the system tells of it.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Client, Credentials, Relay, Stun}

  # Expedited forwarding and ECT(0); CS1 and ECT(1).
  @marks [0xB8 + 2, 0x20 + 1]

  @loopback %{inet: {127, 0, 0, 1}, inet6: {0, 0, 0, 0, 0, 0, 0, 1}}

  # Tells the mark of each datagram that comes; sends with the one that was set.
  defp marked_socket(family) do
    told = if family == :inet, do: [recvtos: true], else: [recvtclass: true]
    opts = [:binary, family, ip: @loopback[family], active: true]
    {:ok, socket} = :gen_udp.open(0, opts ++ told)
    {:ok, address} = :inet.sockname(socket)
    {socket, address}
  end

  defp mark(socket, :inet, tos), do: :ok = :inet.setopts(socket, tos: tos)
  defp mark(socket, :inet6, tos), do: :ok = :inet.setopts(socket, tclass: tos)

  defp recv(socket) do
    receive do
      {:udp, ^socket, _, _, [{_, tos}], data} -> {tos, data}
    after
      5_000 -> flunk("nothing came")
    end
  end

  # A client whose socket is not connected: on connected ones Erlang may tell the mark of an earlier datagram.
  defp allocated_with_marks(relay, family, peer) do
    made = Credentials.generate("alice", secret())
    {socket, _} = marked_socket(family)
    server = address_of(relay, family)
    key = [username: made.username, password: made.credential]
    client = struct!(Client, [socket: socket, server: server] ++ key)
    asked = [requested_transport: :udp] ++ family_of(peer)
    {:error, challenge} = ask(client, :allocate, asked)
    client = Client.learn(client, challenge)
    {:success, answer} = ask(client, :allocate, asked)
    {:success, _} = ask(client, :create_permission, xor_peer_address: peer)
    {client, Stun.get(answer, :xor_relayed_address)}
  end

  defp ask(client, method, attributes) do
    {message, opts} = Client.prepare(client, method, attributes)
    send_packet(client, Stun.encode(message, opts))
    {_, packet} = recv(client.socket)
    {:ok, answer} = Stun.decode(packet)
    {answer.class, answer}
  end

  defp send_packet(%{server: {ip, port}} = client, packet),
    do: :ok = :gen_udp.send(client.socket, ip, port, packet)

  defp address_of(relay, :inet), do: relay.address
  defp address_of(relay, :inet6), do: relay.address6

  defp family_of({ip, _}),
    do: [requested_address_family: if(tuple_size(ip) == 4, do: :ipv4, else: :ipv6)]

  defp up(client, peer, data) do
    message = Stun.new(:indication, :send, xor_peer_address: peer, data: data)
    send_packet(client, Stun.encode(message))
  end

  defp one_worker(opts), do: start_relay([workers: 1] ++ opts)

  for {from, to} <- [inet: :inet, inet6: :inet6, inet: :inet6, inet6: :inet] do
    test "is copied both ways where it is to be kept, #{from} to #{to}" do
      relay = one_worker(keep_dscp: true)
      {socket, peer} = marked_socket(unquote(to))
      {client, {ip, port}} = allocated_with_marks(relay, unquote(from), peer)

      # one datagram's mark is not the next one's
      for tos <- @marks ++ [0] ++ @marks do
        mark(client.socket, unquote(from), tos)
        up(client, peer, "up")
        assert recv(socket) == {tos, "up"}
        mark(socket, unquote(to), tos)
        :ok = :gen_udp.send(socket, ip, port, "down")
        assert {^tos, packet} = recv(client.socket)
        assert packet =~ "down"
      end

      # the relay's own answers have none
      mark(client.socket, unquote(from), 0xB8)
      send_packet(client, Stun.encode(Stun.new(:request, :binding)))
      assert {0, _} = recv(client.socket)
    end
  end

  # Two clients as each other's peers: on one worker, on two, and over the relay sockets.
  for {name, opts} <- [
        memory: [workers: 1],
        rings: [workers: 2],
        sockets: [workers: 2, pair: false]
      ],
      keep <- [true, false] do
    test "is #{if keep, do: "copied", else: "that of best effort"} from client to client by way of #{name}" do
      relay = start_relay([keep_dscp: unquote(keep)] ++ unquote(opts))
      {one, first, other, second} = two_with_marks(relay)

      for tos <- @marks ++ [0] ++ @marks,
          {from, to, peer} <- [{one, other, second}, {other, one, first}] do
        mark(from.socket, :inet, tos)
        up(from, peer, "across")
        {told, packet} = recv(to.socket)
        assert packet =~ "across"
        assert told == if(unquote(keep), do: tos, else: 0)
      end

      paired = if unquote(name) == :sockets, do: 0, else: 10
      assert {:ok, %{counters: %{pair_packets: ^paired}}} = Relay.stats(relay.pid)
    end
  end

  # What lies in a ring is not what the socket had last.
  test "of one client is not another's on the way between workers" do
    relay = start_relay(keep_dscp: true, workers: 2)
    {one, _first, other, second} = two_with_marks(relay)
    mark(other.socket, :inet, 0xB8)
    up(other, second, "to itself")
    assert {0xB8, _} = recv(other.socket)
    mark(one.socket, :inet, 0)
    up(one, second, "across")
    assert {0, _} = recv(other.socket)
  end

  # With more than one worker on different ones.
  defp two_with_marks(relay, tries \\ 100) do
    nobody = {{127, 0, 0, 1}, 9}
    {one, first} = allocated_with_marks(relay, :inet, nobody)
    {other, second} = allocated_with_marks(relay, :inet, first)
    {:ok, list} = Relay.list(1000, relay.pid)
    both = for a <- list, a.relayed in [text(first), text(second)], do: a.worker

    if relay.info.workers == 1 or length(Enum.uniq(both)) == 2 do
      for {client, peer} <- [{one, second}, {other, second}],
          do: {:success, _} = ask(client, :create_permission, xor_peer_address: peer)

      {one, first, other, second}
    else
      assert tries > 0, "all clients came to one worker"
      for client <- [one, other], do: {:success, _} = ask(client, :refresh, lifetime: 0)
      two_with_marks(relay, tries - 1)
    end
  end

  defp text({ip, port}), do: "#{:inet.ntoa(ip)}:#{port}"

  test "is that of best effort otherwise" do
    relay = one_worker([])
    {socket, peer} = marked_socket(:inet)
    {client, {ip, port}} = allocated_with_marks(relay, :inet, peer)
    mark(client.socket, :inet, 0xBA)
    up(client, peer, "up")
    assert recv(socket) == {0, "up"}
    mark(socket, :inet, 0xBA)
    :ok = :gen_udp.send(socket, ip, port, "down")
    assert {0, _} = recv(client.socket)
  end

  # RFC 8656 §13, the alternate: what came does not matter.
  test "has the TTL of the system" do
    default = "/proc/sys/net/ipv4/ip_default_ttl" |> File.read!() |> String.trim()
    default = String.to_integer(default)
    relay = one_worker([])
    {socket, peer} = marked_socket(:inet)
    {client, {ip, port}} = allocated_with_marks(relay, :inet, peer)

    for s <- [socket, client.socket],
        do: :ok = :inet.setopts(s, recvtos: false, recvttl: true)

    for ttl <- [1, 17, 255] do
      :ok = :inet.setopts(client.socket, ttl: ttl)
      up(client, peer, "up")
      assert recv(socket) == {default, "up"}
      :ok = :inet.setopts(socket, ttl: ttl)
      :ok = :gen_udp.send(socket, ip, port, "down")
      assert {^default, packet} = recv(client.socket)
      assert packet =~ "down"
    end
  end

  # RFC 8656 §15, the alternate: a connection's own mark says nothing of what is in it.
  test "is that of best effort for what comes over a connection" do
    relay = one_worker(keep_dscp: true, listen: ["tcp:127.0.0.1:0", "udp:127.0.0.1:0"])
    {socket, peer} = marked_socket(:inet)
    client = client(relay, transport: :tcp)
    {:ok, _, client} = Client.allocate(client)
    {:ok, client} = Client.bind(client, 0x4000, peer)
    {udp, _} = allocated_with_marks(%{relay | address: udp_address(relay)}, :inet, peer)

    for _ <- 1..3 do
      # a datagram with a mark goes by before
      mark(udp.socket, :inet, 0xBA)
      up(udp, peer, "marked")
      assert recv(socket) == {0xBA, "marked"}
      :ok = Client.send_to(client, peer, "in an indication")
      assert recv(socket) == {0, "in an indication"}
      :ok = Client.send_to(client, 0x4000, "over a channel")
      assert recv(socket) == {0, "over a channel"}
    end
  end

  defp udp_address(relay),
    do: Enum.find_value(relay.info.listen, &(String.starts_with?(&1, "udp:") && address(&1)))

  test "on a wildcard address too" do
    relay = one_worker(keep_dscp: true, listen: ["udp:0.0.0.0:0", "udp:[::]:0"])
    {_, port} = relay.address
    {socket, peer} = marked_socket(:inet)
    {client, _} = allocated_with_marks(%{relay | address: {{127, 0, 0, 2}, port}}, :inet, peer)
    mark(client.socket, :inet, 0xB8)
    up(client, peer, "up")
    assert recv(socket) == {0xB8, "up"}
  end
end
