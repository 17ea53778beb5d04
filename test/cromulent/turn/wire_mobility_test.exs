defmodule Cromulent.Turn.WireMobilityTest do
  # Mobility (RFC 8016) as a client sees it: one allocation, one socket after the other. The engine's own tests
  # have what goes wrong.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Certificates, Client, Relay, Stun}

  @udp {:requested_transport, :udp}
  @wanted {:mobility_ticket, ""}

  # The same user at a new socket.
  defp elsewhere(relay, client) do
    {:ok, new} = Client.open(relay.address, Map.to_list(Map.take(client, [:username, :password])))
    new
  end

  test "a ticket takes an allocation from socket to socket, whichever worker it meets" do
    relay = start_relay(mobility: true, workers: 4)
    {socket, peer} = peer()
    client = challenged(relay)
    {answer, _} = once(client, :allocate, [@udp, @wanted])
    {ip, port} = relayed = Stun.get(answer, :xor_relayed_address)
    ticket = Stun.get(answer, :mobility_ticket)
    {:ok, client} = Client.bind(client, 0x4000, peer)

    Enum.reduce(1..12, {client, ticket}, fn n, {old, ticket} ->
      new = elsewhere(relay, client)
      {:ok, answer, new} = Client.request(new, :refresh, mobility_ticket: ticket)
      next = Stun.get(answer, :mobility_ticket)
      assert is_binary(next) and next != ticket

      :ok = :gen_udp.send(socket, ip, port, "before")
      assert Client.recv(old, 5_000) == {:ok, {:channel, 0x4000, "before"}}
      :ok = Client.send_to(new, 0x4000, "moved #{n}")
      assert peer_recv(socket, 5_000) == {relayed, "moved #{n}"}
      :ok = :gen_udp.send(socket, ip, port, "after")
      assert Client.recv(new, 5_000) == {:ok, {:channel, 0x4000, "after"}}
      assert {:error, {:refused, 437, _}, _} = Client.refresh(old)
      {new, next}
    end)

    assert {:ok, [_one]} = Relay.list(10, relay.pid)
    assert {:ok, %{counters: %{allocations_moved: 12}}} = Relay.stats(relay.pid)
  end

  # The kernel chooses the worker of a connection: over eight moves it is all but never the same.
  for transport <- [:tcp, :tls, :dtls] do
    test "moves from #{transport} to #{transport}, whichever worker has the connection" do
      transport = unquote(transport)
      made = Certificates.make()
      listen = ["#{transport}:127.0.0.1:0"]
      options = [mobility: true, workers: 4, listen: listen, cert: made.cert, key: made.key]
      relay = start_relay(options)
      {socket, peer} = peer()
      way = [transport: transport, tls: made.verify]
      client = challenged(relay, way)
      {answer, _} = once(client, :allocate, [@udp, @wanted])
      {ip, port} = relayed = Stun.get(answer, :xor_relayed_address)
      {:ok, client} = Client.bind(client, 0x4000, peer)

      {last, _} =
        Enum.reduce(1..8, {client, ticket_of(answer)}, fn n, {old, ticket} ->
          # Break before make, and make before break.
          if rem(n, 2) == 0, do: Client.close(old)
          {:ok, answer, new} = move(relay, client, ticket, way)
          :ok = Client.send_to(new, 0x4000, "moved #{n}")
          assert peer_recv(socket, 5_000) == {relayed, "moved #{n}"}
          :ok = :gen_udp.send(socket, ip, port, "after")
          assert Client.recv(new, 5_000) == {:ok, {:channel, 0x4000, "after"}}
          if rem(n, 2) == 1, do: Client.close(old)
          {new, ticket_of(answer)}
        end)

      assert {:ok, [_one]} = Relay.list(10, relay.pid)
      assert counter(relay, :allocations_moved) == 8
      # It may be another worker's; the answer comes over this connection all the same.
      assert {:ok, 0, _} = Client.refresh(last, 0)
      assert Relay.list(10, relay.pid) == {:ok, []}
    end
  end

  test "goes on over the connection that is left" do
    relay = start_relay(mobility: true, workers: 1, listen: ["tcp:127.0.0.1:0"])
    {socket, peer} = peer()
    old = challenged(relay, transport: :tcp)
    {answer, _} = once(old, :allocate, [@udp, @wanted])
    {ip, port} = Stun.get(answer, :xor_relayed_address)
    ticket = Stun.get(answer, :mobility_ticket)
    {:ok, old} = Client.bind(old, 0x4000, peer)

    # The new one ends first: nothing has changed.
    {:ok, answer, new} = move(relay, old, ticket)
    Client.close(new)
    # Its end comes to the one worker before the second request of somebody who came later.
    {:ok, other} = Client.open(relay.address, transport: :tcp)
    for _ <- 1..2, do: assert({:ok, _} = Client.binding(other))
    :ok = :gen_udp.send(socket, ip, port, "old")
    assert Client.recv(old, 5_000) == {:ok, {:channel, 0x4000, "old"}}

    # Then the old one: peers' data follows without a word from the new one.
    {:ok, answer, new} = move(relay, old, ticket_of(answer))
    Client.close(old)
    eventually(fn -> counter(relay, :allocations_moved) == 1 end)
    :ok = :gen_udp.send(socket, ip, port, "new")
    assert Client.recv(new, 5_000) == {:ok, {:channel, 0x4000, "new"}}

    # And both: who has the ticket can come back for it.
    {:ok, answer, last} = move(relay, new, ticket_of(answer))
    Client.close(new)
    Client.close(last)
    {:ok, other} = Client.open(relay.address, transport: :tcp)
    for _ <- 1..2, do: assert({:ok, _} = Client.binding(other))
    {:ok, _, back} = move(relay, old, ticket_of(answer))
    :ok = :gen_udp.send(socket, ip, port, "back")
    assert Client.recv(back, 5_000) == {:ok, {:channel, 0x4000, "back"}}
    assert {:ok, 0, _} = Client.refresh(back, 0)
    assert Relay.list(10, relay.pid) == {:ok, []}
  end

  defp move(relay, client, ticket, way \\ [transport: :tcp]) do
    opts = Map.to_list(Map.take(client, [:username, :password])) ++ way
    {:ok, new} = Client.open(relay.address, opts)
    Client.request(new, :refresh, mobility_ticket: ticket)
  end

  defp ticket_of(answer), do: Stun.get(answer, :mobility_ticket)

  defp counter(relay, name), do: elem(Relay.stats(relay.pid), 1).counters[name]

  test "is forbidden where the option is not set" do
    relay = start_relay()
    assert allocate_code(relay, [@udp, @wanted]) == 405
    assert allocate_code(relay, [@udp]) == 200
  end

  test "takes no tickets but its own" do
    relay = start_relay(mobility: true)
    assert allocate_code(relay, [@udp, {:mobility_ticket, "mine"}]) == 400
    {answer, _} = once(challenged(relay), :allocate, [@udp, @wanted])
    ticket = Stun.get(answer, :mobility_ticket)
    <<first, rest::binary>> = ticket
    bent = <<Bitwise.bxor(first, 1), rest::binary>>
    assert request_code(challenged(relay), :refresh, mobility_ticket: bent) == 400
    assert request_code(challenged(relay, user: "bob"), :refresh, mobility_ticket: ticket) == 441
  end
end
