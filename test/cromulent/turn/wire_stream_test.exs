defmodule Cromulent.Turn.WireStreamTest do
  # Clients over TCP: a real relay, real connections (RFC 8489 §6.2.2, RFC 8656 §12.5).
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{ChannelData, Client, ClientStream, Credentials, Relay, Stun}

  @listen ["tcp:127.0.0.1:0", "tcp:[::1]:0", "udp:127.0.0.1:0"]

  defp start(more \\ []), do: start_relay([listen: @listen] ++ more)
  defp tcp(relay, opts \\ []), do: client(relay, [transport: :tcp] ++ opts)
  defp counter(relay, name), do: elem(Relay.stats(relay.pid), 1).counters[name]

  defp allocated_tcp(relay, opts \\ []), do: allocated(relay, [transport: :tcp] ++ opts)

  defp binding_request(tid),
    do: Stun.encode(%{Stun.new(:request, :binding) | transaction_id: tid})

  # A peer that takes long datagrams, and many at once.
  defp large_peer(ip \\ {127, 0, 0, 1}) do
    {socket, peer} = peer(ip)
    :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)
    {socket, peer}
  end

  # A plain connection, for bytes that no client would send.
  defp connect(relay, opts \\ []) do
    {ip, port} = relay.address
    {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, active: false] ++ opts)
    socket
  end

  defp recv_frames(socket, count, got \\ <<>>) do
    case ChannelData.frame_size(got) do
      {:ok, size} when size <= byte_size(got) and count > 0 ->
        <<frame::binary-size(size), rest::binary>> = got
        [frame | recv_frames(socket, count - 1, rest)]

      _ when count == 0 ->
        assert got == <<>>
        []

      _ ->
        {:ok, more} = :gen_tcp.recv(socket, 0, 5_000)
        recv_frames(socket, count, got <> more)
    end
  end

  defp assert_closed(socket) do
    assert {:error, reason} = :gen_tcp.recv(socket, 0, 5_000)
    assert reason in [:closed, :econnreset]
  end

  # What waits in the listener's queue is connected too: only an answer shows that it was let in.
  defp assert_served(socket) do
    :ok = :gen_tcp.send(socket, binding_request(:crypto.strong_rand_bytes(12)))
    assert [_] = recv_frames(socket, 1)
    socket
  end

  describe "a connection" do
    setup do: {:ok, relay: start()}

    test "answers Binding with the address it comes from, over IPv4 and IPv6", %{relay: relay} do
      for address <- [relay.address, relay.address6] do
        client = tcp(relay, address: address)
        assert Client.binding(client) == {:ok, Client.local(client)}
      end
    end

    test "carries messages back to back, whatever they are cut into", %{relay: relay} do
      tids = for _ <- 1..1000, do: :crypto.strong_rand_bytes(12)
      bytes = tids |> Enum.map(&binding_request/1) |> IO.iodata_to_binary()
      whole = connect(relay)
      :ok = :gen_tcp.send(whole, bytes)

      cut = connect(relay, nodelay: true)
      first = binary_part(bytes, 0, 100)
      for <<byte <- first>>, do: :ok = :gen_tcp.send(cut, <<byte>>)
      :ok = :gen_tcp.send(cut, binary_part(bytes, 100, byte_size(bytes) - 100))

      for socket <- [whole, cut] do
        answers = for frame <- recv_frames(socket, 1000), do: elem(Stun.decode(frame), 1)
        assert Enum.map(answers, & &1.transaction_id) == tids
        assert Enum.all?(answers, &(&1.class == :success))
      end
    end

    test "is closed by bytes that can start no frame, after the answer to what came before", %{
      relay: relay
    } do
      for garbage <- [
            "GET / HTTP/1.1\r\n\r\n",
            <<0xFF>>,
            <<0, 1, 0, 0, 1, 2, 3, 4>>,
            <<0, 1, 0, 3>>
          ] do
        socket = connect(relay)
        tid = :crypto.strong_rand_bytes(12)
        :ok = :gen_tcp.send(socket, binding_request(tid))
        assert [answer] = recv_frames(socket, 1)
        assert {:ok, %Stun{transaction_id: ^tid}} = Stun.decode(answer)
        :ok = :gen_tcp.send(socket, garbage)
        assert_closed(socket)
      end

      eventually(fn -> counter(relay, :connections_broken) == 4 end)
    end

    test "stays where a message has no answer", %{relay: relay} do
      good = binding_request(:crypto.strong_rand_bytes(12))
      signed = Stun.encode(Stun.new(:request, :binding), fingerprint: true)
      size = byte_size(signed) - 1
      <<head::binary-size(size), last>> = signed

      for silent <- [
            Stun.encode(Stun.new(:indication, :binding)),
            Stun.encode(Stun.new(:request, 0x0FF)),
            Stun.encode(Stun.new(:success, :binding)),
            head <> <<Bitwise.bxor(last, 1)>>
          ] do
        socket = connect(relay)
        :ok = :gen_tcp.send(socket, [silent, good])
        assert [answer] = recv_frames(socket, 1)
        assert {:ok, %Stun{class: :success}} = Stun.decode(answer)
      end
    end

    test "takes no long frames before there is an allocation", %{relay: relay} do
      socket = connect(relay)
      :ok = :gen_tcp.send(socket, <<0x4000::16, 5000::16>>)
      assert_closed(socket)
    end

    test "is answered after the client has closed its half", %{relay: relay} do
      socket = connect(relay)
      tid = :crypto.strong_rand_bytes(12)
      :ok = :gen_tcp.send(socket, binding_request(tid))
      :ok = :gen_tcp.shutdown(socket, :write)
      assert [answer] = recv_frames(socket, 1)
      assert {:ok, %Stun{transaction_id: ^tid}} = Stun.decode(answer)
      assert_closed(socket)
    end
  end

  describe "an allocation over TCP" do
    setup do
      relay = start()
      {socket, peer} = large_peer()
      {client, relayed} = allocated_tcp(relay)
      {:ok, client} = Client.permit(client, [peer])
      {:ok, relay: relay, client: client, relayed: relayed, socket: socket, peer: peer}
    end

    test "carries payloads of every size both ways, in indications and channels", context do
      %{client: client, relayed: {ip, port} = relayed, socket: socket, peer: peer} = context

      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400, 1472, 9000, 65_507] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, peer, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 5_000) == {:ok, {:data, peer, data}}
      end

      {:ok, client} = Client.bind(client, 0x4001, peer)

      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400, 1472, 9000, 65_507] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, 0x4001, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 5_000) == {:ok, {:channel, 0x4001, data}}
      end
    end

    test "carries the longest datagrams of IPv6 too", %{relay: relay} do
      {socket, peer} = large_peer({0, 0, 0, 0, 0, 0, 0, 1})
      attributes = [requested_address_family: :ipv6]
      {client, {ip, port} = relayed} = allocated_tcp(relay, attributes: attributes)
      {:ok, client} = Client.permit(client, [peer])

      # An indication holds no more of them, a channel does.
      for size <- [65_503, 65_504] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, peer, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 5_000) == {:ok, {:data, peer, data}}
      end

      :ok = :gen_udp.send(socket, ip, port, :binary.copy("x", 65_505))
      {:ok, client} = Client.bind(client, 0x4001, peer)
      assert counter(relay, :drop_send) == 1
      data = :crypto.strong_rand_bytes(65_507)
      :ok = Client.send_to(client, 0x4001, data)
      assert peer_recv(socket) == {relayed, data}
      :ok = :gen_udp.send(socket, ip, port, data)
      assert Client.recv(client, 5_000) == {:ok, {:channel, 0x4001, data}}
    end

    test "drops what no datagram can hold, and goes on", context do
      %{relay: relay, client: client, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4001, peer)
      for size <- [65_508, 65_535], do: :ok = Client.send_to(client, 0x4001, big(size))
      :ok = Client.send_to(client, peer, big(65_508))
      :ok = Client.send_to(client, 0x4001, "marker")
      assert peer_recv(socket) == {context.relayed, "marker"}
      assert counter(relay, :drop_send) == 3
    end

    defp big(size), do: :binary.copy("x", size)

    test "relays many frames of one write in their order", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4001, peer)

      frames = for n <- 1..300, do: ChannelData.encode(0x4001, "#{n}", stream?: true)

      :ok = Client.send_packet(client, frames)
      for n <- 1..300, do: assert(peer_recv(socket) == {relayed, "#{n}"})
    end

    test "is listed with its transport", %{relay: relay, client: client} do
      {:ok, [allocation]} = Relay.list(10, relay.pid)
      {ip, port} = Client.local(client)
      assert allocation.transport == :tcp
      assert allocation.client == "#{:inet.ntoa(ip)}:#{port}"
      assert allocation.server == "127.0.0.1:#{elem(relay.address, 1)}"
    end

    test "ends with its connection, and its port is free", context do
      %{relay: relay, client: client, relayed: {ip, port}} = context
      Client.close(client)
      eventually(fn -> match?({:ok, []}, Relay.list(10, relay.pid)) end)
      assert counter(relay, :allocations_closed) == 1
      assert {:ok, socket} = :gen_udp.open(port, ip: ip)
      :gen_udp.close(socket)
    end

    test "is another than one of the same address over UDP", context do
      %{relay: relay, client: client, relayed: relayed} = context
      {ip, port} = Client.local(client)
      "udp:" <> _ = text = List.last(relay.info.listen)
      {:ok, socket} = :gen_udp.open(port, [:binary, ip: ip, active: true])
      {to_ip, to_port} = address(text)
      :ok = :gen_udp.connect(socket, to_ip, to_port)
      udp = %{client(relay) | socket: socket}
      {:ok, other, _udp} = Client.allocate(udp)
      assert other.relayed != relayed
      {:ok, both} = Relay.list(10, relay.pid)
      assert Enum.sort(Enum.map(both, & &1.transport)) == [:tcp, :udp]
    end

    test "refuses a second Allocate, and is released by Refresh", %{client: client, relay: relay} do
      assert {:error, {:refused, 437, _}, client} = Client.allocate(client)
      assert {:ok, 0, client} = Client.refresh(client, 0)
      assert {:ok, []} = Relay.list(10, relay.pid)
      # the connection stays, for the next one
      assert {:ok, _allocation, _client} = Client.allocate(client)
    end
  end

  describe "a client that does not read" do
    test "loses whole frames, and nothing else" do
      relay = start()
      {socket, peer} = peer()
      made = Credentials.generate("slow", secret())
      slow = connect(relay, recbuf: 4096)
      {ip, port} = by_hand(slow, made, peer)
      # Some megabytes, which nobody reads, in datagrams that tell their number and their content.
      payload = :binary.copy("x", 1000)
      for n <- 1..12_000, do: :gen_udp.send(socket, ip, port, [<<n::32>>, payload])
      eventually(fn -> counter(relay, :drop_queue) > 0 end, 10_000)

      # The relay is alive for others, and the connection for requests.
      assert {:ok, _} = Client.binding(tcp(relay))
      got = drain(slow, <<>>, [])
      assert length(got) > 10
      assert got == Enum.sort(got)
      assert length(got) + counter(relay, :drop_queue) <= counter(relay, :down_packets)
    end

    # Allocates and binds over a plain socket that a test controls byte by byte.
    defp by_hand(socket, made, peer) do
      client = %Client{
        socket: nil,
        server: nil,
        transport: :tcp,
        username: made.username,
        password: made.credential
      }

      ask = fn client, method, attributes ->
        {message, opts} = Client.prepare(client, method, attributes)
        :ok = :gen_tcp.send(socket, Stun.encode(message, opts))
        [frame] = recv_frames(socket, 1)
        {:ok, answer} = Stun.decode(frame)
        answer
      end

      udp = [requested_transport: :udp]
      client = Client.learn(client, ask.(client, :allocate, udp))
      relayed = client |> ask.(:allocate, udp) |> Stun.get(:xor_relayed_address)
      bind = [channel_number: 0x4000, xor_peer_address: peer]
      assert code(ask.(client, :channel_bind, bind)) == 200
      relayed
    end

    # Every frame is whole: the numbers of those that came.
    defp drain(socket, rest, numbers) do
      case ChannelData.frame_size(rest) do
        {:ok, size} when size <= byte_size(rest) ->
          <<frame::binary-size(size), rest::binary>> = rest
          assert {:ok, {0x4000, <<n::32, data::binary>>}} = ChannelData.decode(frame)
          assert data == :binary.copy("x", 1000)
          drain(socket, rest, [n | numbers])

        {:error, reason} ->
          flunk("out of step: #{inspect(reason)}")

        _more ->
          case :gen_tcp.recv(socket, 0, 500) do
            {:ok, more} -> drain(socket, rest <> more, numbers)
            {:error, :timeout} -> assert(rest == <<>>) && Enum.reverse(numbers)
          end
      end
    end
  end

  describe "limits" do
    test "close who is silent without an allocation, and nobody else" do
      relay = start(connection_idle: 1)
      silent = connect(relay)
      trickling = connect(relay)
      :ok = :gen_tcp.send(trickling, <<0, 1, 0>>)
      {_client, _relayed} = allocated_tcp(relay)
      assert_closed(silent)
      assert_closed(trickling)
      assert counter(relay, :connections_idle) == 2
      assert {:ok, [_]} = Relay.list(10, relay.pid)
    end

    test "refuse connections beyond the number per source, and in total" do
      relay = start(source_connections: 2, max_connections: 3)
      {_, port} = relay.address
      [first, _second] = for _ <- 1..2, do: relay |> connect() |> assert_served()
      assert_closed(connect(relay))

      {:ok, elsewhere} =
        :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, ip: {127, 0, 0, 2}])

      assert_served(elsewhere)

      {:ok, fourth} =
        :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false, ip: {127, 0, 0, 3}])

      assert_closed(fourth)
      eventually(fn -> counter(relay, :connections_refused) == 2 end)

      # Who leaves makes room.
      :gen_tcp.close(first)

      eventually(fn ->
        socket = connect(relay)
        :ok = :gen_tcp.send(socket, binding_request(:crypto.strong_rand_bytes(12)))
        match?({:ok, _}, :gen_tcp.recv(socket, 0, 1_000))
      end)
    end
  end

  test "a relay takes its TCP port again although connections were open when it ended" do
    relay = start()
    {_client, _relayed} = allocated_tcp(relay)
    {_, 0} = System.cmd("kill", ["-KILL", "#{relay.os_pid}"])

    eventually(
      fn ->
        match?({:ok, %{status: :up, restarts: 1}}, Relay.info(relay.pid))
      end,
      10_000
    )

    {:ok, info} = Relay.info(relay.pid)
    assert info.listen == relay.info.listen
    assert {:ok, _} = Client.binding(tcp(relay))
  end

  test "a port in use is told" do
    relay = start()
    {_, port} = relay.address
    taken = "tcp:127.0.0.1:#{port}"

    assert {:error, {:listen, ^taken, :eaddrinuse}} =
             Relay.start_link([name: nil] ++ options(listen: [taken]))
  end

  test "a client of a server that is not there is told so" do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    assert {:error, :econnrefused} = ClientStream.open({{127, 0, 0, 1}, port}, [])
  end
end
