defmodule Cromulent.Turn.WireDtlsTest do
  # Clients over DTLS: a real relay, OTP's own DTLS as the other end (RFC 8656 §3.1, RFC 6347).
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, Client, ClientStream, Relay, Stun}

  setup_all do: {:ok, made: Certificates.make(), other: Certificates.make()}
  setup %{made: made}, do: {:ok, relay: start(made)}

  defp start(made, more \\ []) do
    listen = ["dtls:127.0.0.1:0", "dtls:[::1]:0", "udp:127.0.0.1:0"]
    start_relay([listen: listen, cert: made.cert, key: made.key] ++ more)
  end

  defp dtls(relay, made, opts \\ []),
    do: client(relay, [transport: :dtls, tls: made.verify] ++ opts)

  defp counter(relay, name), do: elem(Relay.stats(relay.pid), 1).counters[name]
  defp info(client), do: ClientStream.tls_info(client.socket)

  test "version 1.2 is spoken over IPv4 and IPv6", %{relay: relay, made: made} do
    for address <- [relay.address, relay.address6] do
      client = dtls(relay, made, address: address)
      assert {:ok, {ip, port}} = Client.binding(client)
      assert ip == elem(address, 0)
      assert port in own_udp_ports()
      assert info(client).protocol == :"dtlsv1.2"
    end

    assert counter(relay, :handshakes) == 2

    assert {:error, _} =
             ClientStream.open(relay.address,
               tls: made.verify ++ [protocol: :dtls, versions: [:dtlsv1]]
             )
  end

  test "takes the protocols of RFC 7443 too", %{relay: relay, made: made} do
    for protocol <- ["stun.turn", "stun.nat-discovery"] do
      tls = made.verify ++ [alpn_advertised_protocols: [protocol]]
      client = client(relay, transport: :dtls, tls: tls)
      assert info(client).alpn == protocol
      assert {:ok, _} = Client.binding(client)
    end
  end

  # OTP 25 does not tell the address of a DTLS socket.
  defp own_udp_ports do
    for port <- Port.list(),
        match?({:name, ~c"udp_inet"}, Port.info(port, :name)),
        {:ok, number} <- [:inet.port(port)],
        do: number
  end

  test "datagrams of every size are relayed both ways", %{relay: relay, made: made} do
    {socket, peer} = peer()
    {:ok, allocation, client} = Client.allocate(dtls(relay, made))
    {ip, port} = relayed = allocation.relayed
    {:ok, client} = Client.permit(client, [peer])
    {:ok, client} = Client.bind(client, 0x4001, peer)

    for size <- [0, 1, 2, 3, 4, 5, 1200, 1400] do
      data = :crypto.strong_rand_bytes(size)
      :ok = Client.send_to(client, 0x4001, data)
      assert peer_recv(socket) == {relayed, data}
      :ok = Client.send_to(client, peer, data)
      assert peer_recv(socket) == {relayed, data}
      :ok = :gen_udp.send(socket, ip, port, data)
      assert Client.recv(client, 5_000) == {:ok, {:channel, 0x4001, data}}
    end

    for n <- 1..200 do
      :ok = Client.send_to(client, 0x4001, "#{n}")
      assert peer_recv(socket) == {relayed, "#{n}"}
    end

    assert {:ok, [%{transport: :dtls}]} = Relay.list(10, relay.pid)
  end

  # RFC 7350 §3 (retransmissions), §4.6 (nothing but UDP is relayed).
  test "requests are those of UDP", %{relay: relay, made: made} do
    client = dtls(relay, made)
    {:ok, challenge, _} = Client.transact(client, Stun.new(:request, :allocate))
    client = Client.learn(client, challenge)
    {message, opts} = Client.prepare(client, :allocate, requested_transport: :tcp)
    {:ok, refused, _} = Client.transact(client, message, opts)
    assert elem(Stun.get(refused, :error_code), 0) in [400, 442]

    {message, opts} = Client.prepare(client, :allocate, requested_transport: :udp)
    {:ok, first, _} = Client.transact(client, message, opts)
    {:ok, second, _} = Client.transact(client, message, opts)
    assert second.class == :success
    assert Stun.get(first, :xor_relayed_address) == Stun.get(second, :xor_relayed_address)
    assert {:ok, [_one]} = Relay.list(10, relay.pid)
  end

  test "the allocation ends with the session", %{relay: relay, made: made} do
    {:ok, _allocation, client} = Client.allocate(dtls(relay, made))
    Client.close(client)
    eventually(fn -> match?({:ok, []}, Relay.list(10, relay.pid)) end)
    assert counter(relay, :allocations_closed) == 1
  end

  test "nothing but DTLS is taken, and nothing is kept without a cookie", %{relay: relay} do
    {ip, port} = relay.address
    {:ok, socket} = :gen_udp.open(0, [:binary, active: true, ip: ip, recbuf: 1_048_576])
    :ok = :gen_udp.send(socket, ip, port, Stun.encode(Stun.new(:request, :binding)))
    :ok = :gen_udp.send(socket, ip, port, <<22, 254, 253, 0::size(600)-unit(8)>>)
    for _ <- 1..50, do: :ok = :gen_udp.send(socket, ip, port, client_hello(<<>>))

    # A HelloVerifyRequest each (RFC 6347 §4.2.1), no longer than what asked for it.
    for _ <- 1..50 do
      assert_receive {:udp, ^socket, _, _, <<22, 254, _, _::64, size::16, 3, _::binary>>}, 5_000
      assert size < byte_size(client_hello(<<>>))
    end

    :ok = :gen_udp.send(socket, ip, port, client_hello(:binary.copy(<<7>>, 32)))
    assert_receive {:udp, ^socket, _, _, <<22, _, _, _::64, _::16, 3, _::binary>>}, 5_000
    assert counter(relay, :connections) == 0
    assert counter(relay, :bindings) == 0
  end

  # A ClientHello of DTLS 1.2 with two ciphers and nothing else.
  defp client_hello(cookie) do
    body =
      <<254, 253, 0::256, 0, byte_size(cookie), cookie::binary, 4::16, 0xC02B::16, 0xC02F::16, 1,
        0>>

    extensions = <<0x000A::16, 4::16, 2::16, 23::16, 0x000B::16, 2::16, 1, 0>>
    body = <<body::binary, byte_size(extensions)::16, extensions::binary>>
    size = byte_size(body)
    handshake = <<1, size::24, 0::16, 0::24, size::24, body::binary>>
    <<22, 254, 253, 0::64, byte_size(handshake)::16, handshake::binary>>
  end

  test "silent sessions and unfinished handshakes end", %{made: made} do
    relay = start(made, connection_idle: 1)
    {:ok, _} = Client.binding(dtls(relay, made))
    {:ok, _, _} = Client.allocate(dtls(relay, made))
    eventually(fn -> counter(relay, :connections_idle) == 1 end, 10_000)
    assert {:ok, [_]} = Relay.list(10, relay.pid)
  end

  test "sessions per source are limited", %{made: made} do
    relay = start(made, source_connections: 2)
    assert {:ok, _} = Client.binding(dtls(relay, made))
    assert {:ok, _} = Client.binding(dtls(relay, made))
    {ip, port} = relay.address
    options = [:binary, active: false, protocol: :dtls] ++ made.verify
    assert {:error, _} = :ssl.connect(ip, port, options, 1_500)
    assert counter(relay, :connections_refused) > 0
  end

  test "a certificate is replaced while sessions stay", context do
    %{relay: relay, made: made, other: other} = context
    {:ok, _, client} = Client.allocate(dtls(relay, made))
    assert :ok = Relay.configure([cert: other.cert, key: other.key], relay.pid)
    assert info(dtls(relay, other)).peercert == other.der
    assert {:ok, 600, _} = Client.refresh(client, 600)
  end
end
