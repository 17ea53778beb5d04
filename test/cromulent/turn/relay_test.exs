defmodule Cromulent.Turn.RelayTest do
  # Cromulent.Turn.Relay and its process, Cromulent.Turn.Owner. One relay has the default name here.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureLog

  alias Cromulent.Turn.{Client, Credentials, Frame, OsProcess, Relay}

  defp fake_relay(name, opts \\ []) do
    Relay.start_link([name: nil, program: fake(name)] ++ opts ++ options())
  end

  describe "starting" do
    test "tells where it listens, with the real ports" do
      relay = start_relay()
      assert ["udp:127.0.0.1:" <> port, "udp:[::1]:" <> _] = relay.info.listen
      assert String.to_integer(port) > 0
      assert relay.info.status == :up
      assert relay.info.workers == 2
      assert relay.info.realm == "cromulent_turn"
      assert relay.info.relays == [{"127.0.0.1", "127.0.0.1"}, {"::1", "::1"}]
      assert OsProcess.alive?(relay.os_pid)
    end

    test "serves IPv4 and IPv6 with several workers" do
      relay = start_relay(workers: 3)
      assert relay.info.workers == 3

      for address <- [relay.address, relay.address6], _ <- 1..4 do
        client = client(relay, address: address)
        assert Client.binding(client) == {:ok, Client.local(client)}
      end

      {:ok, stats} = Relay.stats(relay.pid)
      assert length(stats.workers) == 3
      assert stats.counters.bindings == 8
    end

    test "gives the caller the reason when a port is in use" do
      {_socket, {_, port}} = peer()
      listener = "udp:127.0.0.1:#{port}"

      assert Relay.start_link([name: nil] ++ options(listen: listener)) ==
               {:error, {:listen, listener, :eaddrinuse}}
    end

    test "does not share a port with another relay" do
      relay = start_relay()
      [listener | _] = relay.info.listen

      assert Relay.start_link([name: nil] ++ options(listen: listener)) ==
               {:error, {:listen, listener, :eaddrinuse}}
    end

    test "gives the caller the reason when an address is not ours" do
      assert Relay.start_link([name: nil] ++ options(listen: "udp:192.0.2.77:0")) ==
               {:error, {:listen, "udp:192.0.2.77:0", :eaddrnotavail}}

      assert Relay.start_link([name: nil] ++ options(relay_ip: "192.0.2.77")) ==
               {:error, {:relay_ip, "192.0.2.77", :eaddrnotavail}}
    end

    test "gives the caller the reason when the configuration is wrong" do
      assert {:error, {:config, text}} = Relay.start_link(name: nil, ttl: "1h")
      assert text =~ "option ttl: \"1h\": must be"
      assert {:error, {:config, text}} = fake_relay("refuses")
      assert text == "realm: not to my taste"
    end

    test "says which program is missing" do
      assert {:error, {:system, text}} = fake_relay("no_such_program")
      assert text =~ "no_such_program: there is no such program"
    end

    test "does not harm a caller that does not trap exits" do
      task =
        Task.async(fn ->
          result = Relay.start_link(name: nil, program: fake("exits_at_once"))
          {result, Process.info(self(), :links)}
        end)

      assert {{:error, {:system, text}}, {:links, _}} = Task.await(task)
      assert text =~ "before it was ready: exit status 3"
    end

    test "warns of a short secret, without showing it" do
      log = capture_log(fn -> start_relay(secret: "sh0rt") end)
      assert log =~ "shorter than 16 bytes"
      refute log =~ "sh0rt"
    end

    test "hides the BEAM's environment from the relay" do
      put_env([{"DATABASE_PASSWORD_FOR_TEST", "hunter2"}])
      relay = start_relay()
      environment = File.read("/proc/#{relay.os_pid}/environ")
      # The relay may have made itself unreadable, which is as good.
      with {:ok, text} <- environment, do: refute(text =~ "hunter2")
      {:ok, command} = File.read("/proc/#{relay.os_pid}/cmdline")
      refute command =~ secret()
    end
  end

  describe "a relay that misbehaves at the start" do
    test "and ends at once, is told with its status" do
      assert {:error, {:system, text}} = fake_relay("exits_at_once")
      assert text == "the relay ended before it was ready: exit status 3"
    end

    test "and never gets ready, is given up and ended" do
      started = System.monotonic_time(:millisecond)
      assert {:error, {:system, text}} = fake_relay("never_ready", start_timeout: 200)
      assert text == "the relay did not get ready within 200 ms"
      assert System.monotonic_time(:millisecond) - started < 2_000
      refute running?("never_ready")
    end

    test "and ignores that its owner has gone, is killed" do
      assert {:error, {:system, _}} = fake_relay("ignores_eof", start_timeout: 100)
      refute running?("sleep 300")
    end

    test "and sends garbage, is refused" do
      assert {:error, {:protocol, text}} = fake_relay("garbage")
      assert text =~ "a frame of 4 bytes that is no term we know"
    end

    test "and sends atoms that nobody knows, is refused" do
      assert {:error, {:protocol, text}} = fake_relay("unknown_atom")
      assert text =~ "no term we know"
    end

    test "and sends a frame that is too long, is refused" do
      assert {:error, {:protocol, text}} = fake_relay("oversized")
      assert text =~ "a frame of 17825792 bytes"
    end

    # Of this test run: other runs on this machine have their own directory.
    defp running?(what) do
      children =
        :os.cmd(
          ~c"ps -o args= --ppid #{System.pid()} --ppid $(pgrep -P #{System.pid()} | tr '\\n' ',')0"
        )

      to_string(children) =~ what
    end
  end

  describe "a relay that misbehaves while it runs" do
    test "and floods its owner with events, is replaced, and the owner stays well" do
      log =
        capture_log(fn ->
          {:ok, pid} = fake_relay("floods")
          eventually(fn -> match?({:ok, %{restarts: n}} when n >= 1, Relay.info(pid)) end, 10_000)
          {:message_queue_len, length} = Process.info(pid, :message_queue_len)
          assert length < 100_000
          GenServer.stop(pid)
        end)

      assert log =~ "more events than it was granted"
    end

    test "and does not read, costs its callers a timeout, then :busy, and never the owner" do
      {:ok, pid} = fake_relay("deaf", call_timeout: 100)
      assert Relay.stats(pid) == {:error, :timeout}
      # Pipes hold some: write until they are full.
      assert eventually(fn -> burst(pid) == {:error, :busy} end, 10_000)
      assert {:ok, %{os_pid: os_pid}} = Relay.info(pid)
      GenServer.stop(pid)
      refute OsProcess.alive?(os_pid)
    end

    test "and closes the commands, is replaced" do
      log =
        capture_log(fn ->
          {:ok, pid} = fake_relay("closes_input")
          {:ok, %{os_pid: os_pid}} = Relay.info(pid)
          eventually(fn -> match?({:ok, %{restarts: n}} when n >= 1, Relay.info(pid)) end, 10_000)
          refute OsProcess.alive?(os_pid)
          GenServer.stop(pid)
        end)

      assert log =~ "the control channel broke: epipe; starting another"
    end

    test "and lies about its process id, is known by the true one" do
      {:ok, pid} = fake_relay("deaf")
      assert {:ok, %{os_pid: os_pid}} = Relay.info(pid)
      assert os_pid != 1
      GenServer.stop(pid)
      refute OsProcess.alive?(os_pid)
    end

    test "and dies again and again, is started ever less often" do
      log =
        capture_log(fn ->
          started = System.monotonic_time(:millisecond)
          {:ok, pid} = fake_relay("dies_young")
          eventually(fn -> match?({:ok, %{restarts: n}} when n >= 4, Relay.info(pid)) end, 15_000)
          # After pauses of 0, 100, 200 and 400 ms.
          assert System.monotonic_time(:millisecond) - started >= 700
          GenServer.stop(pid)
        end)

      # A write that meets the end closes the port before the status comes.
      assert log =~
               ~r/lost .* ms: (it ended by itself, exit status 7|the control channel broke: \w+); starting/
    end

    defp burst(pid) do
      long = String.duplicate("x", 10_000)
      tasks = for _ <- 1..20, do: Task.async(fn -> Relay.kill({:user, long}, pid) end)
      tasks |> Task.await_many() |> Enum.find({:error, :timeout}, &(&1 == {:error, :busy}))
    end
  end

  describe "the end" do
    test "of the owner is the end of the relay" do
      relay = start_relay()
      GenServer.stop(relay.pid)
      refute OsProcess.alive?(relay.os_pid)
    end

    test "of the owner by force too" do
      Process.flag(:trap_exit, true)
      {:ok, pid} = Relay.start_link([name: nil] ++ options())
      %{os_pid: os_pid} = relay(pid)
      Process.exit(pid, :kill)
      assert OsProcess.await_exit(os_pid, 2_000) == :ok
    end

    test "of the whole BEAM by SIGKILL too" do
      script = """
      {:ok, pid} = Cromulent.Turn.Relay.start_link(name: nil, listen: "udp:127.0.0.1:0", relay_ip: "127.0.0.1")
      {:ok, info} = Cromulent.Turn.Relay.info(pid)
      IO.puts("relay \#{info.os_pid}")
      Process.sleep(:infinity)
      """

      elixir = System.find_executable("elixir")
      args = ["-pa", Path.dirname(to_string(:code.which(Relay))), "-e", script]
      port = Port.open({:spawn_executable, elixir}, [:binary, line: 4096, args: args])
      {:os_pid, beam} = Port.info(port, :os_pid)
      os_pid = await_relay(port)
      assert OsProcess.alive?(os_pid)
      OsProcess.kill(beam)
      assert OsProcess.await_exit(os_pid, 2_000) == :ok
    end

    defp await_relay(port) do
      receive do
        {^port, {:data, {:eol, "relay " <> os_pid}}} -> String.to_integer(os_pid)
        {^port, {:data, _}} -> await_relay(port)
      after
        30_000 -> flunk("the other BEAM did not start its relay")
      end
    end
  end

  describe "a relay that was lost" do
    test "is back within a second, on the same ports, with the same configuration" do
      :telemetry.listen()
      relay = start_relay(realm: "recovery")
      {client, _} = allocated(relay)
      lost_at = System.monotonic_time(:millisecond)

      log =
        capture_log(fn ->
          OsProcess.kill(relay.os_pid)

          eventually(
            fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info(relay.pid)) end,
            1_000
          )
        end)

      assert System.monotonic_time(:millisecond) - lost_at < 1_000
      assert log =~ "TURN relay (pid #{relay.os_pid}) was lost"
      assert log =~ "killed by signal 9"

      again = relay(relay.pid)
      assert again.os_pid != relay.os_pid
      assert again.info.listen == relay.info.listen
      assert again.info.realm == "recovery"

      # State is gone with the process; a client that comes again is served.
      assert {:error, {:refused, code, _}, _} = Client.refresh(client)
      assert code in [437, 438]
      assert {_, _} = allocated(again)

      lost_pid = relay.os_pid
      new_pid = again.os_pid

      assert_received {:telemetry, [:cromulent, :turn, :relay, :down], %{up_ms: _},
                       %{os_pid: ^lost_pid}}

      assert_received {:telemetry, [:cromulent, :turn, :relay, :up], %{restarts: 1, down_ms: ms},
                       %{os_pid: ^new_pid}}

      assert ms < 1_000
    end

    test "is replaced again after a second loss" do
      relay = start_relay()

      for n <- 1..3 do
        {:ok, %{os_pid: os_pid}} = Relay.info(relay.pid)
        OsProcess.kill(os_pid)

        eventually(
          fn -> match?({:ok, %{restarts: ^n, status: :up}}, Relay.info(relay.pid)) end,
          1_000
        )
      end
    end

    test "fails the calls that wait for it" do
      relay = start_relay()
      # A stopped process answers nothing.
      System.cmd("kill", ["-STOP", "#{relay.os_pid}"])
      task = Task.async(fn -> Relay.stats(relay.pid) end)
      eventually(fn -> map_size(:sys.get_state(relay.pid).commands.open) == 1 end)
      OsProcess.kill(relay.os_pid)
      assert Task.await(task) == {:error, :down}
    end

    test "is replaced when it hangs" do
      {relay, log} =
        with_log(fn ->
          relay = start_relay(pulse: 300)
          # A relay that lives is left alone: some beats pass.
          counted = fn -> :sys.get_state(relay.pid).commands.next end
          beats = counted.() + 3
          eventually(fn -> counted.() >= beats end, 5_000)
          assert {:ok, %{restarts: 0}} = Relay.info(relay.pid)

          System.cmd("kill", ["-STOP", "#{relay.os_pid}"])

          eventually(
            fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info(relay.pid)) end,
            10_000
          )

          relay
        end)

      assert log =~ "gave no sign of life for 300 ms"
      refute OsProcess.alive?(relay.os_pid)
      assert {%{}, _} = allocated(relay)
    end

    test "cannot come back while its port is taken, and does when that is free" do
      relay = start_relay(listen: "udp:127.0.0.1:0")
      {ip, port} = relay.address

      log =
        capture_log(fn ->
          # The owner must not notice before the port is taken.
          :sys.suspend(relay.pid)
          OsProcess.kill(relay.os_pid)
          OsProcess.await_exit(relay.os_pid, 1_000)
          {:ok, thief} = :gen_udp.open(port, ip: ip)
          :sys.resume(relay.pid)
          eventually(fn -> :sys.get_state(relay.pid).tries >= 4 end, 3_000)
          assert Relay.stats(relay.pid) == {:error, :down}
          assert {:ok, %{status: :down}} = Relay.info(relay.pid)
          :gen_udp.close(thief)
          eventually(fn -> match?({:ok, %{status: :up}}, Relay.info(relay.pid)) end, 5_000)
        end)

      told =
        "TURN relay cannot be started: cannot listen on udp:127.0.0.1:#{port}: the port is in use"

      assert length(String.split(log, told)) == 2, "told not once: " <> log
      assert {_, _} = allocated(relay(relay.pid))
    end
  end

  describe "commands" do
    setup do
      {:ok, relay: start_relay()}
    end

    test "list has what the client sent and got", %{relay: relay} do
      {socket, {peer_ip, _} = peer} = peer()
      {client, relayed} = allocated(relay, user: "bob")
      {:ok, client} = Client.permit(client, [peer])
      {:ok, client} = Client.bind(client, 0x4000, peer)

      for n <- 1..5, do: Client.send_to(client, 0x4000, String.duplicate("u", n))
      for _ <- 1..5, do: assert({^relayed, _} = peer_recv(socket))
      {relayed_ip, relayed_port} = relayed
      for _ <- 1..3, do: :gen_udp.send(socket, relayed_ip, relayed_port, "down")
      for _ <- 1..3, do: assert({:ok, {:channel, 0x4000, "down"}} = Client.recv(client, 2_000))

      assert {:ok, [allocation]} = Relay.list(10, relay.pid)
      assert allocation.username == client.username
      assert allocation.client == text(Client.local(client))
      assert allocation.server == text(relay.address)
      assert allocation.relayed == text(relayed)
      assert allocation.transport == :udp
      assert {allocation.up_packets, allocation.up_bytes} == {5, 15}
      assert {allocation.down_packets, allocation.down_bytes} == {3, 12}
      assert {allocation.permissions, allocation.channels} == {1, 1}
      assert allocation.expires_in_ms in 590_000..600_000
      assert allocation.worker in 0..1

      {:ok, %{counters: counters, allocations: 1}} = Relay.stats(relay.pid)
      assert {counters.up_packets, counters.up_bytes} == {5, 15}
      assert {counters.down_packets, counters.down_bytes} == {3, 12}
      assert counters.allocations_created == 1
      assert peer_ip == {127, 0, 0, 1}
    end

    test "list gives no more than it is asked for", %{relay: relay} do
      for _ <- 1..5, do: allocated(relay)
      assert {:ok, five} = Relay.list(10, relay.pid)
      assert length(five) == 5
      assert {:ok, [_, _]} = Relay.list(2, relay.pid)
      assert {:ok, []} = Relay.list(0, relay.pid)
    end

    test "stats adds the workers up", %{relay: relay} do
      for _ <- 1..8, do: allocated(relay)
      {:ok, stats} = Relay.stats(relay.pid)
      assert stats.allocations == 8
      assert Enum.sum(for worker <- stats.workers, do: worker.allocations) == 8
      assert Enum.sort(Map.keys(stats.counters)) == Enum.sort(Frame.counters())

      for counter <- Frame.counters() do
        total = Enum.sum(for worker <- stats.workers, do: worker.counters[counter])
        assert stats.counters[counter] == total, "#{counter}"
      end
    end

    test "kill ends the chosen allocations at once", %{relay: relay} do
      {a, _} = allocated(relay, user: "ann")
      {_b, _} = allocated(relay, user: "ben")
      {_c, _} = allocated(relay, user: "cid")

      assert {:ok, [%{id: id}]} =
               with(
                 {:ok, list} <- Relay.list(10, relay.pid),
                 do: {:ok, Enum.filter(list, &(&1.username =~ "cid"))}
               )

      assert Relay.kill({:user, "nobody"}, relay.pid) == {:ok, 0}
      assert Relay.kill({:user, "ann"}, relay.pid) == {:ok, 1}
      assert {:error, {:refused, 437, _}, _} = Client.refresh(a)
      assert Relay.kill({:id, id}, relay.pid) == {:ok, 1}
      assert {:ok, [%{username: username}]} = Relay.list(10, relay.pid)
      assert Relay.kill({:username, username}, relay.pid) == {:ok, 1}
      for _ <- 1..4, do: allocated(relay)
      assert Relay.kill(:all, relay.pid) == {:ok, 4}
      assert Relay.list(10, relay.pid) == {:ok, []}
      {:ok, %{counters: counters}} = Relay.stats(relay.pid)
      assert counters.allocations_killed == 7
    end

    test "drain refuses new allocations, and lets those that are there go on", %{relay: relay} do
      {client, _} = allocated(relay)
      assert Relay.drain(true, relay.pid) == :ok
      assert {:ok, %{drain: true}} = Relay.info(relay.pid)
      assert {:error, {:refused, 508, _}, _} = Client.allocate(client(relay))
      assert {:ok, 600, _} = Client.refresh(client)
      assert Relay.drain(false, relay.pid) == :ok
      assert {_, _} = allocated(relay)
    end

    test "drain outlasts the loss of the relay", %{relay: relay} do
      assert Relay.drain(true, relay.pid) == :ok
      OsProcess.kill(relay.os_pid)
      eventually(fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info(relay.pid)) end)
      # Commands are obeyed in their order, and the first one was to drain.
      assert {:ok, _} = Relay.stats(relay.pid)
      assert {:error, {:refused, 508, _}, _} = Client.allocate(client(relay))
    end

    test "configure rotates secrets without touching allocations", %{relay: relay} do
      {client, _} = allocated(relay)
      new = "a new secret for the tests of turn"
      made = Credentials.generate("alice", new)
      newcomer = [username: made.username, password: made.credential]
      assert {:error, {:refused, 401, _}, _} = Client.allocate(client(relay, newcomer))

      assert Relay.configure([secret: [new, secret()]], relay.pid) == :ok
      assert {:ok, _, _} = Client.allocate(client(relay, newcomer))
      assert {_, _} = allocated(relay)

      assert Relay.configure([secret: new], relay.pid) == :ok
      assert {:error, {:refused, 401, _}, _} = Client.allocate(client(relay))
      assert {:ok, 600, _} = Client.refresh(client)

      OsProcess.kill(relay.os_pid)
      eventually(fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info(relay.pid)) end)
      assert {:ok, _, _} = Client.allocate(client(relay, newcomer))
    end

    test "configure is known when it is late, and is one at a time" do
      relay = start_relay(call_timeout: 50)
      # A stopped process answers nothing, until it goes on.
      System.cmd("kill", ["-STOP", "#{relay.os_pid}"])
      assert Relay.configure([realm: "late"], relay.pid) == {:error, :timeout}
      assert Relay.configure([realm: "other"], relay.pid) == {:error, :busy}
      assert {:ok, %{realm: "cromulent_turn"}} = Relay.info(relay.pid)
      System.cmd("kill", ["-CONT", "#{relay.os_pid}"])
      eventually(fn -> match?({:ok, %{realm: "late"}}, Relay.info(relay.pid)) end)
      assert Relay.configure([realm: "other"], relay.pid) == :ok
      assert {%{realm: "other"}, _} = allocated(relay)
    end

    test "configure refuses what is wrong, and what cannot change", %{relay: relay} do
      assert {:error, {:config, text}} = Relay.configure([listen: "udp:127.0.0.1:0"], relay.pid)
      assert text =~ "cannot change while the relay runs"
      assert {:error, {:config, text}} = Relay.configure([user_quota: -1], relay.pid)
      assert text =~ "option user_quota: -1: must be"
      assert {:error, {:config, _}} = Relay.configure([colour: "red"], relay.pid)
      assert {_, _} = allocated(relay)
    end

    test "of many callers at once each get their own answer", %{relay: relay} do
      for n <- 1..20, do: allocated(relay, user: "user#{n}")

      answers =
        1..200
        |> Enum.map(fn n ->
          Task.async(fn -> {rem(n, 20), Relay.list(rem(n, 20), relay.pid)} end)
        end)
        |> Task.await_many()

      for {n, {:ok, list}} <- answers, do: assert(length(list) == n)
    end

    test "of an absent relay say so" do
      assert Relay.stats(:no_such_relay) == {:error, :not_running}
      assert Relay.info(:no_such_relay) == {:error, :not_running}
    end

    test "with a wrong argument are misuse" do
      assert_raise FunctionClauseError, fn -> Relay.kill({:colour, "red"}) end
      assert_raise FunctionClauseError, fn -> Relay.list(-1) end
      assert_raise FunctionClauseError, fn -> Relay.drain("yes") end
    end
  end

  describe "the default name" do
    test "is that of the functions without a server" do
      start_supervised!({Relay, options()})
      assert {:ok, %{status: :up}} = Relay.info()
      assert {:ok, []} = Relay.list()
      assert {:ok, 0} = Relay.kill(:all)
      assert Relay.drain() == :ok
      assert Relay.drain(false) == :ok
      assert Relay.configure(ttl: 600) == :ok
      assert {:ok, %{allocations: 0}} = Relay.stats()
    end
  end

  describe "events" do
    test "tell of allocations, with final counts" do
      :telemetry.listen()
      relay = start_relay()
      {socket, peer} = peer()
      {client, relayed} = allocated(relay, user: "eve")
      {:ok, client} = Client.permit(client, [peer])
      Client.send_to(client, peer, "12345")
      assert {^relayed, "12345"} = peer_recv(socket)
      {:ok, 0, _} = Client.refresh(client, 0)

      address = text(relayed)

      assert_receive {:telemetry, [:cromulent, :turn, :allocation, :created], %{count: 1},
                      %{relayed: ^address, username: username}},
                     2_000

      assert username == client.username

      assert_receive {:telemetry, [:cromulent, :turn, :allocation, :ended],
                      %{up_packets: 1, up_bytes: 5, down_packets: 0, down_bytes: 0, age_ms: _},
                      %{relayed: ^address, reason: :released}},
                     2_000
    end

    test "tell of refused peers and credentials" do
      :telemetry.listen()
      relay = start_relay(allow_peers: [])
      {client, _} = allocated(relay)
      assert {:error, {:refused, 403, _}, _} = Client.permit(client, [{{10, 1, 2, 3}, 9}])

      assert_receive {:telemetry, [:cromulent, :turn, :peer, :forbidden], %{count: 1},
                      %{rule: "10.0.0.0/8", peer: "10.1.2.3:" <> _}},
                     2_000

      assert {:error, {:refused, 401, _}, _} = Client.allocate(client(relay, password: "wrong"))

      assert_receive {:telemetry, [:cromulent, :turn, :auth, :failed], %{count: 1},
                      %{reason: :bad_password}},
                     2_000
    end

    test "come on when there are more than one grant of credit" do
      :telemetry.listen()
      relay = start_relay()
      client = client(relay)

      for _ <- 1..1_200 do
        {:ok, _, client} = Client.allocate(client)
        {:ok, 0, _} = Client.refresh(client, 0)
      end

      {:ok, stats} = Relay.stats(relay.pid)
      assert stats.counters.allocations_created == 1_200

      ended =
        count_events(
          [:cromulent, :turn, :allocation, :ended],
          1_200 - div(stats.events_dropped, 2)
        )

      assert ended > 1_024
    end

    defp count_events(event, wanted, seen \\ 0)
    defp count_events(_event, wanted, seen) when seen >= wanted, do: seen

    defp count_events(event, wanted, seen) do
      receive do
        {:telemetry, ^event, _, _} -> count_events(event, wanted, seen + 1)
      after
        1_000 -> seen
      end
    end
  end

  describe "the process" do
    test "logs the first message that it does not know, and no other" do
      relay = start_relay()

      log =
        capture_log(fn ->
          send(relay.pid, :surprise)
          send(relay.pid, :another)
          Relay.info(relay.pid)
        end)

      assert log =~ "does not know: :surprise"
      refute log =~ ":another"
    end

    test "never shows a secret" do
      relay = start_relay()
      hidden = [secret(), Base.encode16(secret()), Base.encode64(secret())]

      shown = [
        inspect(:sys.get_status(relay.pid), limit: :infinity, printable_limit: :infinity),
        inspect(:sys.get_state(relay.pid),
          limit: :infinity,
          printable_limit: :infinity,
          structs: false
        ),
        :io_lib.format(~c"~p ~w", [:sys.get_state(relay.pid), :sys.get_status(relay.pid)])
        |> to_string()
      ]

      for text <- shown, secret <- hidden, do: refute(text =~ secret)
    end

    test "never shows a secret when it crashes" do
      Process.flag(:trap_exit, true)

      log =
        capture_log(fn ->
          {:ok, pid} = Relay.start_link([name: nil] ++ options())
          # Breaks the state, so that the next call fails inside.
          :sys.replace_state(pid, &%{&1 | commands: :broken})
          catch_exit(GenServer.call(pid, {:command, :stats, []}))
          assert_receive {:EXIT, ^pid, _}
        end)

      assert log =~ "terminating"
      refute log =~ secret()
    end
  end

  defp text({ip, port}) when tuple_size(ip) == 4, do: "#{:inet.ntoa(ip)}:#{port}"
  defp text({ip, port}), do: "[#{:inet.ntoa(ip)}]:#{port}"
end
