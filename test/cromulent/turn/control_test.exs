defmodule Cromulent.Turn.ControlTest do
  # The protocol of the control channel, from the greeting to the events.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Control
  import Cromulent.Turn.Helpers, only: [address: 1, client: 2, peer: 0]

  alias Cromulent.Turn.{Client, Credentials, Program}

  # ---- starting ----

  describe "starting" do
    test "is a greeting, a configuration, and an answer that says what runs" do
      {port, info, _relay} = start(%{relays: [{"127.0.0.1", "192.0.2.1"}]})

      assert Enum.sort(Map.keys(info)) ==
               [:listen, :os_pid, :protocol, :relays, :udp, :version, :workers]

      assert ["udp:127.0.0.1:" <> number] = info.listen
      assert String.to_integer(number) > 0
      assert info.os_pid == os_pid(port)
      assert info.protocol == 1
      assert info.relays == [{"127.0.0.1", "192.0.2.1"}]
      assert info.udp in [:mmsg, :uv]
      assert info.version == "0.1.0"
      assert info.workers == 2
    end

    test "gives a free port to each listener, and serves all of them from every worker" do
      listen = ["udp:127.0.0.1:0", "udp:[::1]:0", "udp:127.0.0.1:0"]
      {port, info, _relay} = start(%{listen: listen, workers: 3})
      addresses = Enum.map(info.listen, &address/1)
      assert length(Enum.uniq(addresses)) == 3

      for address <- addresses, _ <- 1..10 do
        client = client(%{address: address}, [])
        assert Client.binding(client) == {:ok, Client.local(client)}
      end

      stats = stats(port)
      assert stats.counters.bindings == 30
      assert Enum.all?(stats.workers, &(&1.counters.bindings > 0))
      assert call(port, :ping) == :ok
    end

    test "takes a wildcard address, and answers from where it was asked" do
      {_port, info, _relay} = start(%{listen: ["udp:0.0.0.0:0", "udp:[::]:0"]})
      [{{0, 0, 0, 0}, port4}, {_, port6}] = Enum.map(info.listen, &address/1)

      # Clients are connected sockets: an answer from elsewhere would not reach them. Without
      # batches the system chooses the address, which is right where there is one.
      ips = if info.udp == :mmsg, do: [{127, 0, 0, 1}, {127, 0, 0, 2}], else: [{127, 0, 0, 1}]

      for address <- [{{0, 0, 0, 0, 0, 0, 0, 1}, port6} | Enum.map(ips, &{&1, port4})] do
        client = client(%{address: address}, [])
        assert Client.binding(client) == {:ok, Client.local(client)}
      end
    end

    test "on a wildcard address knows where a client's packets came to" do
      {port, info, _relay} = start(%{listen: ["udp:0.0.0.0:0"]})
      [{_, number}] = Enum.map(info.listen, &address/1)
      allocate(%{address: {{127, 0, 0, 1}, number}})
      assert {:ok, [allocation]} = call(port, :list, [10])
      ip = if info.udp == :mmsg, do: "127.0.0.1", else: "0.0.0.0"
      assert allocation.server == "#{ip}:#{number}"
    end

    test "fails when the port is somebody else's" do
      {_socket, {_, number}} = peer()
      listener = "udp:127.0.0.1:#{number}"

      for workers <- [1, 2] do
        port = greet(config(%{listen: [listener], workers: workers}))
        assert failure(port) == {:listen, {listener, :eaddrinuse}}
      end
    end

    test "fails when the port is another relay's, with however many sockets" do
      for theirs <- [1, 2], ours <- [1, 2] do
        {port, info, _relay} = start(%{workers: theirs})
        taken = config(%{listen: info.listen, workers: ours})
        assert failure(greet(taken)) == {:listen, {hd(info.listen), :eaddrinuse}}
        Port.close(port)
      end
    end

    test "fails when an address is not ours" do
      port = greet(config(%{listen: ["udp:192.0.2.7:0"]}))
      assert failure(port) == {:listen, {"udp:192.0.2.7:0", :eaddrnotavail}}

      port = greet(config(%{relays: [{"192.0.2.7", "192.0.2.8"}]}))
      assert failure(port) == {:relay_ip, {"192.0.2.7", :eaddrnotavail}}
    end

    test "by hand says how it is started" do
      {output, 2} = System.cmd(Program.path(), [], stderr_to_stdout: true)
      assert output =~ ~r/\Ausage: turn_relay .*descriptors 3 and 4\n\z/
    end
  end

  describe "a configuration is refused with a sentence" do
    test "for every kind of value" do
      for {key, value, text} <- [
            {:listen, [],
             ~s(listen: must be a list of 1 to 16 addresses like "udp:IP:PORT" or "tcp:[IPv6]:PORT", not a list of 0)},
            {:listen, ["sctp:127.0.0.1:3478"],
             ~s(listen: must be a list of 1 to 16 addresses like "udp:IP:PORT" or "tcp:[IPv6]:PORT", not "sctp:127.0.0.1:3478")},
            {:realm, "", ~s(realm: must be one line of 1 to 127 bytes, not "")},
            {:realm, "a\nb", ~s(realm: must be one line of 1 to 127 bytes, not "a?b")},
            {:realm, :test, "realm: must be one line of 1 to 127 bytes, not test"},
            {:relays, [{"0.0.0.0", "192.0.2.1"}],
             ~s(relays: must be a list of 1 to 8 pairs {BindIp, ExternalIp}, without ports, not 0.0.0.0 or ::, not "0.0.0.0")},
            {:relays, [{"127.0.0.1", "::1"}],
             ~s(relays: must be pairs of IPs of one family, not "::1")},
            {:ports, {50_000, 40_000},
             "ports: must be {Min, Max} with 1024 =< Min =< Max =< 65535, not 40000"},
            {:ports, ~c"ports",
             "ports: must be {Min, Max} with 1024 =< Min =< Max =< 65535, not a charlist"},
            {:workers, 0, "workers: must be an integer from 1 to 64, not 0"},
            {:workers, -1, "workers: must be an integer from 1 to 64, not -1"},
            {:workers, 1.5, "workers: must be an integer from 1 to 64, not a float"},
            {:allow_peers, ["10.0.0.1/8"],
             ~s(allow_peers: must be a list of CIDRs like "10.0.0.0/8", without host bits, not "10.0.0.1/8")},
            {:deny_peers, ["nowhere"],
             ~s(deny_peers: must be a list of CIDRs like "10.0.0.0/8", without host bits, not "nowhere")},
            {:software, String.duplicate("x", 128),
             ~s(software: must be one line of up to 127 bytes, not "#{String.duplicate("x", 64)}"...)},
            {:lifetime_default, 700_000,
             "lifetime_default: must be an integer from 1 to 3600, not 700000"},
            {:max_allocations, 1_000_000_000_000_000_000_000,
             "max_allocations: must be an integer from 1 to 16777216, not a large integer"},
            {:userhashes, 1_048_577,
             "userhashes: must be an integer from 0 to 1048576, not 1048577"},
            {:mobility, 1, "mobility: must be true or false, not 1"},
            {:user_bandwidth, 4_294_967_296,
             "user_bandwidth: must be an integer from 0 to 4294967295, not 4294967296"},
            {:permission_events, 1, "permission_events: must be true or false, not 1"},
            {:keep_dscp, "true", ~s(keep_dscp: must be true or false, not "true")},
            {:mode, :closed, "mode: must be open or switch, not closed"},
            {:pair, 1, "pair: must be true or false, not 1"},
            {:colour, "red", "colour: not a key of the configuration"}
          ] do
        assert refused(&Map.put(&1, key, value)) == text
      end
    end

    test "for keys that are missing, or do not fit together" do
      assert refused(&Map.delete(&1, :realm)) ==
               "realm: missing, must be one line of 1 to 127 bytes"

      assert refused(&Map.merge(&1, %{lifetime_max: 100})) ==
               "lifetime_default: must be at most lifetime_max (100), not 600"

      assert refused(fn _ -> [realm: "test"] end) == "the configuration must be a map"
      assert refused(&Map.put(&1, "realm", 1)) == ~s("realm": not a key of the configuration)
    end

    test "for too many of something" do
      assert refused(&Map.put(&1, :listen, List.duplicate("udp:127.0.0.1:0", 17))) =~
               "listen: must be a list of 1 to 16"

      many = for a <- 0..255, do: "10.0.#{a}.0/24"
      assert refused(&Map.put(&1, :deny_peers, many)) =~ "deny_peers: must be a shorter list"
    end

    test "that never shows a secret" do
      long = String.duplicate("mysecret", 40)

      for secrets <- [long, [long], ["mysecret", ""], List.duplicate("mysecret", 9), :mysecret] do
        assert refused(&Map.put(&1, :secrets, secrets)) ==
                 "secrets: must be a list of 1 to 8 binaries of 1 to 256 bytes"
      end
    end
  end

  describe "what is not the protocol ends the relay:" do
    test "another version" do
      assert protocol_failure(send_term(open(), {:hello, 2})) ==
               "protocol version 2 came: this relay speaks 1"
    end

    test "no greeting, or two" do
      assert protocol_failure(send_term(open(), {:configure, 1, config()})) ==
               "configure: not at this point of the conversation"

      {port, _info, _relay} = start()

      assert protocol_failure(send_term(port, {:hello, 1})) ==
               "hello: not at this point of the conversation"
    end

    test "a command before the configuration" do
      port = open() |> send_term({:hello, 1}) |> send_term({:stats, 1})
      assert protocol_failure(port) == "stats: not at this point of the conversation"
    end

    test "unknown atoms and shapes" do
      for {term, text} <- [
            {{:dance, 1}, "dance: not a command"},
            {:stats, "stats: must be a tuple that starts with an atom"},
            {{}, "a tuple of 0: must be a tuple that starts with an atom"},
            {{"stats", 1}, ~s("stats": must be a tuple that starts with an atom)},
            {{:hello, Bitwise.bsl(1, 64)}, "hello: not at this point of the conversation"},
            {{:stats}, "stats: must be {stats, Ref}"},
            {{:stats, -1}, "stats: must be {stats, Ref}"},
            {{:stats, Bitwise.bsl(1, 60) + 1}, "stats: must be {stats, Ref}"},
            {{:stats, 1, 2}, "stats: must be {stats, Ref}"},
            {{:list, 1, :all}, "list: must be {list, Ref, Limit}"},
            {{:drain, 1, :maybe}, "drain: must be {drain, Ref, Boolean}"},
            {{:list, Bitwise.bsl(1, 64), 1}, "list: must be {list, Ref, Limit}"},
            {{:credit, -1}, "credit: must be {credit, N}"},
            {{:users, 1, :all}, "users: must be {users, Ref, [Username]}"},
            {{:users, 1, ["1:a", ""]}, "users: must be {users, Ref, [Username]}"},
            {{:users, 1, ["1:a", 2]}, "users: must be {users, Ref, [Username]}"},
            {{:configure, :one, %{}}, "configure: must be {configure, Ref, Config}"},
            {{:kill, 1, :some},
             "kill: must be {kill, Ref, all | {id, Binary} | {username, Binary} | {user, Binary}}"},
            {{:kill, 1, {:age, "9"}},
             "kill: must be {kill, Ref, all | {id, Binary} | {username, Binary} | {user, Binary}}"}
          ] do
        {port, _info, _relay} = start()
        assert protocol_failure(send_term(port, term)) == text
      end
    end

    test "bytes that are no term of the known kinds" do
      text = "a frame came that is not one external term of the known kinds"
      deep = Enum.reduce(1..20, :x, fn _, inner -> {inner} end)

      for bytes <- [
            "",
            "hello",
            <<131>>,
            <<131, 109, 255, 255, 255, 255>>,
            <<131, 108, 255, 255, 255, 255, 106>>,
            <<131, 116, 255, 255, 255, 255>>,
            <<131, 104, 2, 100, 0, 5, "hello">>,
            <<131, 100, 4, 255, 0::size(10_232)>>,
            :erlang.term_to_binary({:hello, 1}) <> "more",
            :erlang.term_to_binary({:hello, String.duplicate("x", 5_000)}, [:compressed]),
            :erlang.term_to_binary({:hello, [1 | 2]}),
            :erlang.term_to_binary({:hello, self()}),
            :erlang.term_to_binary({:hello, deep})
          ] do
        assert protocol_failure(send_bytes(open(), bytes)) == text
      end
    end

    test "every beginning of a good frame" do
      frame = :erlang.term_to_binary({:configure, 1, config()})

      for size <- 1..(byte_size(frame) - 1)//7 do
        port = open() |> send_term({:hello, 1}) |> send_bytes(binary_part(frame, 0, size))
        assert protocol_failure(port) =~ "a frame came that is not"
      end
    end

    test "a frame that is too long" do
      port = send_bytes(open(), :binary.copy(<<0>>, 1_048_577))

      assert protocol_failure(port) ==
               "a frame of 1048577 bytes came: at most 1048576 are accepted"
    end

    test "but not a frame that is just long enough" do
      {port, _info, _relay} = start()
      room = 1_048_576 - byte_size(:erlang.term_to_binary({:kill, 1, {:username, ""}}))
      send_term(port, {:kill, 1, {:username, :binary.copy("x", room)}})
      assert frame(port) == {:reply, 1, {:ok, 0}}
    end
  end

  # ---- commands ----

  describe "stats" do
    test "counts for the relay and for each worker" do
      {port, _info, relay} = start()
      before = stats(port)

      assert Enum.sort(Map.keys(before)) ==
               [:allocations, :counters, :events_dropped, :grants, :uptime_ms, :workers]

      assert before.allocations == 0
      assert before.events_dropped == 0
      assert length(before.workers) == 2
      assert Enum.all?(Map.values(before.counters), &(&1 == 0))

      for _ <- 1..8, do: allocate(relay)
      stats = stats(port)
      assert stats.allocations == 8
      assert stats.counters.allocations_created == 8
      assert stats.uptime_ms >= before.uptime_ms

      for worker <- stats.workers do
        assert Enum.sort(Map.keys(worker)) == [:allocations, :counters]
        assert worker.allocations == worker.counters.allocations_created
        assert Map.keys(worker.counters) == Map.keys(stats.counters)
      end

      assert stats.allocations == stats.workers |> Enum.map(& &1.allocations) |> Enum.sum()
    end
  end

  describe "list" do
    test "shows allocations of all workers, up to a limit" do
      {port, info, relay} = start()
      assert {:ok, []} = call(port, :list, [100])
      made = for n <- 1..10, do: allocate(relay, user: "user#{n}")
      assert {:ok, all} = call(port, :list, [100])
      assert length(all) == 10
      assert length(Enum.uniq_by(all, & &1.id)) == 10

      for limit <- [0, 1, 4, 9] do
        assert {:ok, some} = call(port, :list, [limit])
        assert length(some) == limit
        assert some -- all == [] or Enum.all?(some, fn a -> Enum.any?(all, &(&1.id == a.id)) end)
      end

      {client, {ip, number}} = hd(made)
      {client_ip, client_port} = Client.local(client)
      name = "#{:inet.ntoa(client_ip)}:#{client_port}"
      assert [one] = Enum.filter(all, &(&1.client == name))
      assert one.relayed == "#{:inet.ntoa(ip)}:#{number}"
      assert one.server == String.replace_prefix(hd(info.listen), "udp:", "")
      assert one.username =~ ~r/^\d+:user1$/
      assert one.transport == :udp
      assert one.id =~ ~r/^#{one.worker}-\d+$/
      assert one.expires_in_ms in 590_000..600_000
      assert one.age_ms in 0..10_000

      for key <- [:up_packets, :up_bytes, :down_packets, :down_bytes, :permissions, :channels] do
        assert Map.fetch!(one, key) == 0
      end

      assert %{protocol: :udp, tcp_peers: 0} = one
      assert map_size(one) == 17
    end
  end

  describe "kill" do
    setup do
      {port, _info, relay} = start()
      for user <- ["ann", "ann", "bob", "cyd"], do: allocate(relay, user: user)
      {:ok, all} = call(port, :list, [10])
      %{port: port, all: all}
    end

    test "ends all", %{port: port} do
      assert call(port, :kill, [:all]) == {:ok, 4}
      assert stats(port).allocations == 0
      assert call(port, :kill, [:all]) == {:ok, 0}
    end

    test "ends one by its id, of its own worker only", %{port: port, all: all} do
      for {allocation, left} <- Enum.with_index(Enum.reverse(all)) do
        assert call(port, :kill, [{:id, allocation.id}]) == {:ok, 1}
        assert call(port, :kill, [{:id, allocation.id}]) == {:ok, 0}
        assert stats(port).allocations == 3 - left
      end
    end

    test "ends those of a user, or of a whole username", %{port: port, all: all} do
      assert call(port, :kill, [{:user, "ann"}]) == {:ok, 2}
      bob = Enum.find(all, &(&1.username =~ "bob"))
      assert call(port, :kill, [{:username, "bob"}]) == {:ok, 0}
      assert call(port, :kill, [{:username, bob.username}]) == {:ok, 1}
      assert {:ok, [%{username: last}]} = call(port, :list, [10])
      assert last =~ "cyd"
    end

    test "ends nothing for what selects nothing", %{port: port} do
      for selector <- [
            {:id, ""},
            {:id, "0-0"},
            {:id, "1-0"},
            {:id, "7-1"},
            {:id, "0-1x"},
            {:id, "-1"},
            {:id, "0-99999999999999999999"},
            {:username, ""},
            {:user, ""},
            {:user, "nobody"}
          ] do
        assert call(port, :kill, [selector]) == {:ok, 0}
      end

      assert stats(port).allocations == 4
    end
  end

  describe "drain" do
    test "refuses new allocations and keeps the old ones, until it is taken back" do
      {port, _info, relay} = start()
      {old, _} = allocate(relay)
      assert call(port, :drain, [true]) == :ok
      assert {:error, {:refused, 508, _}, _} = Client.allocate(client(relay, []))
      assert {:ok, 600, _} = Client.refresh(old)
      assert call(port, :drain, [false]) == :ok
      allocate(relay)
      assert stats(port).allocations == 2
    end
  end

  describe "configure while running" do
    test "changes secrets and keeps allocations" do
      {port, info, relay} = start()
      {old, _} = allocate(relay)
      next = config(%{listen: info.listen, secrets: ["another"]})
      # listen must be what it was: the real port now
      assert {:error, {:config, text}} = call(port, :configure, [config()])
      assert text =~ "listen: must be what it was"
      assert call(port, :configure, [next]) == :ok

      assert {:error, _, _} = Client.allocate(client(relay, []))
      made = Credentials.generate("dee", "another")
      allocate(relay, username: made.username, password: made.credential)
      assert stats(port).allocations == 2
      assert {:ok, _, _} = Client.refresh(old)
    end

    test "refuses what cannot change, and what is wrong, and goes on" do
      {port, info, relay} = start()
      now = config(%{listen: info.listen})

      for {key, value} <- [
            listen: ["udp:127.0.0.1:1"],
            relays: [{"127.0.0.1", "192.0.2.1"}],
            ports: {50_000, 50_010},
            workers: 3,
            max_allocations: 17
          ] do
        assert call(port, :configure, [Map.put(now, key, value)]) ==
                 {:error, {:config, "#{key}: must be what it was, a change needs a restart"}}
      end

      assert {:error, {:config, "realm: must be" <> _}} =
               call(port, :configure, [%{now | realm: ""}])

      assert call(port, :configure, [now]) == :ok
      allocate(relay)
    end

    test "many times, while allocations come and go" do
      {port, info, relay} = start()

      for n <- 1..50 do
        more = %{listen: info.listen, deny_peers: ["10.0.#{n}.0/24"]}
        send_term(port, {:configure, n, config(more)})
        if rem(n, 5) == 0, do: allocate(relay)
      end

      for n <- 1..50, do: assert(frame(port) == {:reply, n, :ok})
      assert stats(port).allocations == 10
    end
  end

  # ---- events ----

  describe "events" do
    test "tell of allocations that come and go" do
      {port, _info, relay} = start()
      grant(port, 100)
      {client, {_, number}} = allocate(relay, user: "eve")
      created = event(port, :allocation_created)
      assert created.relayed == "127.0.0.1:#{number}"
      assert created.username =~ ":eve"
      {:ok, _, _} = Client.refresh(client, 0)
      ended = event(port, :allocation_ended)
      assert ended.id == created.id
      assert ended.reason == :released
      allocate(relay)
      call(port, :kill, [:all])
      assert event(port, :allocation_ended).reason == :killed
    end

    test "tell of peers that are refused, with the rule" do
      {port, _info, relay} = start(%{deny_peers: ["127.9.0.0/16"]})
      grant(port, 100)
      {client, _} = allocate(relay, user: "eve")

      for {ip, rule} <- [{{127, 9, 1, 2}, "127.9.0.0/16"}, {{192, 168, 1, 2}, "192.168.0.0/16"}] do
        assert {:error, {:refused, 403, _}, _} = Client.permit(client, [{ip, 9}])
        event = event(port, :peer_forbidden)
        assert event.rule == rule
        assert event.peer =~ ~r/^#{:inet.ntoa(ip)}:/
        assert event.username =~ ":eve"
        assert map_size(event) == 4
      end
    end

    test "tell of permissions, where they are asked for" do
      {port, _info, relay} = start(%{permission_events: true})
      grant(port, 100)
      {client, {relayed_ip, relayed_port}} = allocate(relay, user: "eve")
      {ip, local_port} = Client.local(client)
      {:ok, client} = Client.permit(client, [{{127, 9, 1, 2}, 9}])
      event = event(port, :permission_created)
      assert event.username =~ ":eve"
      assert event.client == "#{:inet.ntoa(ip)}:#{local_port}"
      assert event.relayed == "#{:inet.ntoa(relayed_ip)}:#{relayed_port}"
      assert event.peer == "127.9.1.2"
      assert map_size(event) == 5
      # Known peers are not told again.
      {:ok, client} = Client.permit(client, [{{127, 9, 1, 2}, 10}])
      {:ok, _} = Client.permit(client, [{{127, 9, 1, 3}, 10}])
      assert event(port, :permission_created).peer == "127.9.1.3"
    end

    test "tell of credentials that do not hold" do
      {port, _info, relay} = start()
      grant(port, 100)
      assert {:error, _, _} = Client.allocate(client(relay, user: "eve", password: "wrong"))
      event = event(port, :auth_failed)
      assert event.reason == :bad_password
      assert event.username =~ ":eve"
      assert map_size(event) == 3
    end

    test "cost credit, and are counted when there is none" do
      {port, _info, relay} = start()
      grant(port, 2)
      # What it logged at its start has waited for credit, and takes it.
      assert %{level: level, message: message} = event(port, :log)
      assert level in [:info, :warning]
      assert is_binary(message)
      for _ <- 1..5, do: allocate(relay)
      stats = stats(port)
      assert stats.events_dropped >= 4
      grant(port, 1)
      allocate(relay)
      assert event(port, :allocation_created)
      assert stats(port).events_dropped == stats.events_dropped
    end
  end
end
