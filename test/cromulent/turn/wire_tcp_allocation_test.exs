defmodule Cromulent.Turn.WireTcpAllocationTest do
  # TCP allocations (RFC 6062): a real relay, clients over TCP and TLS, peers with real sockets.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, except: [address: 1]
  import Cromulent.Turn.TcpPeer
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Certificates, Client, Config, Relay, Stun}

  @listen ["tcp:127.0.0.1:0", "tcp:[::1]:0", "udp:127.0.0.1:0"]
  @ipv6 [requested_address_family: :ipv6]

  setup_all do: {:ok, made: Certificates.make()}

  defp start(more \\ []), do: start_relay([listen: @listen] ++ more)
  defp with_tls(made), do: [cert: made.cert, key: made.key]

  defp address(text) do
    {:ok, {_, ip, port}} = Config.parse_listener("tcp:" <> text)
    {ip, port}
  end

  defp stats(relay), do: elem(Relay.stats(relay.pid), 1)
  defp counter(relay, name), do: stats(relay).counters[name]

  defp tcp_client(relay, opts \\ []), do: client(relay, [transport: :tcp] ++ opts)

  # A client with an allocation: `{client, relayed address}`.
  defp tcp_allocated(relay, opts \\ []) do
    {attributes, opts} = Keyword.pop(opts, :attributes, [])
    relay |> tcp_client(opts) |> allocate_tcp(attributes)
  end

  # A bound connection and the peer's end of it.
  defp joined(client, listener, peer, first \\ <<>>) do
    id = connect(client, peer)
    {socket, from} = accept(listener)
    {bind!(client, id, first), socket, from}
  end

  defp assert_both_ways(data, socket) do
    up = :crypto.strong_rand_bytes(100_000)
    down = :crypto.strong_rand_bytes(100_000)
    :ok = send_data(data, up)
    :ok = send_data(socket, down)
    assert recv!(socket, byte_size(up)) == up
    assert recv!(data, byte_size(down)) == down
  end

  describe "an allocation" do
    test "listens at its address, for TCP only" do
      relay = start()
      {client, {ip, port} = relayed} = tcp_allocated(relay)
      {socket, _} = dial(relayed)
      assert_closed(socket)
      {:ok, udp} = :gen_udp.open(port, [:binary, :inet, ip: ip])
      :gen_udp.close(udp)

      assert {:ok, [%{protocol: :tcp, transport: :tcp, tcp_peers: 0, relayed: address}]} =
               Relay.list(10, relay.pid)

      assert address(address) == relayed
      assert {:ok, 600, client} = Client.refresh(client)
      assert {:ok, 0, _} = Client.refresh(client, 0)
      assert {:error, :econnrefused} = :gen_tcp.connect(ip, port, [])
    end

    test "is refused with what is UDP's, and where the option is off" do
      relay = start()

      for attributes <- [
            [dont_fragment: true],
            [even_port: false],
            [reservation_token: "12345678"]
          ],
          do:
            assert(
              {:error, {:refused, 400, _}, _} =
                Client.request(
                  tcp_client(relay),
                  :allocate,
                  [requested_transport: :tcp] ++ attributes
                )
            )

      off = start(tcp_allocations: false)

      assert {:error, {:refused, 442, _}, _} =
               Client.request(tcp_client(off), :allocate, requested_transport: :tcp)
    end

    test "has no channels and sends no datagrams" do
      relay = start()
      {client, _} = tcp_allocated(relay)
      {_, peer} = peer()
      {:ok, client} = Client.permit(client, [peer])
      assert {:error, {:refused, 403, _}, client} = Client.bind(client, 0x4000, peer)
      :ok = Client.send_to(client, peer, "hello")
      {:ok, _} = Client.binding(client)
      assert counter(relay, :drop_unexpected) == 1
      assert counter(relay, :up_packets) == 0
    end
  end

  describe "Connect" do
    test "reaches a peer from the relayed address, over TCP and TLS, IPv4 and IPv6", %{made: made} do
      for workers <- [1, 2], transport <- [:tcp, :tls] do
        relay = start([workers: workers] ++ with_tls(made))

        for {address, ip, attributes} <- [
              {relay.address, {127, 0, 0, 1}, []},
              {relay.address6, {0, 0, 0, 0, 0, 0, 0, 1}, @ipv6}
            ] do
          {client, relayed} =
            tcp_allocated(relay, address: address, attributes: attributes, transport: transport)

          {listener, peer} = listen(ip)
          {data, socket, from} = joined(client, listener, peer)
          assert from == relayed
          assert_both_ways(data, socket)
        end
      end
    end

    test "tells at once of a port that is closed, and 403, 437, 443, 446" do
      relay = start()
      {client, relayed} = tcp_allocated(relay)
      assert connect_code(client, closed_port()) == 447
      assert connect_code(client, {{10, 0, 0, 1}, 80}) == 403
      assert connect_code(client, closed_port({0, 0, 0, 0, 0, 0, 0, 1})) == 443
      assert connect_code(client, relayed) == 403
      {listener, peer} = listen()
      id = connect(client, peer)
      {_socket, _} = accept(listener)
      assert connect_code(client, peer) == 446
      data = bind!(client, id)
      assert connect_code(client, peer) == 446
      assert connect_code(tcp_client(relay), peer) == 437
      close(data)
      assert counter(relay, :tcp_failed) == 1
    end

    test "does not reach what else listens on this host" do
      relay = start(allow_peers: [])
      {client, _} = tcp_allocated(relay)
      {_, peer} = listen()
      assert connect_code(client, relay.address) == 403
      assert connect_code(client, peer) == 403
      # but other allocations
      {other, relayed} = tcp_allocated(relay, user: "bob")
      {:ok, other} = Client.permit(other, [{{127, 0, 0, 1}, 0}])
      id = connect(client, relayed)
      {_, id2} = attempt(other)
      assert_both_ways(bind!(client, id), bind!(other, id2))
    end

    test "is bounded for an allocation and for the relay" do
      relay = start(allocation_tcp_peers: 2, max_tcp_peers: 3)
      {client, relayed} = tcp_allocated(relay)
      {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 0}])
      {listener, peer} = listen()
      connect(client, peer)
      {socket, _} = dial(relayed)
      {_, _} = attempt(client)
      assert connect_code(client, elem(listen(), 1)) == 508
      {refused, _} = dial(relayed)
      assert_closed(refused)
      {other, _} = tcp_allocated(relay, user: "bob")
      connect(other, peer)
      assert connect_code(other, elem(listen(), 1)) == 508
      assert {:ok, list} = Relay.list(10, relay.pid)
      assert Enum.sort(Enum.map(list, & &1.tcp_peers)) == [1, 2]
      close(socket)
      :gen_tcp.close(listener)
    end
  end

  describe "ConnectionBind" do
    test "finds its allocation, whichever worker it meets", %{made: made} do
      for transport <- [:tcp, :tls] do
        relay = start([workers: 2] ++ with_tls(made))
        {client, _} = tcp_allocated(relay, transport: transport)

        for _ <- 1..12 do
          {listener, peer} = listen()
          # what comes right behind the request is the peer's
          first = Stun.encode(Stun.new(:request, :binding))
          {data, socket, _} = joined(client, listener, peer, first)
          assert recv!(socket, byte_size(first)) == first
          assert_both_ways(data, socket)
          close(data)
          assert_closed(socket)
        end

        counters = for worker <- stats(relay).workers, do: worker.counters
        assert Enum.sort(Enum.map(counters, & &1.tcp_bound)) == [0, 12]
        # one in 4096 runs meets the same worker each time
        assert Enum.all?(counters, &(&1.connections > 0))
        assert Enum.sum(Enum.map(counters, & &1.connections)) == 13
      end
    end

    test "is refused without, with a wrong and with another user's id, and twice" do
      relay = start()
      {client, _} = tcp_allocated(relay)
      {listener, peer} = listen()
      id = connect(client, peer)
      {_, _} = accept(listener)
      other = %{client(relay, user: "mallory", transport: :tcp) | realm: nil}
      assert {441, _} = bind(other, id)

      for wrong <- [Bitwise.bxor(id, 1), Bitwise.bxor(id, 0x80000000)],
          do: assert({400, _} = bind(client, wrong))

      data = open(client)
      knowing = challenge(data, client)
      {message, opts} = Client.prepare(knowing, :connection_bind, [])
      :ok = send_data(data, Stun.encode(message, opts))
      assert code(message(data)) == 400
      # the same connection may try again
      assert {200, _} = bind_on(data, client, id)
      assert {400, _} = bind(client, id)

      udp =
        client(relay,
          address: relay.info.listen |> List.last() |> Cromulent.Turn.Helpers.address()
        )

      assert {:error, {:refused, 400, _}, _} =
               Client.request(udp, :connection_bind, connection_id: id)

      assert {:error, {:refused, 400, _}, _} =
               Client.request(client, :connection_bind, connection_id: id)
    end

    test "leaves nothing to be read as TURN", %{made: made} do
      relay = start(with_tls(made))

      for transport <- [:tcp, :tls] do
        {client, _} = tcp_allocated(relay, transport: transport)
        {listener, peer} = listen()
        {data, socket, _} = joined(client, listener, peer)

        for bytes <- [
              Stun.encode(Stun.new(:request, :binding)),
              <<0x4000::16, 4::16, "chan">>,
              <<0xFF, 0x16, 3, 1>>,
              "GET / HTTP/1.1\r\n\r\n"
            ] do
          :ok = send_data(data, bytes)
          assert recv!(socket, byte_size(bytes)) == bytes
          :ok = send_data(socket, bytes)
          assert recv!(data, byte_size(bytes)) == bytes
        end
      end
    end

    test "does not come in time" do
      # half a minute in virtual time: test_turn_tcp. Here that the sockets close with the allocation
      relay = start()
      {client, relayed} = tcp_allocated(relay)
      {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 0}])
      {listener, peer} = listen()
      id = connect(client, peer)
      {out, _} = accept(listener)
      {incoming, _} = dial(relayed)
      {_, _} = attempt(client)
      {:ok, 0, client} = Client.refresh(client, 0)
      assert_closed(out)
      assert_closed(incoming)
      assert {400, _} = bind(client, id)
    end
  end

  describe "a peer that connects" do
    test "is closed at once without a permission, and nobody is told" do
      relay = start()
      {client, relayed} = tcp_allocated(relay)
      {socket, _} = dial(relayed)
      assert_closed(socket)
      {:ok, _} = Client.binding(client)
      %{socket: control} = client
      refute_received {:frame, ^control, <<0x001C::16, _::binary>>}
      assert counter(relay, :tcp_refused) == 1
    end

    test "is announced, and what it sends is kept until it is bound", %{made: made} do
      relay = start([workers: 2] ++ with_tls(made))

      for transport <- [:tcp, :tls] do
        {client, relayed} = tcp_allocated(relay, transport: transport)
        {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 0}])
        {socket, address} = dial(relayed)
        early = :crypto.strong_rand_bytes(65_536)
        :ok = send_data(socket, early)
        assert {^address, id} = attempt(client)
        data = bind!(client, id)
        assert recv!(data, byte_size(early)) == early
        assert_both_ways(data, socket)
      end
    end

    test "may be done before it is bound" do
      relay = start()
      {client, relayed} = tcp_allocated(relay)
      {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 0}])
      {socket, _} = dial(relayed)
      :ok = send_data(socket, "all that I had to say")
      close(socket)
      {_, id} = attempt(client)
      data = bind!(client, id)
      assert recv!(data, 21) == "all that I had to say"
      assert_closed(data)
    end
  end

  describe "a joined connection" do
    setup %{made: made} do
      relay = start([workers: 2] ++ with_tls(made))
      {client, _} = tcp_allocated(relay)
      {listener, peer} = listen()
      {:ok, relay: relay, client: client, listener: listener, peer: peer}
    end

    test "ends half by half, after everything has arrived", context do
      %{relay: relay, client: client, listener: listener, peer: peer} = context
      bytes = :crypto.strong_rand_bytes(3_000_000)

      for {ender, other} <- [{:client, :peer}, {:peer, :client}] do
        {data, socket, _} = joined(client, listener, peer)
        ends = %{client: data, peer: socket}
        sender = Task.async(fn -> send_and_end(ends[ender], bytes) end)
        assert recv!(ends[other], byte_size(bytes)) == bytes
        assert_closed(ends[other])
        :ok = Task.await(sender)
        # the other half is still open
        :ok = send_data(ends[other], "thank you")
        close(ends[other])
        assert recv!(ends[ender], 9) == "thank you"
        assert_closed(ends[ender])
        eventually(fn -> match?({:ok, [%{tcp_peers: 0}]}, Relay.list(10, relay.pid)) end)
      end
    end

    test "over TLS ends after everything has arrived, too", context do
      %{relay: relay, listener: listener, peer: peer} = context
      {client, _} = tcp_allocated(relay, transport: :tls)
      bytes = :crypto.strong_rand_bytes(3_000_000)

      for {ender, other} <- [{:client, :peer}, {:peer, :client}] do
        {data, socket, _} = joined(client, listener, peer)
        ends = %{client: data, peer: socket}

        sender =
          Task.async(fn ->
            :ok = send_data(ends[ender], bytes)
            close(ends[ender])
          end)

        assert recv!(ends[other], byte_size(bytes)) == bytes
        assert_closed(ends[other])
        :ok = Task.await(sender)
        close(ends[other])
      end

      eventually(fn ->
        {:ok, list} = Relay.list(10, relay.pid)
        Enum.all?(list, &(&1.tcp_peers == 0))
      end)
    end

    test "that is reset at one end is closed at the other", context do
      %{relay: relay, client: client, listener: listener, peer: peer} = context

      for ender <- [:client, :peer] do
        {data, socket, _} = joined(client, listener, peer)
        ends = %{client: data, peer: socket}
        {_, reset} = ends[ender]
        :ok = :inet.setopts(reset, linger: {true, 0})
        :gen_tcp.close(reset)
        [other] = [:client, :peer] -- [ender]
        assert_closed(ends[other])
        close(ends[other])
        eventually(fn -> match?({:ok, [%{tcp_peers: 0}]}, Relay.list(10, relay.pid)) end)
      end
    end

    test "ends with its allocation: released, killed, its control connection gone", context do
      %{relay: relay, listener: listener, peer: peer} = context

      for how <- [:released, :killed, :gone] do
        {client, _} = tcp_allocated(relay, user: "#{how}")
        {data, socket, _} = joined(client, listener, peer)
        assert_both_ways(data, socket)

        case how do
          :released -> {:ok, 0, _} = Client.refresh(client, 0)
          :killed -> {:ok, 1} = Relay.kill({:user, "killed"}, relay.pid)
          :gone -> Client.close(client)
        end

        assert_closed(data)
        assert_closed(socket)
      end
    end

    test "is counted in bytes", context do
      %{relay: relay, client: client, listener: listener, peer: peer} = context
      {data, socket, _} = joined(client, listener, peer)
      assert_both_ways(data, socket)
      assert {:ok, [info]} = Relay.list(10, relay.pid)
      assert %{up_bytes: 100_000, down_bytes: 100_000, up_packets: 0, tcp_peers: 1} = info
      assert counter(relay, :tcp_connected) == 1
      assert counter(relay, :tcp_bound) == 1
    end

    # Whoever sends faster than the other end reads is stopped: nothing is lost, and the relay
    # keeps no more than a buffer.
    test "is as slow as its slower end", context do
      %{relay: relay, listener: listener, peer: peer} = context

      for transport <- [:tcp, :tls], slow <- [:peer, :client] do
        {client, _} = tcp_allocated(relay, transport: transport, user: "#{transport}#{slow}")
        {data, socket, _} = joined(client, listener, peer)
        ends = %{client: data, peer: socket}
        [fast] = [:client, :peer] -- [slow]
        before = resident(relay)
        test = self()
        chunk = :crypto.strong_rand_bytes(1_000_000)

        sender =
          spawn_link(fn ->
            for n <- Stream.iterate(1, &(&1 + 1)), reduce: :ok do
              :ok ->
                :ok = send_data(ends[fast], chunk)
                send(test, {:sent, n})
                :ok
            end
          end)

        stuck = until_stuck(0)
        assert stuck < 60
        assert resident(relay) - before < 4_000_000
        for _ <- 1..(stuck + 5), do: assert(recv!(ends[slow], 1_000_000) == chunk)
        Process.unlink(sender)
        Process.exit(sender, :kill)
        {:ok, 0, _} = Client.refresh(client, 0)
      end

      assert counter(relay, :tcp_cut) == 0
    end
  end

  test "what a relay no longer allows as a peer is cut off" do
    relay = start()
    {client, _} = tcp_allocated(relay)
    {listener, peer} = listen()
    {data, socket, _} = joined(client, listener, peer)
    assert_both_ways(data, socket)
    :ok = Relay.configure([allow_peers: []], relay.pid)
    assert_closed(data)
    assert_closed(socket)
  end

  defp send_and_end(socket, bytes) do
    :ok = send_data(socket, bytes)
    shutdown(socket, :write)
  end

  defp until_stuck(n) do
    receive do
      {:sent, n} -> until_stuck(n)
    after
      1_500 -> n
    end
  end

  # Bytes of memory that the relay has in use.
  defp resident(relay) do
    [_, pages | _] = "/proc/#{relay.os_pid}/statm" |> File.read!() |> String.split()
    String.to_integer(pages) * 4096
  end
end
