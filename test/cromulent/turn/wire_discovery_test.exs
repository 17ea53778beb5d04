defmodule Cromulent.Turn.WireDiscoveryTest do
  # NAT behaviour discovery (RFC 5780) as a client sees it: four sockets of a real relay. The sockets here are
  # not connected, since answers come from elsewhere.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, Client, Relay, Stun}

  @second {127, 0, 0, 2}
  @relay [listen: ["udp:127.0.0.1:0"], alternate: "127.0.0.2:0"]

  # Asks one of the relay's addresses; gives the answer and where it came from.
  defp ask(socket, {ip, port}, attributes) do
    message = Stun.new(:request, :binding, attributes)
    :ok = :gen_udp.send(socket, ip, port, Stun.encode(message))
    {from, packet} = peer_recv(socket)
    {:ok, answer} = Stun.decode(packet)
    assert answer.transaction_id == message.transaction_id
    {answer, from}
  end

  test "answers come from each of four addresses, as asked for, by any worker" do
    relay = start_relay([workers: 3] ++ @relay)
    {ip, port} = relay.address
    {_, first_client} = first = peer()
    {answer, {^ip, ^port}} = ask(elem(first, 0), relay.address, [])
    assert {@second, other} = Stun.get(answer, :other_address)
    assert other != port
    assert Stun.get(answer, :mapped_address) == first_client
    assert Stun.get(answer, :xor_mapped_address) == first_client

    for asked <- [{ip, port}, {ip, other}, {@second, port}, {@second, other}],
        {flags, change} <- [
          {[], & &1},
          {[:port], fn {i, p} -> {i, opposite(p, port, other)} end},
          {[:ip], fn {i, p} -> {opposite(i, ip, @second), p} end},
          {[:ip, :port], fn {i, p} -> {opposite(i, ip, @second), opposite(p, port, other)} end}
        ] do
      {socket, client} = peer()
      {answer, from} = ask(socket, asked, change_request: flags)
      assert from == change.(asked)
      assert Stun.get(answer, :response_origin) == from
      {i, p} = asked

      assert Stun.get(answer, :other_address) ==
               {opposite(i, ip, @second), opposite(p, port, other)}

      assert Stun.get(answer, :xor_mapped_address) == client
      :gen_udp.close(socket)
    end
  end

  defp opposite(value, one, other), do: if(value == one, do: other, else: one)

  test "answers go to another port, and are as long as asked for" do
    relay = start_relay(@relay)
    {socket, client} = peer()
    {other, {_, port}} = peer()
    {ip, relay_port} = relay.address
    message = Stun.new(:request, :binding, response_port: port)
    :ok = :gen_udp.send(socket, ip, relay_port, Stun.encode(message))
    {{^ip, ^relay_port}, packet} = peer_recv(other)
    {:ok, answer} = Stun.decode(packet)
    assert Stun.get(answer, :xor_mapped_address) == client

    padding = String.duplicate(<<0>>, 1500)
    {answer, _} = ask(socket, relay.address, padding: padding)
    assert Stun.get(answer, :padding) == padding
    {answer, _} = ask(socket, relay.address, padding: padding, response_port: port)
    assert {400, _} = Stun.get(answer, :error_code)
  end

  test "a relay with one address says that it cannot" do
    relay = start_relay()
    client = client(relay)
    {:ok, answer, _} = Client.transact(client, Stun.new(:request, :binding))
    assert Stun.get(answer, :other_address) == nil
    message = Stun.new(:request, :binding, change_request: [:port])
    {:ok, answer, _} = Client.transact(client, message)
    assert {420, _} = Stun.get(answer, :error_code)
  end

  @tag :tmp_dir
  test "has the links of UDP, whatever else is listened on", %{tmp_dir: dir} do
    {cert, key} = Certificates.files(Certificates.make(), dir)
    listen = ["tcp:127.0.0.1:0", "dtls:127.0.0.1:0", "udp:127.0.0.1:0", "tls:127.0.0.1:0"]
    relay = start_relay(listen: listen, alternate: "127.0.0.2:0", cert: cert, key: key)
    udp = address(Enum.at(relay.info.listen, 2))
    {socket, _} = peer()
    assert {answer, ^udp} = ask(socket, udp, [])
    assert {@second, _} = other = Stun.get(answer, :other_address)
    assert {_, ^other} = ask(socket, udp, change_request: [:ip, :port])
    assert {_, ^udp} = ask(socket, other, change_request: [:ip, :port])

    # There is nothing to discover about connections.
    {:ok, client} = Client.open(relay.address, transport: :tcp)
    {:ok, answer, _} = Client.transact(client, Stun.new(:request, :binding))
    assert answer.class == :success
    assert Stun.get(answer, :other_address) == nil
  end

  test "stays as it is when the relay is configured" do
    relay = start_relay(@relay)
    :ok = Relay.configure([realm: "example.org"], relay.pid)
    {socket, _} = peer()
    assert {_, {@second, _}} = ask(socket, relay.address, change_request: [:ip])

    assert {:error, {:config, text}} = Relay.configure([alternate: "127.0.0.3:0"], relay.pid)
    assert text =~ "cannot change while the relay runs"
  end

  test "an alternate address that is none is refused" do
    for {alternate, expected} <- [
          {"127.0.0.1:9999", "another IP"},
          {"[::1]:0", "needs a udp: listener"}
        ] do
      opts = options(listen: ["udp:127.0.0.1:0"], alternate: alternate)
      assert {:error, {:config, text}} = Relay.start_link([name: nil] ++ opts)
      assert text =~ expected
    end
  end
end
