defmodule Cromulent.Turn.WireTest do
  # The main rows of STUN and TURN as a client sees them: a real relay, real sockets. The engine's own
  # tests have the rest, and every timer, in virtual time.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{ChannelData, Client, Credentials, Relay, Stun}

  @udp {:requested_transport, :udp}

  # One for each test: an allocation outlives its client's socket, and the next client may get the same port.
  setup do: {:ok, relay: start_relay()}

  # ---- helpers ----

  # Packets of one client are worked on in their order: if the answer to a Binding comes and nothing
  # before it, there will be no answer.
  defp assert_dropped(client, packet) do
    :ok = Client.send_packet(client, packet)
    assert {:ok, _} = Client.binding(client)
    socket = client.socket
    refute_received {:udp, ^socket, _, _, _}
  end

  # A challenged client: it knows realm, nonce and key.
  defp challenged(relay, opts \\ []) do
    client = client(relay, opts)
    {:ok, answer, _} = Client.transact(client, Stun.new(:request, :allocate, [@udp]))
    Client.learn(client, answer)
  end

  # One request as it is, without any second try: the answer and its packet.
  defp once(client, method, attributes) do
    {message, opts} = Client.prepare(client, method, attributes)
    {:ok, answer, packet} = Client.transact(client, message, opts)
    {answer, packet}
  end

  defp code(%Stun{class: :error} = answer), do: answer |> Stun.get(:error_code) |> elem(0)
  defp code(%Stun{class: :success}), do: 200

  defp request_code(client, method, attributes) do
    {answer, packet} = once(client, method, attributes)
    # RFC 8489 §9.2.4: after authentication every answer is protected, errors too.
    if code(answer) not in [401, 438],
      do: assert(Stun.verify(packet, client.key, client.integrity) == :ok)

    code(answer)
  end

  defp allocate_code(relay, attributes),
    do: request_code(challenged(relay), :allocate, attributes)

  # Two datagrams in one order: the second one coming alone shows that the first was dropped.
  defp refute_relayed(socket, send_marker) do
    send_marker.()
    assert {_, "marker"} = peer_recv(socket)
  end

  # ---- STUN ----

  describe "Binding" do
    test "tells the client's own address over IPv4 and IPv6", %{relay: relay} do
      for address <- [relay.address, relay.address6] do
        client = client(relay, address: address)
        {:ok, answer, _} = Client.transact(client, Stun.new(:request, :binding))
        assert Stun.get(answer, :xor_mapped_address) == Client.local(client)
        assert Stun.get(answer, :software) == "cromulent_turn/#{relay.info.version}"
        assert Stun.get(answer, :fingerprint) == nil
      end
    end

    test "is answered with a FINGERPRINT where it came with one", %{relay: relay} do
      client = client(relay)
      {:ok, answer, _} = Client.transact(client, Stun.new(:request, :binding), fingerprint: true)
      assert is_integer(Stun.get(answer, :fingerprint))
    end

    test "is never answered as an indication", %{relay: relay} do
      assert_dropped(client(relay), Stun.encode(Stun.new(:indication, :binding)))
    end

    test "with what must be understood and is not gets 420", %{relay: relay} do
      message = Stun.new(:request, :binding, [{0x7F00, "abc"}, {0x7F01, ""}, {0xFF00, "fine"}])
      {:ok, answer, _} = Client.transact(client(relay), message)
      assert code(answer) == 420
      assert Stun.get(answer, :unknown_attributes) == [0x7F00, 0x7F01]
    end

    test "is idempotent", %{relay: relay} do
      client = client(relay)
      message = Stun.new(:request, :binding)
      {:ok, _, first} = Client.transact(client, message)
      {:ok, _, second} = Client.transact(client, message)
      assert first == second
    end
  end

  describe "what is no message for a server" do
    setup %{relay: relay}, do: {:ok, client: client(relay)}

    test "is dropped for its form", %{client: client} do
      good = Stun.encode(Stun.new(:request, :binding), fingerprint: true)
      size = byte_size(good) - 1
      <<head::binary-size(size), last>> = good
      <<_, rest::binary>> = good
      <<start::binary-size(4), cookie::32, tail::binary>> = good

      assert_dropped(client, "")
      assert_dropped(client, "x")
      assert_dropped(client, head)
      assert_dropped(client, good <> <<0, 0, 0, 0>>)
      assert_dropped(client, head <> <<Bitwise.bxor(last, 1)>>)
      assert_dropped(client, <<0x80, rest::binary>>)
      assert_dropped(client, start <> <<cookie + 1::32>> <> tail)
      for byte <- [4, 16, 80, 127, 128, 191, 255], do: assert_dropped(client, <<byte, 0, 0, 0>>)
    end

    test "is dropped for its method or class", %{client: client} do
      for method <- [0x000, 0x002, 0x005, 0x00D, 0x0FF, 0xFFF],
          do: assert_dropped(client, Stun.encode(Stun.new(:request, method)))

      for method <- [:send, :data],
          do: assert_dropped(client, Stun.encode(Stun.new(:request, method)))

      for method <- [:allocate, :refresh, :create_permission, :channel_bind, :data],
          do: assert_dropped(client, Stun.encode(Stun.new(:indication, method)))

      for class <- [:success, :error],
          do: assert_dropped(client, Stun.encode(Stun.new(class, :allocate)))
    end
  end

  # ---- authentication ----

  describe "a request without credentials" do
    test "is challenged", %{relay: relay} do
      client = client(relay)
      {:ok, answer, _} = Client.transact(client, Stun.new(:request, :allocate, [@udp]))
      assert code(answer) == 401
      assert Stun.get(answer, :realm) == "cromulent_turn"
      assert <<"obMatJos2", _bits::binary-size(4), _::binary>> = nonce = Stun.get(answer, :nonce)
      assert byte_size(nonce) < 128
      assert [_ | _] = Stun.get(answer, :password_algorithms)

      for name <- [:username, :userhash, :message_integrity, :message_integrity_sha256],
          do: assert(Stun.get(answer, name) == nil)
    end

    test "is challenged whatever else is wrong with it", %{relay: relay} do
      client = client(relay)

      for {method, attributes} <- [
            allocate: [],
            allocate: [{0x7F00, ""}],
            refresh: [],
            create_permission: [],
            channel_bind: []
          ] do
        {:ok, answer, _} = Client.transact(client, Stun.new(:request, method, attributes))
        assert code(answer) == 401
      end
    end

    test "gets another nonce from another port", %{relay: relay} do
      first = challenged(relay)
      second = challenged(relay)
      assert first.nonce != second.nonce
      assert request_code(%{second | nonce: first.nonce}, :allocate, [@udp]) == 438
    end
  end

  describe "credentials" do
    test "work with MD5 and MESSAGE-INTEGRITY too", %{relay: relay} do
      client = challenged(relay)
      key = Credentials.key(client.username, client.realm, client.password, :md5)
      client = %{client | algorithms: nil, integrity: :sha1, key: key}
      {answer, packet} = once(client, :allocate, [@udp])
      assert code(answer) == 200
      assert Stun.verify(packet, key, :sha1) == :ok
      assert Stun.get(answer, :message_integrity_sha256) == nil
    end

    test "that are wrong get 401", %{relay: relay} do
      assert request_code(challenged(relay, password: "wrong"), :allocate, [@udp]) == 401

      assert request_code(challenged(relay, username: "4000000000:mallory"), :allocate, [@udp]) ==
               401

      assert request_code(challenged(relay, username: "alice"), :allocate, [@udp]) == 401
    end

    test "that have expired get 401", %{relay: relay} do
      made = Credentials.generate("alice", secret(), now: System.os_time(:second) - 7200, ttl: 60)
      expired = [username: made.username, password: made.credential]
      assert request_code(challenged(relay, expired), :allocate, [@udp]) == 401
    end

    test "need all their parts", %{relay: relay} do
      client = challenged(relay)

      for part <- [:username, :realm, :nonce] do
        {message, opts} = Client.prepare(client, :allocate, [@udp])
        message = %{message | attributes: Keyword.delete(message.attributes, part)}
        {:ok, answer, _} = Client.transact(client, message, opts)
        assert code(answer) == 400, "without #{part}"
      end
    end

    test "with a nonce that is not ours get 438 and a fresh one", %{relay: relay} do
      client = challenged(relay)
      {answer, _} = once(%{client | nonce: "obMatJos2gAAA0123456789"}, :allocate, [@udp])
      assert code(answer) == 438
      assert request_code(Client.learn(client, answer), :allocate, [@udp]) == 200
    end

    test "cannot be bid down", %{relay: relay} do
      client = challenged(relay)
      <<"obMatJos2", bits::binary-size(4), rest::binary>> = client.nonce
      assert bits != "AAAA"
      key = Credentials.key(client.username, client.realm, client.password, :md5)

      weak = %{
        client
        | nonce: "obMatJos2AAAA" <> rest,
          algorithms: nil,
          integrity: :sha1,
          key: key
      }

      assert request_code(weak, :allocate, [@udp]) == 438
    end

    test "are asked for before 420", %{relay: relay} do
      assert allocate_code(relay, [@udp, {0x7F00, ""}]) == 420
    end

    test "protect a message up to the integrity and no further", %{relay: relay} do
      client = challenged(relay)
      {message, opts} = Client.prepare(client, :allocate, [@udp])
      packet = Stun.encode(message, Keyword.delete(opts, :fingerprint))
      <<type::16, length::16, rest::binary>> = packet
      # LIFETIME 1000, put behind the integrity by somebody on the way
      longer = <<type::16, length + 8::16, rest::binary, 0x000D::16, 4::16, 1000::32>>
      Client.send_packet(client, longer)
      socket = client.socket
      assert_receive {:udp, ^socket, _, _, answer}, 2_000
      assert {:ok, %Stun{class: :success} = answer} = Stun.decode(answer)
      assert Stun.get(answer, :lifetime) == 600
    end
  end

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

    test "needs a transport, and one that is relayed", %{relay: relay} do
      assert allocate_code(relay, []) == 400
      assert allocate_code(relay, [{0x0019, <<17, 0>>}]) == 400
      assert allocate_code(relay, requested_transport: :tcp) == 442
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
      relay = start_relay(relay_ip: "127.0.0.1", relay_ports: free_ports(2))
      {first, {_, port}} = allocated(relay)
      {_second, {_, other}} = allocated(relay)
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

    # Ports that nobody has at this moment.
    defp free_ports(count) do
      from = Enum.random(20_000..30_000)

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

  # ---- data ----

  describe "Send and Data" do
    setup %{relay: relay} do
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client} = Client.permit(client, [peer])
      {:ok, client: client, relayed: relayed, socket: socket, peer: peer}
    end

    test "carry payloads of every size, byte by byte", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      {ip, port} = relayed

      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, peer, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 2_000) == {:ok, {:data, peer, data}}
      end
    end

    test "look at the peer's IP and not at its port", context do
      {other, other_peer} = peer()
      {ip, port} = context.relayed
      :ok = :gen_udp.send(other, ip, port, "from another port")
      assert Client.recv(context.client, 2_000) == {:ok, {:data, other_peer, "from another port"}}
      :ok = Client.send_to(context.client, other_peer, "to another port")
      assert peer_recv(other) == {context.relayed, "to another port"}
    end

    test "drop what has no permission, in both directions", context do
      %{client: client, relayed: {ip, port}, socket: socket, peer: peer} = context
      {stranger, stranger_address} = peer({127, 0, 0, 2})
      :ok = Client.send_to(client, stranger_address, "out")
      :ok = :gen_udp.send(stranger, ip, port, "in")
      :ok = :gen_udp.send(socket, ip, port, "marker")
      assert Client.recv(client, 2_000) == {:ok, {:data, peer, "marker"}}

      {:ok, client} = Client.permit(client, [stranger_address])
      refute_relayed(stranger, fn -> Client.send_to(client, stranger_address, "marker") end)
    end

    test "drop indications that are not whole", context do
      %{client: client, socket: socket, peer: peer} = context

      for attributes <- [
            [xor_peer_address: peer],
            [data: "x"],
            [{:xor_peer_address, peer}, {:data, "x"}, {0x7F00, ""}],
            [{0x0012, <<0, 1>>}, {:data, "x"}]
          ] do
        Client.send_packet(client, Stun.encode(Stun.new(:indication, :send, attributes)))
      end

      refute_relayed(socket, fn -> Client.send_to(client, peer, "marker") end)
    end

    test "without an allocation are dropped in silence", %{relay: relay, peer: peer} do
      client = client(relay)
      packet = Stun.encode(Stun.new(:indication, :send, xor_peer_address: peer, data: "x"))
      assert_dropped(client, packet)
      assert_dropped(client, ChannelData.encode(0x4000, "x"))
    end

    test "do not suffer from a port that is closed", context do
      {gone, gone_address} = peer()
      :gen_udp.close(gone)

      for n <- 1..20 do
        :ok = Client.send_to(context.client, gone_address, "anybody?")
        :ok = Client.send_to(context.client, context.peer, "#{n}")
        assert peer_recv(context.socket) == {context.relayed, "#{n}"}
      end
    end

    test "go over IPv6", %{relay: relay} do
      {socket, peer} = peer({0, 0, 0, 0, 0, 0, 0, 1})

      for address <- [relay.address, relay.address6] do
        {client, {ip, port} = relayed} =
          allocated(relay, address: address, attributes: [requested_address_family: :ipv6])

        {:ok, client} = Client.permit(client, [peer])
        :ok = Client.send_to(client, peer, "six")
        assert peer_recv(socket) == {relayed, "six"}
        :ok = :gen_udp.send(socket, ip, port, "back")
        assert Client.recv(client, 2_000) == {:ok, {:data, peer, "back"}}
      end
    end

    test "take DONT-FRAGMENT", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      attributes = [xor_peer_address: peer, data: "whole", dont_fragment: true]
      Client.send_packet(client, Stun.encode(Stun.new(:indication, :send, attributes)))
      assert peer_recv(socket) == {relayed, "whole"}
    end
  end

  # ---- channels ----

  describe "channels" do
    setup %{relay: relay} do
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client: client, relayed: relayed, socket: socket, peer: peer}
    end

    test "have numbers in their range only", %{client: client, peer: peer} do
      for number <- [0x0000, 0x3FFF, 0x8000, 0xFFFF] do
        attributes = [channel_number: number, xor_peer_address: peer]
        assert request_code(client, :channel_bind, attributes) == 400, "#{number}"
      end

      assert request_code(client, :channel_bind, channel_number: 0x4000) == 400
      assert request_code(client, :channel_bind, xor_peer_address: peer) == 400
      assert {:ok, client} = Client.bind(client, 0x4FFF, peer)
      assert {:ok, _} = Client.bind(client, 0x4FFF, peer)
    end

    test "are married to their peer", %{client: client, peer: {ip, port} = peer} do
      {:ok, client} = Client.bind(client, 0x4000, peer)
      bind = &request_code(client, :channel_bind, channel_number: &1, xor_peer_address: &2)
      assert bind.(0x4000, {ip, port - 1}) == 400
      assert bind.(0x4001, peer) == 400
      assert bind.(0x4001, {ip, port - 1}) == 200
      assert bind.(0x4000, peer) == 200
      assert bind.(0x4002, {{0, 0, 0, 0, 0, 0, 0, 1}, port}) == 443
    end

    test "to a forbidden peer get 403, and no permission" do
      relay = start_relay(allow_peers: [])
      {client, _} = allocated(relay)
      attributes = [channel_number: 0x4000, xor_peer_address: {{10, 0, 0, 1}, 9}]
      assert request_code(client, :channel_bind, attributes) == 403
      assert {:ok, [%{permissions: 0, channels: 0}]} = Relay.list(10, relay.pid)
    end

    test "carry payloads of every size, byte by byte", context do
      %{client: client, relayed: {ip, port} = relayed, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)

      for size <- [0, 1, 2, 3, 4, 5, 1200, 1400] do
        data = :crypto.strong_rand_bytes(size)
        :ok = Client.send_to(client, 0x4000, data)
        assert peer_recv(socket) == {relayed, data}
        :ok = :gen_udp.send(socket, ip, port, data)
        assert Client.recv(client, 2_000) == {:ok, {:channel, 0x4000, data}}
      end
    end

    test "leave other ports of the peer to Data indications", context do
      %{client: client, relayed: {ip, port}, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      {other, other_peer} = peer()
      :ok = :gen_udp.send(other, ip, port, "x")
      assert Client.recv(client, 2_000) == {:ok, {:data, other_peer, "x"}}
      :ok = Client.send_to(client, peer, "Send works too")
      assert peer_recv(context.socket) == {context.relayed, "Send works too"}
    end

    test "that nobody bound carry nothing", context do
      %{client: client, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = Client.send_to(client, 0x4001, "nowhere")
      # 4 bytes of payload are announced, and 2 are there
      :ok = Client.send_packet(client, <<0x4000::16, 4::16, "ab">>)
      refute_relayed(socket, fn -> Client.send_to(client, 0x4000, "marker") end)
    end

    test "belong to one allocation", %{relay: relay, peer: peer} = context do
      {:ok, client} = Client.bind(context.client, 0x4000, peer)
      {other, other_relayed} = allocated(relay)
      {other_socket, other_peer} = peer()
      {:ok, other} = Client.bind(other, 0x4000, other_peer)
      :ok = Client.send_to(client, 0x4000, "mine")
      :ok = Client.send_to(other, 0x4000, "theirs")
      assert peer_recv(context.socket) == {context.relayed, "mine"}
      assert peer_recv(other_socket) == {other_relayed, "theirs"}
    end

    test "pass padding by", context do
      %{client: client, relayed: relayed, socket: socket, peer: peer} = context
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = Client.send_packet(client, ChannelData.encode(0x4000, "abc", stream?: true))
      assert peer_recv(socket) == {relayed, "abc"}
    end

    test "between two clients of the relay go through it", %{relay: relay} do
      for _ <- 1..4 do
        {one, first} = allocated(relay)
        {other, second} = allocated(relay)
        {:ok, one} = Client.bind(one, 0x4000, second)
        {:ok, other} = Client.bind(other, 0x4ABC, first)
        :ok = Client.send_to(one, 0x4000, "there")
        assert Client.recv(other, 2_000) == {:ok, {:channel, 0x4ABC, "there"}}
        :ok = Client.send_to(other, 0x4ABC, "back")
        assert Client.recv(one, 2_000) == {:ok, {:channel, 0x4000, "back"}}
      end
    end
  end

  # ---- timers, short ones ----

  describe "time" do
    test "ends allocations, and gives their ports back" do
      relay = start_relay(lifetime_default: 1, lifetime_max: 1)
      {client, _} = allocated(relay)
      assert {:ok, [_]} = Relay.list(10, relay.pid)
      eventually(fn -> Relay.list(10, relay.pid) == {:ok, []} end, 5_000)
      assert request_code(client, :refresh, []) == 437

      eventually(fn ->
        {:ok, %{allocations: now, counters: counters}} = Relay.stats(relay.pid)
        {now, counters.allocations_expired} == {0, 1}
      end)
    end

    test "makes nonces stale, and the allocation goes on" do
      relay = start_relay(nonce_lifetime: 1)
      {client, _} = allocated(relay)

      eventually(
        fn ->
          {answer, _} = once(client, :refresh, [])
          code(answer) == 438
        end,
        5_000
      )

      assert {:ok, 600, _} = Client.refresh(client)
    end

    test "ends permissions, whatever traffic there is" do
      relay = start_relay(permission_lifetime: 1)
      {socket, peer} = peer()
      {client, relayed} = allocated(relay)
      {:ok, client} = Client.permit(client, [peer])
      Client.send_to(client, peer, "first")
      assert peer_recv(socket) == {relayed, "first"}

      eventually(
        fn ->
          Client.send_to(client, peer, "again")
          {:ok, stats} = Relay.stats(relay.pid)
          stats.counters.drop_no_permission > 0
        end,
        5_000
      )

      {:ok, client} = Client.permit(client, [peer])
      refute_relayed_late(socket, fn -> Client.send_to(client, peer, "marker") end)
    end

    # After what came while there was a permission, only the marker comes.
    defp refute_relayed_late(socket, send_marker) do
      send_marker.()

      case peer_recv(socket) do
        {_, "again"} -> refute_relayed_late(socket, fn -> :ok end)
        {_, data} -> assert data == "marker"
      end
    end
  end

  test "counters agree with what a client did" do
    relay = start_relay(workers: 1)
    {socket, peer} = peer()
    client = client(relay)
    for _ <- 1..3, do: {:ok, _} = Client.binding(client)
    {:ok, allocation, client} = Client.allocate(client)
    {:ok, client} = Client.permit(client, [peer])
    {:ok, client} = Client.bind(client, 0x4000, peer)
    assert request_code(client, :channel_bind, channel_number: 1, xor_peer_address: peer) == 400
    assert request_code(client, :create_permission, xor_peer_address: {{10, 0, 0, 1}, 1}) == 403
    for _ <- 1..10, do: Client.send_to(client, 0x4000, "12345")
    for _ <- 1..10, do: peer_recv(socket)
    {ip, port} = allocation.relayed
    for _ <- 1..4, do: :gen_udp.send(socket, ip, port, "123")
    for _ <- 1..4, do: {:ok, _} = Client.recv(client, 2_000)
    Client.send_to(client, 0x4001, "unbound")
    Client.send_to(client, {{127, 0, 0, 9}, 9}, "no permission")
    {:ok, 700, client} = Client.refresh(client, 700)
    {:ok, 0, _} = Client.refresh(client, 0)
    Client.send_to(client, peer, "no allocation")
    Client.send_packet(client, "rubbish")
    {:ok, _} = Client.binding(client)

    {:ok, %{counters: counters, allocations: 0}} = Relay.stats(relay.pid)

    expected = %{
      bindings: 4,
      challenges: 1,
      allocations_created: 1,
      allocations_released: 1,
      permissions: 2,
      channels: 1,
      refreshes: 2,
      up_packets: 10,
      up_bytes: 50,
      down_packets: 4,
      down_bytes: 12,
      errors: 2,
      forbidden: 1,
      drop_no_channel: 1,
      drop_no_permission: 1,
      drop_no_allocation: 1,
      drop_malformed: 1,
      unauthenticated: 0
    }

    assert Map.take(counters, Map.keys(expected)) == expected
  end
end
