defmodule Cromulent.Turn.WireAllocationTest do
  # The main rows of allocations and permissions as a client sees them: a real relay, real sockets. The engine's own
  # tests have the rest, and every timer, in virtual time.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Certificates, Client, Credentials, Relay, Stun}

  @udp {:requested_transport, :udp}

  # One for each test: an allocation outlives its client's socket, and the next client may get the same port.
  setup do: {:ok, relay: start_relay()}

  # ---- Allocate ----

  describe "Allocate" do
    test "gives what a client needs", %{relay: relay} do
      client = challenged(relay)
      {answer, packet} = once(client, :allocate, [@udp])
      assert code(answer) == 200
      assert {{127, 0, 0, 1}, port} = Stun.get(answer, :xor_relayed_address)
      assert port in 49_152..65_535
      assert Stun.get(answer, :xor_mapped_address) == Client.local(client)
      assert Stun.get(answer, :lifetime) == 600
      assert Stun.get(answer, :software) =~ "cromulent_turn/"
      assert Stun.verify(packet, client.key, client.integrity) == :ok

      for name <- [:realm, :nonce, :username, :reservation_token],
          do: assert(Stun.get(answer, name) == nil)
    end

    test "sent again gives the same, with another transaction 437", %{relay: relay} do
      client = challenged(relay)
      {message, opts} = Client.prepare(client, :allocate, [@udp])
      {:ok, first, _} = Client.transact(client, message, opts)
      {:ok, second, _} = Client.transact(client, message, opts)
      assert second.class == :success
      assert Stun.get(second, :xor_relayed_address) == Stun.get(first, :xor_relayed_address)
      assert request_code(client, :allocate, [@udp]) == 437
    end

    test "sent again when it has been released is refused, over UDP and DTLS" do
      made = Certificates.make()
      listen = ["udp:127.0.0.1:0", "dtls:127.0.0.1:0"]
      relay = start_relay(listen: listen, cert: made.cert, key: made.key)
      [_, dtls] = Enum.map(relay.info.listen, &address/1)
      ways = [[], [transport: :dtls, tls: made.verify, address: dtls]]

      for way <- ways do
        client = challenged(relay, way)
        {message, opts} = Client.prepare(client, :allocate, [@udp])
        {:ok, answer, _} = Client.transact(client, message, opts)
        assert code(answer) == 200
        assert request_code(client, :refresh, lifetime: 0) == 200
        {:ok, late, packet} = Client.transact(client, message, opts)
        assert code(late) == 437
        assert Stun.verify(packet, client.key, client.integrity) == :ok
        assert {:ok, []} = Relay.list(10, relay.pid)
        assert request_code(client, :allocate, [@udp]) == 200
        assert request_code(client, :refresh, lifetime: 0) == 200
      end
    end

    test "needs a transport, and one that is relayed", %{relay: relay} do
      assert allocate_code(relay, []) == 400
      assert allocate_code(relay, [{0x0019, <<17, 0>>}]) == 400
      assert allocate_code(relay, requested_transport: :tcp) == 400
      assert allocate_code(relay, requested_transport: 132) == 442
      assert allocate_code(relay, [{0x0019, <<17, 0xFF, 0xFF, 0xFF>>}]) == 200
    end

    test "grants lifetimes from the default to the most", %{relay: relay} do
      for {asked, granted} <- [{0, 600}, {1, 600}, {599, 600}, {777, 777}, {4_000_000_000, 3600}] do
        {answer, _} = once(challenged(relay), :allocate, [@udp, {:lifetime, asked}])
        assert Stun.get(answer, :lifetime) == granted, "asked for #{asked}"
      end
    end

    test "takes DONT-FRAGMENT", %{relay: relay} do
      assert allocate_code(relay, [@udp, {:dont_fragment, true}]) == 200
    end

    test "gives even ports", %{relay: relay} do
      for _ <- 1..8 do
        {answer, _} = once(challenged(relay), :allocate, [@udp, {:even_port, false}])
        {_ip, port} = Stun.get(answer, :xor_relayed_address)
        assert rem(port, 2) == 0
        assert Stun.get(answer, :reservation_token) == nil
      end
    end

    test "reserves the next port, for whoever has the token, once", %{relay: relay} do
      {answer, _} = once(challenged(relay), :allocate, [@udp, {:even_port, true}])
      {ip, port} = Stun.get(answer, :xor_relayed_address)
      assert rem(port, 2) == 0
      assert <<_::binary-size(8)>> = token = Stun.get(answer, :reservation_token)

      assert allocate_code(relay, [@udp, {:reservation_token, token}, {:even_port, false}]) == 400
      {answer, _} = once(challenged(relay), :allocate, [@udp, {:reservation_token, token}])
      assert Stun.get(answer, :xor_relayed_address) == {ip, port + 1}
      assert allocate_code(relay, [@udp, {:reservation_token, token}]) == 508
      assert allocate_code(relay, [@udp, {:reservation_token, "whatever"}]) == 508
      assert allocate_code(relay, [@udp, {0x0022, "odd"}]) == 400
    end

    test "relays the family that is asked for", %{relay: relay} do
      for address <- [relay.address, relay.address6] do
        family = fn attributes ->
          {answer, _} = once(challenged(relay, address: address), :allocate, [@udp | attributes])
          answer |> Stun.get(:xor_relayed_address) |> elem(0) |> tuple_size()
        end

        assert family.([]) == 4
        assert family.(requested_address_family: :ipv4) == 4
        assert family.(requested_address_family: :ipv6) == 8
      end

      assert allocate_code(relay, [@udp, {:requested_address_family, 3}]) == 440
    end

    test "gives distinct ports", %{relay: relay} do
      relayed = for _ <- 1..50, do: relay |> allocated() |> elem(1)
      assert Enum.uniq(relayed) == relayed
      assert relayed != Enum.sort(relayed)
    end

    test "keeps to a quota per user" do
      relay = start_relay(user_quota: 2)
      {first, _} = allocated(relay, user: "ann")
      {_second, _} = allocated(relay, user: "ann")
      assert {:error, {:refused, 486, _}, _} = Client.allocate(client(relay, user: "ann"))
      assert {_, _} = allocated(relay, user: "ben")
      {:ok, 0, _} = Client.refresh(first, 0)
      assert {_, _} = allocated(relay, user: "ann")
    end

    test "ends when no port is left, and goes on when one is free again" do
      {relay, first, {_, port}, {_, other}} = start_with_two_ports()
      assert port != other
      assert allocate_code(relay, [@udp]) == 508
      {:ok, 0, _} = Client.refresh(first, 0)
      assert {_, {_, ^port}} = allocated(relay)
    end

    test "refuses a family that has no relay address" do
      relay = start_relay(relay_ip: "127.0.0.1")
      assert allocate_code(relay, [@udp, {:requested_address_family, :ipv6}]) == 440
    end

    test "tells the external address of a relay behind NAT" do
      relay = start_relay(relay_ip: "127.0.0.1", external_ip: "203.0.113.5")
      assert {_, {{203, 0, 113, 5}, _}} = allocated(relay)
    end

    test "refuses all while draining, but a Refresh", %{} do
      relay = start_relay()
      {client, _} = allocated(relay)
      :ok = Relay.drain(true, relay.pid)
      assert allocate_code(relay, [@udp]) == 508
      assert {:ok, 600, _} = Client.refresh(client)
    end

    # A relay of two ports, and what its first client has. Ports that are free now may be another program's
    # before the relay asks for them, and then it passes them over: so it is tried with others.
    defp start_with_two_ports(tries \\ 10) do
      relay = start_relay(relay_ip: "127.0.0.1", relay_ports: free_ports(2))
      opened = for _ <- 1..2, do: Client.allocate(client(relay))

      case opened do
        [{:ok, one, first}, {:ok, other, _second}] -> {relay, first, one.relayed, other.relayed}
        _ when tries > 1 -> start_with_two_ports(tries - 1)
        _ -> flunk("no two free ports: #{inspect(opened)}")
      end
    end

    # Ports that nobody has at this moment: below those that Linux gives to clients, above those that
    # other tests ask for.
    defp free_ports(count) do
      from = Enum.random(32_000..(32_768 - count))
      opened = for port <- from..(from + count - 1), do: :gen_udp.open(port, ip: {127, 0, 0, 1})
      for {:ok, socket} <- opened, do: :gen_udp.close(socket)

      if Enum.all?(opened, &match?({:ok, _}, &1)),
        do: {from, from + count - 1},
        else: free_ports(count)
    end
  end

  # ---- Refresh ----

  describe "Refresh" do
    test "grants lifetimes as Allocate does", %{relay: relay} do
      {client, _} = allocated(relay)

      for {asked, granted} <- [{1, 600}, {700, 700}, {100_000, 3600}],
          do: assert({:ok, ^granted, _} = Client.refresh(client, asked))
    end

    test "with 0 ends the allocation", %{relay: relay} do
      {client, relayed} = allocated(relay)
      assert {:ok, 0, client} = Client.refresh(client, 0)
      assert request_code(client, :refresh, []) == 437
      assert request_code(client, :create_permission, xor_peer_address: relayed) == 437
      assert request_code(client, :allocate, [@udp]) == 200
    end

    test "needs an allocation, its user and its family", %{relay: relay} do
      assert request_code(challenged(relay), :refresh, []) == 437
      {client, _} = allocated(relay)
      other = Credentials.generate("mallory", secret())
      key = Credentials.key(other.username, client.realm, other.credential, :sha256)
      stranger = %{client | username: other.username, password: other.credential, key: key}
      assert client.integrity == :sha256
      assert request_code(stranger, :refresh, lifetime: 0) == 441
      assert request_code(client, :refresh, requested_address_family: :ipv6) == 443
      assert request_code(client, :refresh, requested_address_family: :ipv4) == 200
    end

    test "is idempotent", %{relay: relay} do
      {client, _} = allocated(relay)
      {message, opts} = Client.prepare(client, :refresh, lifetime: 0)
      assert {:ok, %Stun{class: :success}, _} = Client.transact(client, message, opts)
      {:ok, again, _} = Client.transact(client, message, opts)
      assert code(again) in [200, 437]
    end
  end

  # ---- permissions ----

  describe "CreatePermission" do
    test "takes one peer and many", %{relay: relay} do
      {client, _} = allocated(relay)
      peers = for n <- 1..10, do: {:xor_peer_address, {{127, 0, 0, n}, 0}}
      assert request_code(client, :create_permission, Enum.take(peers, 1)) == 200
      assert request_code(client, :create_permission, peers) == 200
    end

    test "refuses none, malformed ones, and the other family", %{relay: relay} do
      {client, _} = allocated(relay)
      good = {:xor_peer_address, {{127, 0, 0, 1}, 9}}
      assert request_code(client, :create_permission, []) == 400
      assert request_code(client, :create_permission, [good, {0x0012, <<0, 1, 2, 3>>}]) == 400
      other = {:xor_peer_address, {{0, 0, 0, 0, 0, 0, 0, 1}, 9}}
      assert request_code(client, :create_permission, [good, other]) == 443

      # Nothing of a refused list is installed.
      {socket, peer} = peer()
      Client.send_to(client, peer, "not yet")
      {:ok, client} = Client.permit(client, [peer])
      refute_relayed(socket, fn -> Client.send_to(client, peer, "marker") end)
    end

    test "refuses peers that are private, however they are written" do
      relay = start_relay(allow_peers: [])
      {client, _} = allocated(relay)
      {client6, _} = allocated(relay, attributes: [requested_address_family: :ipv6])

      for ip <- [
            {127, 0, 0, 2},
            {10, 0, 0, 1},
            {172, 16, 0, 1},
            {192, 168, 1, 1},
            {169, 254, 169, 254},
            {100, 64, 0, 1},
            {224, 0, 0, 1},
            {0, 0, 0, 0},
            {255, 255, 255, 255}
          ] do
        assert request_code(client, :create_permission, xor_peer_address: {ip, 80}) == 403,
               inspect(ip)
      end

      for text <-
            ~w(fe80::1 fd00::1 ff02::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1::) do
        {:ok, ip} = :inet.parse_address(to_charlist(text))
        assert request_code(client6, :create_permission, xor_peer_address: {ip, 80}) == 403, text
      end

      assert request_code(client, :create_permission, xor_peer_address: {{8, 8, 8, 8}, 53}) == 200
    end

    test "obeys allow and deny lists" do
      relay = start_relay(allow_peers: "10.1.0.0/16", deny_peers: ["10.1.2.0/24", "8.8.8.0/24"])
      {client, _} = allocated(relay)
      permit = &request_code(client, :create_permission, xor_peer_address: {&1, 9})
      assert permit.({10, 1, 1, 1}) == 200
      assert permit.({10, 1, 2, 1}) == 403
      assert permit.({10, 2, 1, 1}) == 403
      assert permit.({8, 8, 8, 8}) == 403
      assert permit.({9, 9, 9, 9}) == 200
    end

    test "allows the relay's own addresses, and its clients reach each other" do
      relay = start_relay(allow_peers: [], workers: 4)

      for _ <- 1..8 do
        {one, first} = allocated(relay)
        {other, second} = allocated(relay)
        {:ok, one} = Client.permit(one, [second])
        {:ok, other} = Client.permit(other, [first])
        :ok = Client.send_to(one, second, "there")
        assert {:ok, {:data, ^first, "there"}} = Client.recv(other, 2_000)
        :ok = Client.send_to(other, first, "back")
        assert {:ok, {:data, ^second, "back"}} = Client.recv(one, 2_000)
      end
    end
  end
end
