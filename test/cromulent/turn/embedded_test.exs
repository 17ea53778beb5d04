defmodule Cromulent.Turn.EmbeddedTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Client, Config, Credentials, Embedded, Relay}

  # The URLs of STUN and of TURN, as clients are told them.
  defp urls(opts, listen) do
    {:ok, config} = Config.new([secret: secret()] ++ opts)
    prepared = Embedded.prepare(config, listen)
    {stun, turn} = Enum.split_with(prepared.servers, &is_map/1)
    {Enum.map(stun, & &1.urls), turn}
  end

  describe "the addresses" do
    test "of a listener on one address are that address" do
      assert urls([relay_ip: "127.0.0.1"], ["udp:127.0.0.1:3478", "udp:[::1]:3479"]) ==
               {["stun:127.0.0.1:3478", "stun:[::1]:3479"],
                ["turn:127.0.0.1:3478?transport=udp", "turn:[::1]:3479?transport=udp"]}

      assert {_, ["turn:192.0.2.9:3478?transport=udp"]} =
               urls([relay_ip: "192.0.2.8"], ["udp:192.0.2.9:3478"])
    end

    test "of a listener on every address are those of the relay, by family" do
      opts = [relay_ip: "192.0.2.8,2001:db8::8"]

      assert {_, ["turn:192.0.2.8:3478?transport=udp", "turn:[2001:db8::8]:3478?transport=udp"]} =
               urls(opts, ["udp:0.0.0.0:3478", "udp:[::]:3478"])

      assert {_, ["turn:192.0.2.8:3478?transport=udp"]} = urls(opts, ["udp:0.0.0.0:3478"])
    end

    test "name the transport of their listener" do
      listen = ["tcp:127.0.0.1:3478", "udp:127.0.0.1:3479"]

      assert urls([relay_ip: "127.0.0.1"], listen) ==
               {["stun:127.0.0.1:3479"],
                ["turn:127.0.0.1:3479?transport=udp", "turn:127.0.0.1:3478?transport=tcp"]}
    end

    test "are of TLS where there is a certificate" do
      made = Cromulent.Turn.Certificates.make()
      opts = [relay_ip: "127.0.0.1", cert: made.cert, key: made.key, host: "turn.example.org"]

      assert urls(opts, ["tcp:127.0.0.1:443", "tls:127.0.0.1:5349", "dtls:127.0.0.1:5349"]) ==
               {[],
                [
                  "turn:turn.example.org:443?transport=tcp",
                  "turns:turn.example.org:443?transport=tcp",
                  "turns:turn.example.org:5349?transport=tcp",
                  "turns:turn.example.org:5349?transport=udp"
                ]}
    end

    test "are the external ones behind NAT" do
      opts = [relay_ip: "10.0.0.8", external_ip: "203.0.113.5"]
      told = ["turn:203.0.113.5:3478?transport=udp"]
      assert {_, ^told} = urls(opts, ["udp:0.0.0.0:3478"])
      assert {_, ^told} = urls(opts, ["udp:10.0.0.8:3478"])
      assert {_, ["turn:127.0.0.1:3478?transport=udp"]} = urls(opts, ["udp:127.0.0.1:3478"])
    end

    test "are the host where there is one, once" do
      assert {["stun:turn.example.org:3478"], ["turn:turn.example.org:3478?transport=udp"]} =
               urls([relay_ip: "10.0.0.8", host: "turn.example.org"], [
                 "udp:0.0.0.0:3478",
                 "udp:[::]:3478"
               ])

      assert {_, ["turn:[2001:db8::5]:3478?transport=udp"]} =
               urls([relay_ip: "10.0.0.8", host: "2001:db8::5"], ["udp:0.0.0.0:3478"])
    end

    test "are followed by further STUN servers" do
      assert {["stun:127.0.0.1:3478", "stun:more.example.org"], _} =
               urls([relay_ip: "127.0.0.1", stun_urls: "stun:more.example.org"], [
                 "udp:127.0.0.1:3478"
               ])
    end
  end

  test "gives the servers of a relay by its name" do
    start_supervised!(
      {Relay, [name: __MODULE__.Relay] ++ options(secret: ["new secret of the test", "old"])}
    )

    assert {:ok, servers} = Embedded.get_ice_servers("alice", relay: __MODULE__.Relay)
    turn = Enum.filter(servers, &String.starts_with?(&1.urls, "turn:"))
    assert length(turn) == 2

    for server <- turn do
      assert Enum.sort(Map.keys(server)) == [:credential, :urls, :username]

      assert Credentials.verify(server.username, server.credential, "new secret of the test") ==
               :ok
    end

    for %{urls: "stun:" <> _} = server <- servers, do: assert(Map.keys(server) == [:urls])
    assert Embedded.get_ice_servers("a\0", relay: __MODULE__.Relay) == {:error, :bad_user_id}
  end

  test "limits the servers, and takes other limits with a call" do
    name = __MODULE__.Limited
    stun = for n <- 1..4, do: "stun:s#{n}.example.org"
    start_supervised!({Relay, [name: name] ++ options(stun_urls: stun, max_ice_servers: 3)})
    urls = fn opts -> urls_of(Embedded.get_ice_servers("alice", [relay: name] ++ opts)) end

    assert ["stun:127.0.0.1" <> _, "turn:127.0.0.1" <> _, "turn:[::1]" <> _] = urls.([])
    assert ["turn:127.0.0.1" <> _] = urls.(max_ice_servers: 1)
    all = urls.(max_ice_servers: 32, stun_urls: "stun:mine.example.org,stun:s1.example.org:3478")
    assert Enum.slice(all, 2, 5) == stun ++ ["stun:mine.example.org"]
    assert length(all) == 9

    assert Relay.configure([max_ice_servers: 8], name) == :ok
    assert length(urls.([])) == 8

    for {option, wrong} <- [max_ice_servers: 0, ttl: "soon", opaque_usernames: 2] do
      assert {:error, {:config, text}} =
               Embedded.get_ice_servers("alice", [{option, wrong}, relay: name])

      assert text =~ "option #{option}: #{inspect(wrong)}: must be"
    end
  end

  test "gives the expiry with the offer" do
    start_supervised!({Relay, [name: __MODULE__.Expiry] ++ options(ttl: 600)})
    assert {:ok, offer} = Embedded.offer("alice", relay: __MODULE__.Expiry)
    assert %{username: username} = List.last(offer.ice_servers)
    assert username == "#{offer.expires_at}:alice"
    assert (offer.expires_at - System.os_time(:second)) in 595..600

    assert {:ok, %{expires_at: sooner}} =
             Embedded.offer("alice", relay: __MODULE__.Expiry, ttl: 60)

    assert sooner < offer.expires_at
  end

  describe "opaque usernames" do
    setup do
      name = __MODULE__.Opaque
      start_supervised!({Relay, [name: name] ++ options(opaque_usernames: true)})
      {:ok, relay: relay(name), name: name}
    end

    test "hide the id on the wire and from the relay", %{relay: relay, name: name} do
      id = "018f2f5e-0000-7000-8000-00000000a11c"
      {:ok, _client, packets} = allocate(name, relay, id)
      assert packets != []
      refute Enum.any?(packets, &(&1 =~ id))
      assert {:ok, [%{username: username}]} = Relay.list(10, name)
      assert [expiry, opaque] = String.split(username, ":")
      assert String.to_integer(expiry) > System.os_time(:second)
      assert opaque == Credentials.opaque_user_id(id, secret())
    end

    test "are killed by the id, under every secret and before the option was on", %{
      relay: relay,
      name: name
    } do
      {:ok, one, _} = allocate(name, relay, "alice")
      assert Relay.configure([secret: ["another secret of this test", secret()]], name) == :ok
      {:ok, two, _} = allocate(name, relay, "alice")
      assert Relay.configure([opaque_usernames: false], name) == :ok
      {:ok, plain, _} = allocate(name, relay, "alice")
      {:ok, other, _} = allocate(name, relay, "bob")

      assert Relay.kill({:user, "alice"}, name) == {:ok, 3}

      for client <- [one, two, plain],
          do: assert({:error, {:refused, 437, _}, _} = Client.refresh(client))

      assert {:ok, _, _} = Client.refresh(other)
      assert Relay.kill({:user, "alice"}, name) == {:ok, 0}
    end

    test "count for the quota of the user, whenever they were made", %{relay: relay, name: name} do
      assert Relay.configure([user_quota: 1], name) == :ok

      clients =
        for {id, ttl} <- [{"alice", 600}, {"alice", 700}, {"bob", 600}] do
          {:ok, servers} = Embedded.get_ice_servers(id, relay: name, ttl: ttl)
          %{username: username, credential: credential} = List.last(servers)
          {:ok, client} = Client.open(relay.address, username: username, password: credential)
          client
        end

      assert [{:ok, _, _}, {:error, {:refused, 486, _}, _}, {:ok, _, _}] =
               Enum.map(clients, &Client.allocate/1)
    end

    test "take any id that is text", %{name: name} do
      for id <- ["new\nline", String.duplicate("x", 600), <<0xFF>>, 42] do
        assert {:ok, %{ice_servers: servers}} = Embedded.offer(id, relay: name)
        assert %{username: username, credential: credential} = List.last(servers)
        assert Credentials.verify(username, credential, secret()) == :ok
      end

      assert Embedded.offer(%{}, relay: name) == {:error, :bad_user_id}
    end

    # A client that allocates by way of a proxy which keeps what goes through it.
    defp allocate(name, relay, id) do
      {:ok, servers} = Embedded.get_ice_servers(id, relay: name)
      %{username: username, credential: credential} = List.last(servers)
      {tap, address} = tap(relay.address)
      {:ok, client} = Client.open(address, username: username, password: credential)
      {:ok, _allocation, client} = Client.allocate(client)
      {:ok, client, Agent.get(tap, & &1)}
    end

    defp tap(server) do
      packets = start_supervised!({Agent, fn -> [] end}, id: make_ref())
      {:ok, socket} = :gen_udp.open(0, [:binary, ip: {127, 0, 0, 1}, active: false])
      {:ok, address} = :inet.sockname(socket)
      pump = spawn_link(fn -> receive(do: (:go -> pump(socket, server, nil, packets))) end)
      :ok = :gen_udp.controlling_process(socket, pump)
      send(pump, :go)
      {packets, address}
    end

    defp pump(socket, server, client, packets) do
      {:ok, {ip, port, bytes}} = :gen_udp.recv(socket, 0)
      Agent.update(packets, &[bytes | &1])
      client = if {ip, port} == server, do: client, else: {ip, port}
      to = if {ip, port} == server, do: client, else: server
      :ok = :gen_udp.send(socket, to, bytes)
      pump(socket, server, client, packets)
    end
  end

  defp urls_of({:ok, servers}), do: Enum.map(servers, & &1.urls)

  test "says so when no relay runs" do
    assert Embedded.get_ice_servers("alice", relay: :no_such_relay) == {:error, :not_running}
    refute Embedded.running?(:no_such_relay)
  end
end
