defmodule Mix.Tasks.Turn.ServerTest do
  # Whole programs, started as a script would.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [client: 2, peer: 0, address: 1, secret: 0]

  alias Cromulent.Turn.{AccessToken, Certificates, Check, Client, Command, OsProcess, Stun}

  @moduletag timeout: 120_000
  @local ["--listen", "udp:127.0.0.1:0", "--relay-ip", "127.0.0.1"]

  defp start(args, opts \\ []) do
    command = Command.start("mix", ["turn.server" | args], opts)
    {line, before} = Command.await_line(command, "ready ")
    assert before == []
    "ready " <> json = line
    {command, ready(json)}
  end

  # Read by a reader that is not ours.
  defp ready(json) do
    script = """
    import json, sys
    d = json.loads(sys.argv[1])
    assert list(d) == ["pid", "listen", "realm"], d
    print(d["pid"], d["realm"], *d["listen"])
    """

    {out, 0} = System.cmd("python3", ["-c", script, json])
    [pid, realm | listen] = String.split(out)
    %{pid: String.to_integer(pid), realm: realm, listen: listen}
  end

  defp check(listener, way \\ [], secret \\ secret()) do
    target = %{address: address(listener), credentials: {:secret, fn -> secret end}, realm: nil}
    Check.run(Map.merge(target, Map.new(way)), fn _ -> :ok end)
  end

  test "serves on every listener, prints one line, and ends with SIGTERM" do
    args =
      ~w(--listen udp:127.0.0.1:0 --listen udp:[::1]:0 --relay-ip 127.0.0.1 --relay-ip ::1
              --realm example.org --ports 20000-30000 --workers 2 --allow-peer 127.0.0.0/8 --allow-peer ::1
              --deny-peer 10.0.0.0/8 --deny-peer 8.8.8.8) ++
        ["--secret", secret(), "--secret", "an older secret of the test"]

    {command, ready} = start(args)
    assert ready.realm == "example.org"
    assert ["udp:127.0.0.1:" <> _, "udp:[::1]:" <> _] = ready.listen
    assert OsProcess.alive?(ready.pid)
    for listener <- ready.listen, do: assert(check(listener) == :ok)
    assert check(hd(ready.listen), [], "an older secret of the test") == :ok
    assert check(hd(ready.listen), [], "a secret that nobody gave") == :error

    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
    refute OsProcess.alive?(ready.pid)
    refute Command.stderr(command) =~ secret()
  end

  @tag :tmp_dir
  test "serves TCP and TLS", %{tmp_dir: dir} do
    made = Certificates.make()
    {cert, key} = Certificates.files(made, dir)
    listen = ~w(--listen tcp:127.0.0.1:0 --listen tls:127.0.0.1:0 --relay-ip 127.0.0.1)
    {command, ready} = start(listen ++ ["--cert", cert, "--key", key, "--secret", secret()])
    assert ["tcp:127.0.0.1:" <> _ = tcp, "tls:127.0.0.1:" <> _ = tls] = ready.listen

    for {listener, way} <- [
          {tcp, transport: :tcp},
          {tcp, transport: :tls, tls: made.verify},
          {tls, transport: :tls, tls: made.verify}
        ],
        do: assert(check(listener, way) == :ok)

    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
  end

  @tag :tmp_dir
  test "serves DTLS too, with the certificate of the environment, as a file or as text",
       context do
    made = Certificates.make()
    {cert, key} = Certificates.files(made, context.tmp_dir)
    args = ~w(--listen dtls:127.0.0.1:0 --listen tls:127.0.0.1:0 --relay-ip 127.0.0.1)

    for {cert, key} <- [{cert, key}, {made.cert, made.key}] do
      env = [{"TURN_TLS_CERT", cert}, {"TURN_TLS_KEY", key}, {"TURN_SECRET", secret()}]
      {command, ready} = start(args, env: env)
      assert ["dtls:127.0.0.1:" <> _ = dtls, "tls:127.0.0.1:" <> _ = tls] = ready.listen
      assert check(dtls, transport: :dtls, tls: made.verify) == :ok
      assert check(tls, transport: :tls, tls: made.verify) == :ok
      Command.signal(command, "TERM")
      assert Command.await_exit(command) == {0, []}
    end
  end

  test "takes the flags of NAT behaviour discovery, mobility and quotas" do
    args = @local ++ ~w(--alternate 127.0.0.2:0 --mobility --user-quota 1 --user-bandwidth 100000)
    {command, ready} = start(args ++ ["--secret", secret()])
    relay = %{address: address(hd(ready.listen))}

    {:ok, answer, _} = Client.transact(client(relay, []), Stun.new(:request, :binding))
    assert {{127, 0, 0, 2}, _port} = Stun.get(answer, :other_address)

    asked = [requested_transport: :udp, mobility_ticket: ""]
    {:ok, answer, _client} = Client.request(client(relay, []), :allocate, asked)
    assert Stun.get(answer, :mobility_ticket) != ""
    assert {:error, {:refused, 486, _}, _} = Client.allocate(client(relay, []))
    assert {:ok, _, _} = Client.allocate(client(relay, user: "bob"))

    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
  end

  @tag :tmp_dir
  test "takes access tokens", %{tmp_dir: dir} do
    bytes = :crypto.strong_rand_bytes(32)
    file = Path.join(dir, "key.jwk")
    k = Base.url_encode64(bytes, padding: false)
    File.write!(file, ~s({"kty": "oct", "kid": "a", "alg": "A256GCM", "k": "#{k}"}))
    {command, ready} = start(@local ++ ["--oauth-key", file, "--oauth-server-name", "turn.here"])
    token = AccessToken.encode(%AccessToken.Key{kid: "a", key: bytes}, "turn.here")
    {:ok, client} = Client.open(address(hd(ready.listen)), token: token, deadline: 5_000)
    assert {:ok, %{lifetime: 600}, client} = Client.allocate(client)
    assert {:ok, 0, _} = Client.refresh(client, 0)
    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
  end

  test "ends with SIGINT" do
    {command, ready} = start(@local)
    Command.signal(command, "INT")
    assert Command.await_exit(command) == {0, []}
    refute OsProcess.alive?(ready.pid)
    refute Command.stderr(command) =~ "BREAK"
  end

  test "ends with Ctrl-C at a terminal" do
    # script(1) is the terminal.
    line = Enum.join(["exec mix turn.server" | @local], " ")
    command = Command.start("script", ["-q", "-e", "-c", line, "/dev/null"])
    # On a terminal both streams are one.
    {"ready " <> json, _} = Command.await_line(command, "ready ")
    ready = json |> String.trim() |> ready()
    assert OsProcess.alive?(ready.pid)
    Command.type(command, <<3>>)
    {status, lines} = Command.await_exit(command)
    assert status == 0, Enum.join(lines, "\n")
    refute Enum.join(lines) =~ "BREAK"
    refute OsProcess.alive?(ready.pid)
  end

  test "takes the relay along when it is killed" do
    {command, ready} = start(@local)
    OsProcess.kill(command.os_pid)
    assert OsProcess.await_exit(ready.pid, 2_000) == :ok
  end

  test "takes what flags do not say from the environment, and starts one relay only" do
    env = [
      {"TURN_PROVIDER", "embedded"},
      {"TURN_LISTEN", "udp:127.0.0.1:0"},
      {"TURN_RELAY_IP", "127.0.0.1"},
      {"TURN_REALM", "of.the.environment"},
      {"TURN_SECRET", secret()}
    ]

    {command, ready} = start(["--realm", "of.the.flag"], env: env)
    assert ready.realm == "of.the.flag"
    assert check(hd(ready.listen)) == :ok
    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
  end

  test "brings a lost relay back" do
    {command, ready} = start(@local ++ ["--secret", secret()])
    OsProcess.kill(ready.pid)
    {:ok, client} = Client.open(address(hd(ready.listen)), deadline: 200)

    Cromulent.Turn.Helpers.eventually(fn -> match?({:ok, _}, Client.binding(client)) end, 2_000)
    assert check(hd(ready.listen)) == :ok
    Command.signal(command, "TERM")
    assert Command.await_exit(command) == {0, []}
  end

  # {arguments, what the one line says}
  for {args, told} <- [
        {["--bogus"], "unknown flag --bogus; there are --listen, --relay-ip"},
        {["--listen"], "--listen: needs a value"},
        {["extra"], "unexpected argument \"extra\""},
        {["--listen", "3478"], "--listen \"3478\": must be udp:IP:PORT"},
        {["--allow-peer", "10.0.0.0/99"], "--allow-peer \"10.0.0.0/99\": must be address blocks"},
        {["--secret", ""], "--secret: must not be empty"},
        {["--user-quota", "many"], "--user-quota \"many\": must be a number from 0"},
        {["--user-bandwidth", "8M"], "--user-bandwidth \"8M\": must be a number from 0"},
        {["--alternate", "127.0.0.2"], "--alternate \"127.0.0.2\": must be IP:PORT"},
        {["--cert", "/nowhere/cert.pem"], "--cert \"/nowhere/cert.pem\": must be a file that can"}
      ] do
    test "refuses #{Enum.join(args, " ")} with one line and status 2" do
      assert {2, [], line} = Command.run("mix", ["turn.server" | unquote(args)])
      assert String.starts_with?(line, "mix turn.server: " <> unquote(told))
      assert length(String.split(line, "\n", trim: true)) == 1
    end
  end

  test "refuses a wrong variable with one line and status 2" do
    assert {2, [], line} = Command.run("mix", ["turn.server"], env: [{"TURN_TTL", "1h"}])
    assert line =~ "mix turn.server: TURN_TTL=\"1h\": must be a whole number of seconds"
    assert length(String.split(line, "\n", trim: true)) == 1
  end

  test "ends with status 1 and one line when a port is in use" do
    {_socket, {_, port}} = peer()
    args = ["turn.server", "--listen", "udp:127.0.0.1:#{port}", "--relay-ip", "127.0.0.1"]
    assert {1, [], line} = Command.run("mix", args)

    assert line ==
             "mix turn.server: cannot listen on udp:127.0.0.1:#{port}: the port is in use (eaddrinuse)\n"
  end
end
