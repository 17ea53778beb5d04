defmodule Cromulent.Turn.WireProxyTest do
  # Clients behind a load balancer that speaks the PROXY protocol: the relay sees them as they are.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, Relay, Stun}

  @proxy {127, 0, 0, 9}
  @signature "\r\n\r\n\0\r\nQUIT\n"

  setup_all do
    {:ok, _} = Application.ensure_all_started(:ssl)
    {:ok, made: Certificates.make()}
  end

  defp start(made, more \\ []) do
    listen = ["tcp:127.0.0.1:0", "tls:127.0.0.1:0"]
    proxies = [proxy_from: "127.0.0.9/32"]
    start_relay([listen: listen, cert: made.cert, key: made.key] ++ proxies ++ more)
  end

  defp connect(relay, from \\ @proxy) do
    {ip, port} = relay.address
    {:ok, socket} = :gen_tcp.connect(ip, port, [:binary, active: false, ip: from])
    socket
  end

  defp counter(relay, name), do: elem(Relay.stats(relay.pid), 1).counters[name]

  defp v1(client), do: "PROXY TCP4 #{client} 198.51.100.2 5000 3478\r\n"

  defp v2(<<client::binary-size(4)>>),
    do: v2(0x11, client <> <<198, 51, 100, 2, 5000::16, 3478::16>>)

  defp v2(family, body), do: <<@signature, 0x21, family, byte_size(body)::16, body::binary>>
  defp binding_request, do: Stun.encode(Stun.new(:request, :binding))

  # The address that the relay takes the connection for.
  defp mapped(recv) do
    {:ok, <<_, _, size::16>> = head} = recv.(4)
    {:ok, rest} = recv.(16 + size)
    {:ok, answer} = Stun.decode(head <> rest)
    Stun.get(answer, :xor_mapped_address)
  end

  defp mapped_by(socket, bytes) do
    :ok = :gen_tcp.send(socket, bytes)
    mapped(&:gen_tcp.recv(socket, &1, 5_000))
  end

  defp assert_closed(socket) do
    assert {:error, reason} = :gen_tcp.recv(socket, 0, 5_000)
    assert reason in [:closed, :econnreset]
  end

  test "both versions tell whose connection it is, in one piece or byte by byte", %{made: made} do
    relay = start(made)

    for {header, client} <- [
          {v1("203.0.113.7"), {{203, 0, 113, 7}, 5000}},
          {v2(<<203, 0, 113, 8>>), {{203, 0, 113, 8}, 5000}},
          {v2(0x21, <<0x2001::16, 0xDB8::16, 1::96, 0x2001::16, 0xDB8::16, 2::96, 7::16, 8::16>>),
           {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, 7}}
        ] do
      assert mapped_by(connect(relay), header <> binding_request()) == client

      socket = connect(relay)
      :ok = :inet.setopts(socket, nodelay: true)
      for <<byte <- header>>, do: :ok = :gen_tcp.send(socket, <<byte>>)
      assert mapped_by(socket, binding_request()) == client
    end
  end

  test "without an address it is the proxy's own connection", %{made: made} do
    relay = start(made)

    for header <- ["PROXY UNKNOWN\r\n", <<@signature, 0x20, 0, 0::16>>] do
      socket = connect(relay)
      {:ok, own} = :inet.sockname(socket)
      assert mapped_by(socket, header <> binding_request()) == own
    end
  end

  test "TLS follows the header, on either listener", %{made: made} do
    relay = start(made)

    for text <- relay.info.listen do
      socket = connect(%{relay | address: address(text)})
      :ok = :gen_tcp.send(socket, v2(<<203, 0, 113, 9>>))
      {:ok, tls} = :ssl.connect(socket, made.verify, 5_000)
      :ok = :ssl.send(tls, binding_request())
      assert mapped(&:ssl.recv(tls, &1, 5_000)) == {{203, 0, 113, 9}, 5000}
      :ssl.close(tls)
    end
  end

  test "a proxy must send one, and nobody else may", %{made: made} do
    relay = start(made)
    without = connect(relay)
    :ok = :gen_tcp.send(without, binding_request())
    assert_closed(without)

    stranger = connect(relay, {127, 0, 0, 1})
    :ok = :gen_tcp.send(stranger, v1("203.0.113.7") <> binding_request())
    assert_closed(stranger)
    assert counter(relay, :connections_broken) == 2
    assert counter(relay, :bindings) == 0
  end

  test "limits count the clients, not the proxy", %{made: made} do
    relay = start(made, source_connections: 1)
    request = binding_request()
    first = connect(relay)
    assert {{203, 0, 113, 1}, _} = mapped_by(first, v1("203.0.113.1") <> request)
    assert {{203, 0, 113, 2}, _} = mapped_by(connect(relay), v1("203.0.113.2") <> request)
    second = connect(relay)
    :ok = :gen_tcp.send(second, v1("203.0.113.1") <> request)
    assert_closed(second)
    assert counter(relay, :connections_refused) == 1
    :gen_tcp.close(first)

    eventually(fn ->
      socket = connect(relay)
      :ok = :gen_tcp.send(socket, v1("203.0.113.1") <> request)
      match?({:ok, _}, :gen_tcp.recv(socket, 4, 1_000))
    end)
  end

  test "the networks change while running", %{made: made} do
    relay = start(made)
    assert :ok = Relay.configure([proxy_from: []], relay.pid)
    socket = connect(relay)
    {:ok, own} = :inet.sockname(socket)
    assert mapped_by(socket, binding_request()) == own
  end
end
