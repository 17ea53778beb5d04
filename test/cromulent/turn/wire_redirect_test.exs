defmodule Cromulent.Turn.WireRedirectTest do
  # ALTERNATE-SERVER (RFC 8489 §10) as a client sees it.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Address, Certificates, Check, Client, Relay, Stun}

  @udp {:requested_transport, :udp}
  @four {{192, 0, 2, 20}, 3478}
  @six {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 0x20}, 3479}
  @both "192.0.2.20:3478,[2001:db8::20]:3479"

  defp alternates(answer), do: for({:alternate_server, address} <- answer.attributes, do: address)

  # The answer to an Allocate, and whether the client can trust it.
  defp allocate(relay, opts \\ []) do
    client = challenged(relay, opts)
    {answer, packet} = once(client, :allocate, [@udp])
    {answer, Stun.verify(packet, client.key, client.integrity)}
  end

  test "leads to the other servers, that of the client's family first" do
    relay = start_relay(redirect: @both)

    for {address, servers} <- [{relay.address, [@four, @six]}, {relay.address6, [@six, @four]}] do
      {answer, :ok} = allocate(relay, address: address)
      assert Stun.get(answer, :error_code) == {300, "Try Alternate"}
      assert alternates(answer) == servers
      assert Stun.get(answer, :alternate_domain) == nil
    end
  end

  test "is for those only who have shown credentials" do
    relay = start_relay(redirect: @both)
    {:ok, answer, _} = Client.transact(client(relay), Stun.new(:request, :allocate, [@udp]))
    assert code(answer) == 401
    assert alternates(answer) == []
    made = challenged(relay)
    {answer, _} = once(%{made | key: String.duplicate("k", 32)}, :allocate, [@udp])
    assert code(answer) == 401
    assert alternates(answer) == []
  end

  test "does not touch Binding" do
    client = client(start_relay(redirect: @both))
    assert {:ok, mapped} = Client.binding(client)
    assert mapped == Client.local(client)
  end

  test "who has no server of its family is served" do
    relay = start_relay(redirect: "[2001:db8::20]:3479")
    {answer, :ok} = allocate(relay)
    assert code(answer) == 200
    {answer, :ok} = allocate(relay, address: relay.address6)
    assert code(answer) == 300
    assert alternates(answer) == [@six]
  end

  test "an address is led to one of several, whichever worker it meets" do
    several = for n <- 1..8, do: "192.0.2.#{n}:3478"
    relay = start_relay(redirect: several, workers: 4)
    led = for _ <- 1..12, do: relay |> allocate() |> elem(0) |> alternates()
    assert [[{{192, 0, 2, _}, 3478}]] = Enum.uniq(led)
  end

  @tag :tmp_dir
  test "names another certificate over TLS and DTLS", %{tmp_dir: dir} do
    {cert, key} = Certificates.files(Certificates.make(), dir)

    relay =
      start_relay(
        redirect: @both,
        alternate_domain: "turn2.example.org",
        listen: ["tcp:127.0.0.1:0", "dtls:127.0.0.1:0"],
        cert: cert,
        key: key
      )

    [tcp, dtls] = Enum.map(relay.info.listen, &address/1)

    for {transport, address, domain} <- [
          {:tcp, tcp, nil},
          {:tls, tcp, "turn2.example.org"},
          {:dtls, dtls, "turn2.example.org"}
        ] do
      {answer, :ok} = allocate(relay, transport: transport, address: address)
      assert Stun.get(answer, :alternate_domain) == domain
    end
  end

  test "begins and ends while the relay runs, and leaves alone who is here" do
    relay = start_relay()
    {client, _} = allocated(relay)
    assert Relay.configure([redirect: @both], relay.pid) == :ok
    assert {:error, {:refused, 300, text}, _} = Client.allocate(client(relay))
    assert text == "Try Alternate: 192.0.2.20:3478, [2001:db8::20]:3479"
    assert {:ok, 600, client} = Client.refresh(client)
    assert {:ok, _} = Client.permit(client, [{{127, 0, 0, 1}, 9}])
    assert Relay.drain(true, relay.pid) == :ok
    assert {:error, {:refused, 300, _}, _} = Client.allocate(client(relay))
    assert Relay.configure([redirect: []], relay.pid) == :ok
    assert {:error, {:refused, 508, _}, _} = Client.allocate(client(relay))
    assert Relay.drain(false, relay.pid) == :ok
    assert {:ok, _, _} = Client.allocate(client(relay))
  end

  test "is followed to a relay that takes the same credentials" do
    there = start_relay()
    {ip, port} = there.address
    here = start_relay(redirect: "#{Address.to_host(ip)}:#{port}")
    {answer, :ok} = allocate(here)
    [address] = alternates(answer)
    assert {:ok, _, _} = Client.allocate(client(here, address: address))
    assert {:ok, [_]} = Relay.list(10, there.pid)
    assert {:ok, []} = Relay.list(10, here.pid)
  end

  test "is told by turn.check" do
    relay = start_relay(redirect: @both)
    target = %{address: relay.address, credentials: {:secret, &secret/0}, realm: nil}
    test = self()
    assert Check.run(target, &send(test, {:step, &1})) == :error
    assert_received {:step, %{name: "binding", result: {:ok, _}}}
    assert_received {:step, %{name: "allocate", result: {:error, text}}}

    assert text ==
             "300 Try Alternate: 192.0.2.20:3478, [2001:db8::20]:3479: the server sends clients on; check that one"
  end

  # Nobody on the path may send a client elsewhere.
  test "is not believed without the server's integrity" do
    {:ok, socket} = :gen_udp.open(0, [:binary, ip: {127, 0, 0, 1}, active: false])
    {:ok, address} = :inet.sockname(socket)

    {:ok, client} = Client.open(address, username: "1:a", password: "b", rto: 50, deadline: 1_000)

    client = Client.learn(client, Stun.new(:error, :allocate, realm: "r", nonce: "n"))

    forger =
      Task.async(fn ->
        {:ok, {ip, port, packet}} = :gen_udp.recv(socket, 0, 5_000)
        {:ok, asked} = Stun.decode(packet)
        lie = Stun.new(:error, :allocate, error_code: {300, "Try"}, alternate_server: @four)
        lie = %{lie | transaction_id: asked.transaction_id}
        :gen_udp.send(socket, ip, port, Stun.encode(lie))
      end)

    assert {:error, :timeout, _} = Client.request(client, :allocate, [@udp])
    assert Task.await(forger) == :ok
  end
end
