defmodule Cromulent.Turn.CoturnServerTest do
  # Debian's coturn, started as priv/coturn starts it: the same script, the same configuration.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2, peer: 1, peer_recv: 1]

  alias Cromulent.Turn.{Client, Command, Coturn, Credentials, OsProcess}

  @moduletag timeout: 120_000
  @moduletag skip: if(System.find_executable("turnserver") == nil, do: "coturn is not installed")

  @coturn Path.expand("../../../priv/coturn", __DIR__)
  @script Path.join(@coturn, "entrypoint.sh")
  @first "the first secret which signs"
  @second "the second; it's \"older\" = still valid"
  @relay {127, 0, 0, 2}
  @realm "coturn.example.org"

  # What the script reads, unset unless a test says otherwise.
  @variables ~w(TURN_SECRET TURN_REALM TURN_PORT TURN_TLS_PORT TURN_RELAY_PORTS TURN_LISTEN_IP
    TURN_RELAY_IP TURN_EXTERNAL_IP TURN_ALLOW_PEERS TURN_DENY_PEERS TURN_TLS_CERT TURN_TLS_KEY
    TURN_USER TURN_USER_QUOTA TURN_TOTAL_QUOTA TURN_RUN_DIR TURN_CONFIG RUNTIME_DIRECTORY)

  defp env(more), do: Enum.into(more, Map.new(@variables, &{&1, nil})) |> Enum.to_list()

  defp start(more \\ %{}) do
    dir = temporary()
    port = free_port()

    settings = %{
      "TURN_SECRET" => "#{@first} , #{@second}",
      "TURN_REALM" => @realm,
      "TURN_PORT" => "#{port}",
      "TURN_LISTEN_IP" => "127.0.0.1",
      "TURN_RELAY_IP" => "127.0.0.2, ::1",
      "TURN_ALLOW_PEERS" => "127.0.0.2",
      "TURN_RUN_DIR" => dir
    }

    env = settings |> Map.merge(more) |> env()
    server = Command.start(@script, [], env: env)
    server = Map.merge(server, %{address: {{127, 0, 0, 1}, port}, dir: dir, env: env})
    eventually(fn -> answers?(server) end, 20_000)
    server
  end

  defp answers?(server) do
    {:ok, client} = Client.open(server.address, deadline: 200)
    answer = Client.binding(client)
    Client.close(client)
    unless OsProcess.alive?(server.os_pid), do: flunk(Command.stderr(server))
    match?({:ok, _}, answer)
  end

  defp temporary do
    name = "turn_coturn_#{System.pid()}_#{System.unique_integer([:positive])}"
    dir = Path.join(System.tmp_dir!(), name)
    on_exit(fn -> File.rm_rf!(dir) end)
    dir
  end

  # Free for UDP and TCP, on both of which coturn listens. Below those that the system gives out, so that
  # nobody gets it meanwhile.
  defp free_port do
    port = 20_000 + :rand.uniform(9_999)
    opts = [ip: {127, 0, 0, 1}]

    with {:ok, tcp} <- :gen_tcp.listen(port, opts),
         :ok = :gen_tcp.close(tcp),
         {:ok, udp} <- :gen_udp.open(port, opts) do
      :gen_udp.close(udp)
      port
    else
      {:error, _taken} -> free_port()
    end
  end

  # As a user of the application logs in, with what the provider gives out.
  defp login(server, secret \\ @first, user_id \\ "alice") do
    url = "turn:127.0.0.1:#{elem(server.address, 1)}?transport=udp"
    {:ok, servers} = Coturn.get_ice_servers(user_id, url, secret)

    assert [%{urls: ^url, username: username, credential: password}] =
             Enum.filter(servers, &is_map_key(&1, :credential))

    open(server, username, password)
  end

  # With credentials that the provider would not make.
  defp forge(server, secret, opts \\ []) do
    made = Credentials.generate("alice", secret, opts)
    open(server, made.username, made.credential)
  end

  defp open(server, username, password) do
    login = [username: username, password: password, deadline: 10_000]
    {:ok, client} = Client.open(server.address, login)
    client
  end

  defp allocate(server, attributes \\ []) do
    {:ok, allocation, client} = try_allocate(fn -> login(server) end, attributes)
    {client, allocation.relayed}
  end

  # The system may give a client the port of an allocation that an earlier one has left at this coturn, and that
  # is told 437: another then has another port, while the first is open.
  defp try_allocate(login, attributes \\ [], tries \\ 5) do
    case Client.allocate(login.(), attributes) do
      {:error, {:refused, 437, _}, _} when tries > 1 ->
        try_allocate(login, attributes, tries - 1)

      result ->
        result
    end
  end

  defp files(server), do: for(name <- File.ls!(server.dir), do: Path.join(server.dir, name))

  defp mode(path), do: Bitwise.band(File.stat!(path).mode, 0o777)

  # One for all tests that do not end it.
  setup_all do
    %{server: start()}
  end

  describe "a server for two secrets" do
    test "relays both ways, by indication and by channel", %{server: server} do
      {client, {@relay, _} = relayed} = allocate(server)
      assert client.realm == @realm
      {peer, {_, peer_port} = address} = peer(@relay)

      {:ok, client} = Client.permit(client, [address])
      :ok = Client.send_to(client, address, "there")
      assert {^relayed, "there"} = peer_recv(peer)
      :gen_udp.send(peer, @relay, elem(relayed, 1), "and back")
      assert {:ok, {:data, {@relay, ^peer_port}, "and back"}} = Client.recv(client, 5_000)

      {:ok, client} = Client.bind(client, 0x4000, address)
      :ok = Client.send_to(client, 0x4000, "by channel")
      assert {^relayed, "by channel"} = peer_recv(peer)
      :gen_udp.send(peer, @relay, elem(relayed, 1), "and back")
      assert {:ok, {:channel, 0x4000, "and back"}} = Client.recv(client, 5_000)
      assert {:ok, 0, _} = Client.refresh(client, 0)
    end

    test "takes every secret of a rotation, whatever its characters", %{server: server} do
      for secret <- [@first, @second] do
        assert {:ok, _, client} = try_allocate(fn -> login(server, secret) end)
        assert {:ok, 0, _} = Client.refresh(client, 0)
      end
    end

    test "refuses other secrets, the literal one of old and expired credentials",
         %{server: server} do
      for secret <- ["some other secret", "${TURN_SECRET}", "$TURN_SECRET", @first <> " "] do
        assert {^secret, {:error, {:refused, 401, _}, _}} =
                 {secret, try_allocate(fn -> forge(server, secret) end)}
      end

      past = System.os_time(:second) - 7_200
      expired = forge(server, @first, ttl: 3_600, now: past)
      assert {:error, {:refused, 401, _}, _} = Client.allocate(expired)
    end

    @denied ~w(0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
      127.0.0.3 127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192
      192.0.2.1 192.88.99.1 192.168.0.1 192.168.255.255 198.18.0.1 198.19.255.255 198.51.100.7 203.0.113.9
      224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255)
    @public ~w(1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 168.63.129.17
      169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 198.17.255.255 198.20.0.0 223.255.255.255)
    @denied6 ~w(:: ::1 ::2 ::127.0.0.1 ::10.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 64:ff9b::10.0.0.1
      64:ff9b::8.8.8.8 64:ff9b:1::1 100::1 1fff:ffff::1 2001::1 2001:1ff::1 2001:db8::1 2001:db8:ffff::1 2002:7f00:1::
      2002:a00:1::1 2002:808:808:: 3fff::1 3fff:fff::1 4000:: 5f00::1 fc00::1 fd00:ec2::254 fe80::1 febf::1 fec0::1
      feff::1 ff02::1 ff0e::1)
    @public6 ~w(2000::1 2001:200:: 2001:db7:ffff::1 2001:db9::1 2003::1 2606:4700::1111 2a00::1 3ffe::1 3fff:1000::1)

    test "refuses peers that are not public, and no others", %{server: server} do
      assert verdicts(server, [], @denied) == Map.new(@denied, &{&1, 403})
      assert verdicts(server, [], @public) == Map.new(@public, &{&1, :ok})
    end

    @tag :inet6
    test "refuses them in every disguise that IPv6 has", %{server: server} do
      family = [requested_address_family: :ipv6]
      assert verdicts(server, family, @denied6) == Map.new(@denied6, &{&1, 403})
      assert verdicts(server, family, @public6) == Map.new(@public6, &{&1, :ok})
    end

    test "keeps the secrets to itself", %{server: server} do
      proc = "/proc/#{server.os_pid}"

      for name <- ["cmdline", "environ"] do
        # Without privileges its environment cannot be read at all, unless one is root.
        content = File.read!(Path.join(proc, name))
        for secret <- [@first, @second], do: refute(content =~ secret)
      end

      assert File.read!(proc <> "/cmdline") =~ ~r/^turnserver\0/
      assert mode(server.dir) == 0o700
      for path <- files(server), do: assert({path, 0o600} == {path, mode(path)})
      assert File.read!(Path.join(server.dir, "turnserver.conf")) =~ @first
    end

    test "is not root", %{server: server} do
      [_, ids] = Regex.run(~r/^Uid:\s+(.*)$/m, File.read!("/proc/#{server.os_pid}/status"))
      refute "0" in String.split(ids)
    end

    test "is found healthy, and a port where nobody answers is not", %{server: server} do
      assert {0, [], _} = Command.run(@script, ["health"], env: server.env)

      nobody = env(%{"TURN_PORT" => "#{free_port()}", "TURN_LISTEN_IP" => "127.0.0.1"})
      assert {status, [], _} = Command.run(@script, ["health"], env: nobody)
      assert status != 0
    end

    test "passes mix turn.check", %{server: %{address: {_, port}}} do
      args = ["turn.check", "--url", "turn:127.0.0.1:#{port}", "--realm", @realm]
      assert {0, lines, _} = Command.run("mix", args, env: [{"TURN_SECRET", @first}])
      assert List.last(lines) == "ok: every step passed"
    end
  end

  # What CreatePermission says to each address, asked one by one.
  defp verdicts(server, attributes, addresses) do
    {client, _relayed} = allocate(server, attributes)

    {verdicts, client} =
      Enum.map_reduce(addresses, client, fn text, client ->
        {:ok, ip} = :inet.parse_strict_address(to_charlist(text))

        case Client.permit(client, [{ip, 4_000}]) do
          {:ok, client} -> {{text, :ok}, client}
          {:error, {:refused, code, _}, client} -> {{text, code}, client}
        end
      end)

    {:ok, 0, _} = Client.refresh(client, 0)
    Map.new(verdicts)
  end

  describe "a server" do
    test "ends at SIGTERM, has nothing to complain about, and can be started again" do
      server = start()
      Command.signal(server, "TERM")
      {_status, lines} = Command.await_exit(server)
      log = Enum.join(lines, "\n")
      assert log =~ "realm #{@realm}"
      assert log =~ "secrets 2"
      refute log <> Command.stderr(server) =~ ~r/ERROR|Bad config|Wrong|cannot|the first secret/i

      # In the same directory, over what the other one left.
      again = start(%{"TURN_RUN_DIR" => server.dir, "TURN_SECRET" => @second})
      assert {:ok, _, _} = try_allocate(fn -> login(again, @second) end)
      assert {:error, {:refused, 401, _}, _} = try_allocate(fn -> login(again, @first) end)
    end

    test "refuses its own host unless told, and what it is told to" do
      server = start(%{"TURN_ALLOW_PEERS" => nil, "TURN_DENY_PEERS" => "8.8.0.0/15, 9.9.9.9"})

      assert verdicts(server, [], ~w(127.0.0.1 127.0.0.2 8.8.8.8 8.9.255.255 8.10.0.0 9.9.9.9)) ==
               %{
                 "127.0.0.1" => 403,
                 "127.0.0.2" => 403,
                 "8.8.8.8" => 403,
                 "8.9.255.255" => 403,
                 "8.10.0.0" => :ok,
                 "9.9.9.9" => 403
               }
    end

    test "takes a variable in its file for the secret itself, which is why there is a script" do
      dir = temporary()
      File.mkdir_p!(dir)
      port = free_port()
      conf = Path.join(dir, "turnserver.conf")

      File.write!(conf, """
      use-auth-secret
      static-auth-secret=${TURN_SECRET}
      realm=#{@realm}
      listening-ip=127.0.0.1
      relay-ip=127.0.0.2
      listening-port=#{port}
      userdb=#{dir}/turndb
      pidfile=#{dir}/pid
      log-file=stdout
      no-cli
      no-tls
      no-dtls
      """)

      server = Command.start("turnserver", ["-c", conf], env: [{"TURN_SECRET", @first}])
      server = Map.put(server, :address, {{127, 0, 0, 1}, port})
      eventually(fn -> answers?(server) end, 20_000)

      assert {:error, {:refused, 401, _}, _} = try_allocate(fn -> login(server) end)
      assert {:ok, _, _} = server |> forge("${TURN_SECRET}") |> Client.allocate()
    end

    test "counts the allocations of a user" do
      server = start(%{"TURN_USER_QUOTA" => "1"})
      assert {:ok, _, one} = try_allocate(fn -> login(server) end)
      assert {:error, {:refused, 486, _}, _} = try_allocate(fn -> login(server) end)
      assert {:ok, _, _} = server |> login(@first, "bob") |> Client.allocate()

      # coturn counts an ended one down a little after it has answered.
      assert {:ok, 0, _} = Client.refresh(one, 0)
      eventually(fn -> match?({:ok, _, _}, server |> login() |> Client.allocate()) end, 10_000)
    end

    test "gives out an external address, at which its clients reach each other" do
      # 127.0.0.9 only opens coturn's separate lock on loopback; the relay's own address is exempt
      # as the local half of the pair.
      server =
        start(%{
          "TURN_EXTERNAL_IP" => "203.0.113.5",
          "TURN_RELAY_IP" => "127.0.0.2",
          "TURN_ALLOW_PEERS" => "127.0.0.9",
          "TURN_RELAY_PORTS" => "30000-30009"
        })

      {one, {{203, 0, 113, 5}, one_port} = first} = allocate(server)
      {other, {{203, 0, 113, 5}, other_port} = second} = allocate(server)
      for port <- [one_port, other_port], do: assert(port in 30_000..30_009)

      {:ok, one} = Client.permit(one, [second])
      {:ok, other} = Client.permit(other, [first])
      :ok = Client.send_to(one, second, "hello")
      assert {:ok, {:data, ^first, "hello"}} = Client.recv(other, 5_000)
    end

    # Debian 12's knows no TLS 1.3.
    test "speaks TLS 1.2, and nothing older" do
      {:ok, _} = Application.ensure_all_started(:ssl)
      dir = temporary()
      File.mkdir_p!(dir)
      {cert, key} = certificate(dir)
      tls_port = free_port()
      tls = %{"TURN_TLS_CERT" => cert, "TURN_TLS_KEY" => key, "TURN_TLS_PORT" => "#{tls_port}"}
      start(tls)

      assert {:ok, :"tlsv1.2"} = tls(tls_port, :"tlsv1.2")

      # With an alert, or by hanging up.
      for old <- [:"tlsv1.1", :tlsv1] do
        assert {:error, refusal} = tls(tls_port, old)
        assert refusal == :closed or match?({:tls_alert, _}, refusal)
      end
    end
  end

  # A certificate of its own authority, as PEM files.
  defp certificate(dir) do
    key = [key: {:namedCurve, :secp256r1}, digest: :sha256]

    %{server_config: config} =
      :public_key.pkix_test_data(%{
        server_chain: %{root: key, intermediates: [], peer: key},
        client_chain: %{root: key, intermediates: [], peer: key}
      })

    {type, der} = config[:key]

    write = fn name, entry ->
      path = Path.join(dir, name)
      File.write!(path, :public_key.pem_encode([entry]))
      path
    end

    {write.("cert.pem", {:Certificate, config[:cert], :not_encrypted}),
     write.("key.pem", {type, der, :not_encrypted})}
  end

  defp tls(port, version) do
    opts = [versions: [version], verify: :verify_none, log_level: :none]

    with {:ok, socket} <- :ssl.connect({127, 0, 0, 1}, port, opts, 5_000) do
      {:ok, [protocol: protocol]} = :ssl.connection_information(socket, [:protocol])
      :ssl.close(socket)
      {:ok, protocol}
    end
  end

  describe "the script" do
    @good "0123456789abcdef"

    for {what, variables, reason} <- [
          {"no secret", %{"TURN_SECRET" => nil}, "TURN_SECRET is not set"},
          {"an empty secret", %{"TURN_SECRET" => " "}, "TURN_SECRET is not set"},
          {"an empty one of several", %{"TURN_SECRET" => @good <> ",,"}, "has an empty entry"},
          {"a short secret", %{"TURN_SECRET" => "0123456789abcde"}, "too short"},
          {"a short second secret", %{"TURN_SECRET" => @good <> ",hunter2"}, "too short"},
          {"a long secret", %{"TURN_SECRET" => String.duplicate("x", 257)}, "too long"},
          {"nine secrets", %{"TURN_SECRET" => Enum.join(List.duplicate(@good, 9), ",")},
           "at most 8"},
          {"a literal ${...}", %{"TURN_SECRET" => "${TURN_SECRET}"}, "nothing expanded"},
          {"a longer literal", %{"TURN_SECRET" => "x${TURN_SECRET:-and a default}"},
           "nothing expanded"},
          {"a literal variable", %{"TURN_SECRET" => "$TURN_SHARED_SECRET"}, "nothing expanded"},
          {"a line end", %{"TURN_SECRET" => @good <> "\nno-auth"}, "control characters"},
          {"a realm with quotes", %{"TURN_REALM" => "a\"b"}, "TURN_REALM"},
          {"a realm of two lines", %{"TURN_REALM" => "a\nno-auth"}, "TURN_REALM"},
          {"a port that is none", %{"TURN_PORT" => "0"}, "TURN_PORT=0: must be"},
          {"ports in reverse", %{"TURN_RELAY_PORTS" => "50000-49152"},
           "TURN_RELAY_PORTS=50000-49152: must be"},
          {"one port", %{"TURN_RELAY_PORTS" => "80"}, "TURN_RELAY_PORTS=80: must be"},
          {"a listener that is none", %{"TURN_LISTEN_IP" => "udp:0.0.0.0:3478"},
           "TURN_LISTEN_IP=udp:0.0.0.0:3478: must be"},
          {"a relay address that is none", %{"TURN_RELAY_IP" => "1.2.3.256"}, "TURN_RELAY_IP"},
          {"an external name", %{"TURN_EXTERNAL_IP" => "turn.example.org"}, "TURN_EXTERNAL_IP"},
          {"a pair of two families", %{"TURN_EXTERNAL_IP" => "203.0.113.5/fd00::1"},
           "TURN_EXTERNAL_IP"},
          {"an external address without a local one",
           %{"TURN_EXTERNAL_IP" => "2001:db8::5", "TURN_RELAY_IP" => "10.0.0.5"},
           "no local address of that family"},
          {"peers that are none", %{"TURN_DENY_PEERS" => "10.0.0.0/8,10.0.0.0/33"},
           "TURN_DENY_PEERS=10.0.0.0/33: must be"},
          {"half a range", %{"TURN_DENY_PEERS" => "10.0.0.0-"}, "TURN_DENY_PEERS"},
          {"a block of IPv6", %{"TURN_ALLOW_PEERS" => "2001:db8::/32"}, "IPv4 blocks"},
          {"seven groups", %{"TURN_DENY_PEERS" => "1:2:3:4:5:6:7"}, "TURN_DENY_PEERS"},
          {"a certificate alone", %{"TURN_TLS_CERT" => "/dev/null"}, "TURN_TLS_KEY=: must be"},
          {"a user that is none", %{"TURN_USER" => "no-such-user"}, "TURN_USER"},
          {"root", %{"TURN_USER" => "root"}, "must not be root"}
        ] do
      @tag variables: variables, reason: reason
      @tag skip:
             if(
               Map.has_key?(variables, "TURN_USER") and
                 System.cmd("id", ["-u"]) != {"0\n", 0},
               do: "only root changes the user"
             )
      test "refuses #{what}", %{variables: variables, reason: reason} do
        secret = Map.get(variables, "TURN_SECRET", @good)
        settings = %{"TURN_SECRET" => secret, "TURN_RUN_DIR" => temporary()}
        env = settings |> Map.merge(variables) |> env()

        assert {1, [], "coturn entrypoint: " <> said} = Command.run(@script, [], env: env)
        assert said =~ reason
        refute said =~ ~r/hunter2|0123456789|no-auth/
        assert [_one_line] = String.split(said, "\n", trim: true)
      end
    end

    test "takes no arguments" do
      assert {1, [], said} = Command.run(@script, ["--no-auth"], env: env(%{}))
      assert said =~ "no arguments"
    end

    @tag skip: if(System.find_executable("shellcheck") == nil, do: "shellcheck is not installed")
    test "has no fault that shellcheck knows" do
      assert {0, [], ""} = Command.run("shellcheck", [@script])
    end
  end

  describe "the files beside it" do
    test "hold no secret" do
      # Without one, coturn with this configuration alone lets nobody in.
      for name <- File.ls!(@coturn) do
        secrets = Regex.scan(~r/static-auth-secret *=.*/, read(name))
        expected = if name == "entrypoint.sh", do: [[~S(static-auth-secret=\"$1\"")]], else: []
        assert {name, secrets} == {name, expected}
      end
    end

    test "agree on the ports" do
      assert read("entrypoint.sh") =~ "relay_ports=${TURN_RELAY_PORTS:-49152-49452}\n"
      assert read("Dockerfile.coturn") =~ "EXPOSE 3478/udp 3478/tcp 5349/tcp 49152-49452/udp\n"

      inside_and_outside =
        for [_, outside, inside, kind] <-
              Regex.scan(~r/- "(\S+}):(\S+})\/(udp|tcp)"/, read("docker-compose.yml")) do
          assert outside == inside
          {inside, kind}
        end

      assert inside_and_outside == [
               {"${TURN_PORT:-3478}", "udp"},
               {"${TURN_PORT:-3478}", "tcp"},
               {"${TURN_RELAY_PORTS:-49152-49452}", "udp"}
             ]
    end

    test "name the variables that the script reads" do
      script = read("entrypoint.sh")

      for [name] <- Regex.scan(~r/\bTURN_[A-Z_]+(?=:)/, read("docker-compose.yml")) do
        assert script =~ name
        assert name in @variables
      end
    end
  end

  defp read(name), do: File.read!(Path.join(@coturn, name))
end
