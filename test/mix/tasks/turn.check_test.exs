defmodule Mix.Tasks.Turn.CheckTest do
  # Whole programs, started as a script would. What can go wrong with a server is in
  # Cromulent.Turn.CheckTest.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, Command, Credentials, Relay}

  @moduletag timeout: 120_000
  @steps [
    "binding",
    "allocate",
    "second allocation",
    "permission",
    "relay round trip",
    "refresh",
    "release"
  ]

  defp check(args, env \\ []), do: Command.run("mix", ["turn.check" | args], env: env)

  defp url({ip, port}), do: "turn:#{Cromulent.Turn.Address.to_host(ip)}:#{port}?transport=udp"

  defp assert_passed(lines) do
    assert ["127.0.0.1:" <> _ | rest] = lines
    assert {steps, ["ok: every step passed"]} = Enum.split(rest, 7)

    for {line, name} <- Enum.zip(steps, @steps),
        do: assert(line =~ ~r/^  ok     #{name} +\d+\.\d ms  \S/, line)
  end

  test "prints a line per step and ends with 0" do
    relay = start_relay()
    made = Credentials.generate("alice", secret())

    args = [
      "--url",
      url(relay.address),
      "--username",
      made.username,
      "--credential",
      made.credential
    ]

    assert {0, lines, ""} = check(args)
    assert_passed(lines)
    assert Relay.list(10, relay.pid) == {:ok, []}
  end

  test "says why a step failed and ends with 1" do
    relay = start_relay()

    assert {1, lines, ""} =
             check(["--url", url(relay.address), "--secret", "another secret for this"])

    assert ["127.0.0.1:" <> _, "  ok     binding" <> _, "  FAILED allocate" <> why] = lines
    assert why =~ "401, wrong secret"
    refute Enum.join(lines) =~ "another secret"

    assert {1, lines, ""} =
             check(["--url", url(relay.address), "--realm", "example.org"], [
               {"TURN_SECRET", "another secret for this"}
             ])

    assert List.last(lines) =~
             "401, wrong realm: the server's is \"cromulent_turn\", and \"example.org\" was expected"
  end

  test "takes the secret from the environment" do
    relay = start_relay()

    assert {0, lines, ""} =
             check(["--url", url(relay.address)], [{"TURN_SECRET", secret() <> ", an older one"}])

    assert_passed(lines)
  end

  test "checks over TCP and TLS" do
    made = Certificates.make()
    relay = start_relay(listen: "tcp:127.0.0.1:0", cert: made.cert, key: made.key)
    {_ip, port} = relay.address
    credentials = ["--secret", secret()]

    for args <- [
          ["--url", "turn:127.0.0.1:#{port}?transport=tcp"],
          ["--url", "turns:localhost:#{port}", "--insecure"]
        ] do
      assert {0, lines, ""} = check(args ++ credentials)
      assert_passed(lines)
    end

    assert {1, [_, failed], ""} =
             check(["--url", "turns:127.0.0.1:#{port}?transport=tcp"] ++ credentials)

    assert failed =~ "no TLS with 127.0.0.1:#{port}: Fatal - Unknown CA"
  end

  test "says when nothing is there" do
    {socket, address} = peer()
    :gen_udp.close(socket)
    assert {1, [_, failed], ""} = check(["--url", url(address), "--secret", secret()])
    assert failed =~ "FAILED binding"
    assert failed =~ "unreachable: nothing listens on UDP at 127.0.0.1:"
  end

  test "checks a relay of its own without --url" do
    local = [
      {"TURN_LISTEN", "udp:127.0.0.1:0"},
      {"TURN_RELAY_IP", "127.0.0.1"},
      {"TURN_PROVIDER", "embedded"}
    ]

    assert {0, lines, errors} = check([], local)
    assert_passed(lines)
    assert errors =~ "TURN relay runs"
  end

  test "checks a relay that lets only members of a room in" do
    local = [
      {"TURN_LISTEN", "udp:127.0.0.1:0"},
      {"TURN_RELAY_IP", "127.0.0.1"},
      {"TURN_ADMISSION", "room"}
    ]

    assert {0, ["admission is on: the user of this check is admitted" | lines], _} =
             check([], local)

    assert_passed(lines)
  end

  test "checks what has the ports without --url, which needs a secret" do
    relay = start_relay(listen: "udp:127.0.0.1:0")
    [listener] = relay.info.listen
    local = [{"TURN_LISTEN", listener}, {"TURN_RELAY_IP", "127.0.0.1"}]
    assert {0, [line | lines], _} = check(["--secret", secret()], local)
    assert line == "#{listener} is in use: checking what runs there"
    assert_passed(lines)

    assert {1, [], errors} = check([], local)

    assert errors =~
             "mix turn.check: #{listener} is in use: to check what runs there, set TURN_SECRET"
  end

  for {args, told} <- [
        {["--bogus"], "unknown flag --bogus; there are --url, --username"},
        {["--url", "http://x", "--secret", "s"], "--url \"http://x\": must be turn:HOST:PORT"},
        {["--url", "turn:127.0.0.1:1"],
         "--url: needs --username and --credential, or --secret, or TURN_SECRET"},
        {["--url", "turn:127.0.0.1:1", "--username", "u"],
         "--username and --credential: the one needs the other"}
      ] do
    test "refuses #{Enum.join(args, " ")} with one line and status 2" do
      assert {2, [], line} = check(unquote(args))
      assert String.starts_with?(line, "mix turn.check: " <> unquote(told))
      assert length(String.split(line, "\n", trim: true)) == 1
    end
  end
end
