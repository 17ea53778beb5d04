defmodule Cromulent.Turn.WireTlsTest do
  # Clients over TLS: a real relay, OTP's own TLS as the other end (RFC 8656 §3.1, RFC 7443).
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, ChannelData, Client, ClientStream, Relay, Stun}

  @listen ["tls:127.0.0.1:0", "tls:[::1]:0", "tcp:127.0.0.1:0"]
  @moduletag :tmp_dir

  setup_all do: {:ok, made: Certificates.make(), other: Certificates.make()}

  setup %{made: made} do
    {:ok, relay: start(made), made: made}
  end

  defp start(made, more \\ []),
    do: start_relay([listen: @listen, cert: made.cert, key: made.key] ++ more)

  defp tls(relay, made, opts \\ []) do
    {tls, opts} = Keyword.pop(opts, :tls, [])
    client(relay, [transport: :tls, tls: made.verify ++ tls] ++ opts)
  end

  defp counter(relay, name), do: elem(Relay.stats(relay.pid), 1).counters[name]
  defp tcp_address(relay), do: relay.info.listen |> List.last() |> address()
  defp info(client), do: ClientStream.tls_info(client.socket)

  defp open(relay, tls), do: ClientStream.open(relay.address, tls: tls)

  defp binding_request, do: Stun.encode(Stun.new(:request, :binding))

  describe "TLS" do
    test "is spoken in versions 1.2 and 1.3, over IPv4 and IPv6", %{relay: relay, made: made} do
      for version <- [:"tlsv1.2", :"tlsv1.3"], address <- [relay.address, relay.address6] do
        client = tls(relay, made, address: address, tls: [versions: [version]])
        assert Client.binding(client) == {:ok, Client.local(client)}
        assert info(client).protocol == version
      end

      assert counter(relay, :handshakes) == 4
    end

    test "is not spoken in older versions, nor with ciphers without forward secrecy", context do
      %{relay: relay, made: made} = context

      for weak <- [
            [versions: [:"tlsv1.1"]],
            [versions: [:tlsv1]],
            [versions: [:"tlsv1.2"], ciphers: ['ECDHE-ECDSA-AES128-SHA256']],
            [versions: [:"tlsv1.2"], ciphers: ['AES128-GCM-SHA256']]
          ] do
        assert {:error, _} = open(relay, made.verify ++ weak)
      end

      eventually(fn -> counter(relay, :connections_broken) == 4 end)
      assert counter(relay, :handshakes) == 0
    end

    test "takes the protocols of RFC 7443, or none, and refuses others", context do
      %{relay: relay, made: made} = context

      for {offered, chosen} <- [
            {["stun.turn"], "stun.turn"},
            {["stun.nat-discovery"], "stun.nat-discovery"},
            {["h2", "stun.nat-discovery"], "stun.nat-discovery"},
            {[], nil}
          ] do
        alpn = if offered == [], do: [], else: [alpn_advertised_protocols: offered]
        client = tls(relay, made, tls: alpn)
        assert info(client).alpn == chosen
        assert {:ok, _} = Client.binding(client)
      end

      assert {:error, _} = open(relay, made.verify ++ [alpn_advertised_protocols: ["h2"]])
    end

    test "comes with RSA certificates too, and from files", %{tmp_dir: dir} do
      made = Certificates.make(key: :rsa)
      {cert, key} = Certificates.files(made, dir)
      relay = start_relay(listen: @listen, cert: cert, key: key)
      assert {:ok, _} = Client.binding(tls(relay, made))

      # Of the two suites of RFC 8489 §6.2.3 the one that RFC 9325 §4.1 does not advise against.
      ecdhe = [versions: [:"tlsv1.2"], ciphers: [~c"ECDHE-RSA-AES128-GCM-SHA256"]]
      assert {:ok, _} = Client.binding(tls(relay, made, tls: ecdhe))
      dhe = [versions: [:"tlsv1.2"], ciphers: [~c"DHE-RSA-AES128-GCM-SHA256"]]
      assert {:error, _} = open(relay, made.verify ++ dhe)
    end

    test "carries whole records of media both ways, whatever their size", context do
      {socket, peer} = peer()
      :ok = :inet.setopts(socket, recbuf: 1_048_576, buffer: 65_536)
      {:ok, allocation, client} = Client.allocate(tls(context.relay, context.made))
      {ip, port} = relayed = allocation.relayed
      {:ok, client} = Client.bind(client, 0x4001, peer)

      for size <- [0, 1, 2, 3, 4, 5, 1200, 16_380, 16_384, 40_000, 60_000] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, 0x4001, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 5_000) == {:ok, {:channel, 0x4001, data}}
      end

      frames = for n <- 1..500, do: ChannelData.encode(0x4001, "#{n}", stream?: true)
      :ok = Client.send_packet(client, frames)
      for n <- 1..500, do: assert(peer_recv(socket) == {relayed, "#{n}"})
      {:ok, [%{transport: :tls}]} = Relay.list(10, context.relay.pid)
    end

    test "ends with a closing alert, and so does the allocation", %{relay: relay, made: made} do
      {:ok, _allocation, client} = Client.allocate(tls(relay, made))
      Client.close(client)
      eventually(fn -> match?({:ok, []}, Relay.list(10, relay.pid)) end)
      assert counter(relay, :allocations_closed) == 1
    end

    test "drops whole frames of a client that does not read", %{relay: relay, made: made} do
      {ip, port} = relay.address
      {socket, peer} = peer()
      options = [:binary, active: false, recbuf: 4096] ++ made.verify
      {:ok, slow} = :ssl.connect(ip, port, options, 5_000)
      {rip, rport} = by_hand(slow, peer)
      payload = :binary.copy("x", 1000)
      for n <- 1..12_000, do: :gen_udp.send(socket, rip, rport, [<<n::32>>, payload])
      eventually(fn -> counter(relay, :drop_queue) > 0 end, 10_000)
      assert {:ok, _} = Client.binding(tls(relay, made))
      got = drain(slow, <<>>, [])
      assert length(got) > 10
      assert got == Enum.sort(got)
    end

    defp by_hand(socket, peer) do
      made = Cromulent.Turn.Credentials.generate("slow", secret())

      client = %Client{
        socket: nil,
        server: nil,
        transport: :tls,
        username: made.username,
        password: made.credential
      }

      ask = fn client, method, attributes ->
        {message, opts} = Client.prepare(client, method, attributes)
        :ok = :ssl.send(socket, Stun.encode(message, opts))
        {:ok, <<_, _, size::16>> = head} = :ssl.recv(socket, 4, 5_000)
        {:ok, rest} = :ssl.recv(socket, 16 + size, 5_000)
        {:ok, answer} = Stun.decode(head <> rest)
        answer
      end

      udp = [requested_transport: :udp]
      client = Client.learn(client, ask.(client, :allocate, udp))
      relayed = client |> ask.(:allocate, udp) |> Stun.get(:xor_relayed_address)
      bind = [channel_number: 0x4000, xor_peer_address: peer]
      assert %Stun{class: :success} = ask.(client, :channel_bind, bind)
      relayed
    end

    defp drain(socket, rest, numbers) do
      case ChannelData.frame_size(rest) do
        {:ok, size} when size <= byte_size(rest) ->
          <<frame::binary-size(size), rest::binary>> = rest
          assert {:ok, {0x4000, <<n::32, _::binary-size(1000)>>}} = ChannelData.decode(frame)
          drain(socket, rest, [n | numbers])

        :more ->
          more(socket, rest, numbers)

        {:ok, _size} ->
          more(socket, rest, numbers)
      end
    end

    defp more(socket, rest, numbers) do
      case :ssl.recv(socket, 0, 500) do
        {:ok, more} -> drain(socket, rest <> more, numbers)
        {:error, :timeout} -> assert(rest == <<>>) && Enum.reverse(numbers)
      end
    end
  end

  describe "one port" do
    test "of tcp: takes TLS and plain TURN, told apart by the first byte", context do
      %{relay: relay, made: made} = context
      address = tcp_address(relay)
      secure = tls(relay, made, address: address)
      plain = client(relay, transport: :tcp, address: address)
      assert {:ok, _} = Client.binding(secure)
      assert {:ok, _} = Client.binding(plain)
      {:ok, _, _} = Client.allocate(secure)
      {:ok, _, _} = Client.allocate(plain)
      {:ok, list} = Relay.list(10, relay.pid)
      assert list |> Enum.map(& &1.transport) |> Enum.sort() == [:tcp, :tls]
    end

    test "of tls: takes nothing but TLS", %{relay: relay} do
      {:ok, plain} = ClientStream.open(relay.address, [])
      :ok = ClientStream.send_bytes(plain, binding_request())
      assert_receive {:closed, ^plain, _}, 5_000
      assert counter(relay, :connections_broken) == 1
      assert counter(relay, :bindings) == 0
    end

    test "of tcp: without a certificate takes no TLS", %{made: made} do
      relay = start_relay(listen: ["tcp:127.0.0.1:0"])
      assert {:error, _} = open(relay, made.verify)
    end
  end

  describe "garbage" do
    test "in a handshake and in records closes the connection", %{relay: relay} do
      {ip, port} = relay.address

      for bytes <- [<<0x16, 3, 1, 0, 5, 1, 2, 3, 4, 5>>, :crypto.strong_rand_bytes(600)] do
        {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, active: false])
        :ok = :gen_tcp.send(socket, bytes)
        assert_ends(socket)
      end
    end

    test "inside TLS does so too", %{relay: relay, made: made} do
      {:ok, stream} = open(relay, made.verify)
      :ok = ClientStream.send_bytes(stream, "GET / HTTP/1.1\r\n\r\n")
      assert_receive {:closed, ^stream, _}, 5_000
      assert counter(relay, :connections_broken) == 1
    end

    # An alert may come first.
    defp assert_ends(socket) do
      case :gen_tcp.recv(socket, 0, 5_000) do
        {:ok, _alert} -> assert_ends(socket)
        {:error, reason} -> assert reason in [:closed, :econnreset]
      end
    end
  end

  describe "limits" do
    test "close a connection whose handshake does not come to an end", %{made: made} do
      relay = start(made, connection_idle: 1)
      {ip, port} = relay.address
      {:ok, silent} = :gen_tcp.connect(ip, port, [:binary, active: false])
      {:ok, slow} = :gen_tcp.connect(ip, port, [:binary, active: false])
      :ok = :gen_tcp.send(slow, <<0x16, 3, 1, 2>>)
      for socket <- [silent, slow], do: assert_ends(socket)
      assert counter(relay, :connections_idle) == 2
    end

    test "refuse handshakes beyond the rate of a source", %{made: made} do
      relay = start(made, handshake_rate: 1, handshake_burst: 2, workers: 1)
      assert {:ok, _} = Client.binding(tls(relay, made))
      assert {:ok, _} = Client.binding(tls(relay, made))
      results = for _ <- 1..4, do: elem(open(relay, made.verify), 0)
      assert :error in results
      assert {:ok, _} = Client.binding(tls(relay, made, ip: {127, 0, 0, 2}))
    end
  end

  describe "a certificate" do
    test "is replaced while allocations stay", %{relay: relay, made: made, other: other} do
      client = tls(relay, made)
      {:ok, _, client} = Client.allocate(client)
      assert info(client).peercert == made.der

      assert :ok = Relay.configure([cert: other.cert, key: other.key], relay.pid)
      after_it = tls(relay, other)
      assert info(after_it).peercert == other.der
      assert {:ok, _} = Client.binding(after_it)
      assert {:error, _} = open(relay, made.verify)

      assert {:ok, 600, _} = Client.refresh(client, 600)
      assert {:ok, [_]} = Relay.list(10, relay.pid)
    end

    test "is read anew from its file", %{made: made, other: other, tmp_dir: dir} do
      {cert, key} = Certificates.files(made, dir)
      relay = start_relay(listen: @listen, cert: cert, key: key)
      assert info(tls(relay, made)).peercert == made.der
      Certificates.files(other, dir)
      assert :ok = Relay.configure([cert: cert, key: key], relay.pid)
      assert info(tls(relay, other)).peercert == other.der
    end

    test "can come later, and is there again after a restart", %{made: made} do
      relay = start_relay(listen: ["tcp:127.0.0.1:0"])
      assert :ok = Relay.configure([cert: made.cert, key: made.key], relay.pid)
      assert {:ok, _} = Client.binding(tls(relay, made))
      {_, 0} = System.cmd("kill", ["-KILL", "#{relay.os_pid}"])

      eventually(
        fn -> match?({:ok, %{status: :up, restarts: 1}}, Relay.info(relay.pid)) end,
        10_000
      )

      assert {:ok, _} = Client.binding(tls(relay, made))
    end

    test "that is of no use is refused, and the old one stays", context do
      %{relay: relay, made: made, other: other} = context
      broken = String.replace(other.cert, ~r/\n.{64}\n/, "\nAAAA\n", global: false)

      for {opts, text} <- [
            {[key: other.key], "key: is not the one of the certificate"},
            {[cert: broken], "cert: must be a certificate in PEM form"}
          ] do
        assert {:error, {:config, message}} = Relay.configure(opts, relay.pid)
        assert message =~ text
      end

      assert {:ok, _} = Client.binding(tls(relay, made))
    end
  end
end
