defmodule Cromulent.Turn.WireAuthTest do
  # The main rows of STUN and of authentication as a client sees them: a real relay, real sockets. The engine's own
  # tests have the rest, and every timer, in virtual time.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Client, Config, Credentials, Embedded, Keeper, OsProcess, Relay, Stun}

  @udp {:requested_transport, :udp}

  defp password(username), do: Base.encode64(:crypto.mac(:hmac, :sha, secret(), username))

  # One for each test: an allocation outlives its client's socket, and the next client may get the same port.
  setup do: {:ok, relay: start_relay()}

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

    test "are those of \"George\" in quotes and with a NUL behind them", %{relay: relay} do
      for wrap <- [&"\"#{&1}\"", &(&1 <> <<0>>)] do
        client = challenged(relay)
        quoted = %{client | username: wrap.(client.username), realm: wrap.(client.realm)}
        assert request_code(quoted, :allocate, [@udp]) == 200
        assert request_code(client, :refresh, []) == 200
      end
    end

    test "are prepared, in whatever form the user id and the realm were given" do
      relay = start_relay(realm: "Cafe\u0301")
      client = challenged(relay, user: "e\u0301ve")
      assert client.realm == "Caf\u00E9"
      assert String.ends_with?(client.username, ":\u00E9ve")
      assert request_code(client, :allocate, [@udp]) == 200
      assert Relay.kill({:user, "e\u0301ve"}, relay.pid) == {:ok, 1}

      # A client is given the other form, and prepares it.
      decomposed = String.normalize(client.username, :nfd)
      assert decomposed != client.username
      other = challenged(relay, username: decomposed, password: client.password)
      assert request_code(other, :allocate, [@udp]) == 200
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

  describe "USERHASH" do
    setup do
      relay = start_relay(userhashes: 100)
      {:ok, relay: relay, client: challenged(relay)}
    end

    test "stands for a username that the relay was told", %{relay: relay, client: client} do
      assert <<"obMatJos2wAAA", _::binary>> = client.nonce
      assert client.anonymous
      {message, _} = Client.prepare(client, :allocate, [@udp])
      assert Stun.get(message, :username) == nil
      assert byte_size(Stun.get(message, :userhash)) == 32

      {answer, _} = once(client, :allocate, [@udp])
      assert code(answer) == 401
      assert :ok = Relay.announce([client.username], relay.pid)
      assert request_code(client, :allocate, [@udp]) == 200
      assert request_code(client, :refresh, []) == 200
      assert {:ok, [%{username: username}]} = Relay.list(10, relay.pid)
      assert username == client.username
    end

    test "is not the only way in", %{client: client} do
      assert request_code(%{client | anonymous: false}, :allocate, [@udp]) == 200
    end

    test "follows the realm", %{relay: relay, client: client} do
      :ok = Relay.announce([client.username], relay.pid)
      :ok = Relay.configure([realm: "example.net"], relay.pid)
      client = challenged(relay, username: client.username, password: client.password)
      assert client.realm == "example.net"
      assert request_code(client, :allocate, [@udp]) == 200
    end

    test "is known to the next relay too, as far as there was room", %{client: client} do
      relay = start_relay(userhashes: 2)
      forgotten = "4000000000:forgotten"
      :ok = Relay.announce([forgotten, "1:expired", client.username], relay.pid)

      ExUnit.CaptureLog.capture_log(fn ->
        OsProcess.kill(relay.os_pid)
        up? = fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info(relay.pid)) end
        eventually(up?, 10_000)
      end)

      again = relay(relay.pid)
      known = challenged(again, username: client.username, password: client.password)
      assert known.anonymous
      assert request_code(known, :allocate, [@udp]) == 200

      made = [username: forgotten, password: password(forgotten)]
      {answer, _} = once(challenged(again, made), :allocate, [@udp])
      assert code(answer) == 401
    end

    test "is known although the relay's owner was killed" do
      {:ok, config} = Config.new(options(userhashes: 100))
      keeper = :"keeper_#{System.unique_integer([:positive])}"
      name = :"relay_#{System.unique_integer([:positive])}"

      # As the library's own supervisor has them.
      children = [
        {Keeper, {keeper, config}},
        {Relay, [name: name, config: config, keeper: keeper]}
      ]

      {:ok, _} = start_supervised(supervisor(children))
      first = Process.whereis(name)
      client = challenged(relay(name))
      :ok = Relay.announce([client.username], name)
      :ok = Relay.announce_soon("4000000000:soon", name)
      assert {:ok, %{os_pid: os_pid}} = Relay.info(name)

      ExUnit.CaptureLog.capture_log(fn ->
        Process.exit(first, :kill)
        eventually(fn -> match?({:ok, %{status: :up}}, Relay.info(name)) end, 10_000)
      end)

      again = relay(name)
      assert Process.whereis(name) != first
      assert again.os_pid != os_pid

      for username <- [client.username, "4000000000:soon"] do
        known = challenged(again, username: username, password: password(username))
        assert known.anonymous
        assert request_code(known, :allocate, [@udp]) == 200
      end
    end

    defp supervisor(children) do
      %{
        id: :both,
        type: :supervisor,
        start: {Supervisor, :start_link, [children, [strategy: :rest_for_one]]}
      }
    end

    test "is known in the end although the relay was busy" do
      relay = start_relay(userhashes: 4000)
      # A stopped process reads nothing, until it goes on.
      System.cmd("kill", ["-STOP", "#{relay.os_pid}"])
      long = String.duplicate("x", 480)
      for n <- 1..2000, do: :ok = Relay.announce_soon("4000000000:#{long}#{n}", relay.pid)
      late = "4000000000:late"
      :ok = Relay.announce_soon(late, relay.pid)
      assert Relay.drain(false, relay.pid) == {:error, :busy}
      System.cmd("kill", ["-CONT", "#{relay.os_pid}"])

      client = challenged(relay, username: late, password: password(late))
      assert client.anonymous
      eventually(fn -> client |> once(:allocate, [@udp]) |> elem(0) |> code() == 200 end, 10_000)
    end

    test "needs no telling for credentials made here, whatever they call the user" do
      name = :"relay_#{System.unique_integer([:positive])}"
      {:ok, pid} = start_supervised({Relay, [name: name] ++ options(userhashes: 10)})

      for opts <- [[], [opaque_usernames: true]] do
        {:ok, servers} = Embedded.get_ice_servers("carol", [relay: name] ++ opts)
        %{username: username, credential: password} = List.last(servers)
        assert String.ends_with?(username, ":carol") == (opts == [])
        client = challenged(relay(pid), username: username, password: password)
        assert client.anonymous
        assert request_code(client, :allocate, [@udp]) == 200
      end
    end
  end
end
