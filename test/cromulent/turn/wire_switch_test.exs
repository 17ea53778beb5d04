defmodule Cromulent.Turn.WireSwitchTest do
  # Switch mode (docs/switch-mode.md): a real relay without relay sockets.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Check, Client, Relay, Stun}

  @udp {:requested_transport, :udp}
  # No address of this host, nor anywhere else.
  @virtual ["192.0.2.10", "192.0.2.11", "2001:db8::10"]

  defp start(more \\ []),
    do: start_relay(Keyword.merge([mode: :switch, relay_ip: @virtual, allow_peers: []], more))

  defp counters(relay), do: elem(Relay.stats(relay.pid), 1).counters

  # How many sockets the relay's process has.
  defp sockets(relay) do
    dir = "/proc/#{relay.os_pid}/fd"

    for fd <- File.ls!(dir),
        {:ok, "socket:" <> _} <- [File.read_link(Path.join(dir, fd))],
        reduce: 0,
        do: (n -> n + 1)
  end

  test "clients meet at addresses that do not exist, and no socket is opened for them" do
    for workers <- [1, 2] do
      relay = start(workers: workers)
      before = if File.dir?("/proc/self/fd"), do: sockets(relay)
      pairs = for _ <- 1..8, do: {allocated(relay), allocated(relay)}
      assert before == if(before, do: sockets(relay))

      for {{one, first}, {other, second}} <- pairs do
        assert elem(elem(first, 0), 0) == 192
        {:ok, one} = Client.bind(one, 0x4000, second)
        {:ok, other} = Client.permit(other, [first])
        :ok = Client.send_to(one, 0x4000, "there")
        assert Client.recv(other, 5_000) == {:ok, {:data, first, "there"}}
        :ok = Client.send_to(other, first, "back")
        assert Client.recv(one, 5_000) == {:ok, {:channel, 0x4000, "back"}}
      end

      assert %{up_packets: 16, pair_packets: 16, down_packets: 16} = counters(relay)
    end
  end

  test "nobody else can be a peer, whatever the policy says" do
    relay = start(allow_peers: ["127.0.0.0/8"])
    {_socket, peer} = peer()
    {client, {ip, _}} = allocated(relay)

    for stranger <- [peer, {{8, 8, 8, 8}, 53}, {{192, 0, 2, 12}, 50_000}] do
      assert request_code(client, :create_permission, xor_peer_address: stranger) == 403

      assert request_code(client, :channel_bind,
               channel_number: 0x4000,
               xor_peer_address: stranger
             ) ==
               403
    end

    # a port of ours where nobody is
    {:ok, client} = Client.permit(client, [{ip, 1}])

    assert request_code(client, :channel_bind, channel_number: 0x4000, xor_peer_address: {ip, 1}) ==
             403

    :ok = Client.send_to(client, {ip, 1}, "nobody")
    :ok = Client.send_to(client, peer, "outside")
    eventually(fn -> counters(relay).drop_no_permission == 2 end)
    assert counters(relay).up_packets == 0
  end

  test "ports are reserved, families paired and addresses used up as in open mode" do
    relay = start(relay_ports: "50000-50003", relay_ip: ["192.0.2.10", "2001:db8::10"])
    {answer, _} = once(challenged(relay), :allocate, [@udp, even_port: true])
    {_, even} = Stun.get(answer, :xor_relayed_address)
    token = Stun.get(answer, :reservation_token)
    assert rem(even, 2) == 0

    {_, {_, port}} = allocated(relay, attributes: [reservation_token: token])
    assert port == even + 1

    {answer, _} = once(challenged(relay), :allocate, [@udp, additional_address_family: :ipv6])
    assert length(Stun.get_all(answer, :xor_relayed_address)) == 2
    assert allocate_code(relay, [@udp]) == 200
    assert allocate_code(relay, [@udp]) == 508
  end

  # RFC 8016: both move, again and again, and neither sees of the other's moves.
  test "allocations move from socket to socket, whichever worker it meets" do
    for workers <- [1, 4] do
      relay = start(workers: workers, mobility: true)
      before = if File.dir?("/proc/self/fd"), do: sockets(relay)
      {one, first, ticket} = mobile(relay)
      {other, second, other_ticket} = mobile(relay)
      {:ok, one} = Client.bind(one, 0x4000, second)
      {:ok, other} = Client.bind(other, 0x4001, first)

      Enum.reduce(1..6, {{one, 0x4000, ticket}, {other, 0x4001, other_ticket}}, fn n, {a, b} ->
        {old, channel, ticket} = a
        {peer, peers_channel, _} = b
        {new, next} = moved(relay, old, ticket)
        # until he speaks from there he is where he was
        :ok = Client.send_to(peer, peers_channel, "before #{n}")
        assert Client.recv(old, 5_000) == {:ok, {:channel, channel, "before #{n}"}}
        :ok = Client.send_to(new, channel, "moved #{n}")
        assert Client.recv(peer, 5_000) == {:ok, {:channel, peers_channel, "moved #{n}"}}
        :ok = Client.send_to(peer, peers_channel, "after #{n}")
        assert Client.recv(new, 5_000) == {:ok, {:channel, channel, "after #{n}"}}
        assert {:error, {:refused, 437, _}, _} = Client.refresh(old)
        # the other one's turn
        {b, {new, channel, next}}
      end)

      assert {:ok, list} = Relay.list(10, relay.pid)
      assert Enum.sort(for a <- list, do: a.relayed) == Enum.sort([text(first), text(second)])

      assert %{allocations_moved: 6, pair_packets: 18, up_packets: 18, down_packets: 18} =
               counters(relay)

      assert before == if(before, do: sockets(relay))
    end
  end

  defp mobile(relay) do
    client = challenged(relay)
    {answer, _} = once(client, :allocate, [@udp, mobility_ticket: ""])
    {client, Stun.get(answer, :xor_relayed_address), Stun.get(answer, :mobility_ticket)}
  end

  # The same user at a new socket, with a ticket for the next time.
  defp moved(relay, client, ticket) do
    {:ok, new} = Client.open(relay.address, Map.to_list(Map.take(client, [:username, :password])))
    {:ok, answer, new} = Client.request(new, :refresh, mobility_ticket: ticket)
    {new, Stun.get(answer, :mobility_ticket)}
  end

  defp text({ip, port}), do: "#{:inet.ntoa(ip)}:#{port}"

  test "the check passes" do
    relay = start()
    target = %{address: relay.address, credentials: {:secret, &secret/0}, realm: nil}
    assert Check.run(target, fn step -> assert {:ok, _} = step.result end) == :ok
  end

  test "is refused with addresses that could not be told apart, or without pairs" do
    Process.flag(:trap_exit, true)

    for {opts, text} <- [
          {[
             relay_ip: ["192.0.2.10", "192.0.2.11"],
             external_ip: ["192.0.2.7/192.0.2.10", "192.0.2.7/192.0.2.11"]
           ], "relays"},
          {[pair: false], "pair"}
        ] do
      assert {:error, reason} = Relay.start_link([name: nil, mode: :switch] ++ options(opts))
      assert inspect(reason) =~ text
    end
  end

  test "allocations are not limited by file descriptors" do
    relay = start(max_allocations: 131_072, relay_ports: "1024-65535")
    assert {:ok, %{}} = Relay.stats(relay.pid)
    assert allocate_code(relay, [@udp]) == 200
  end
end
