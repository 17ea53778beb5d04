defmodule Cromulent.Turn.TelemetryTest do
  use ExUnit.Case, async: false

  import ExUnit.CaptureLog

  alias Cromulent.Turn.{Frame, Telemetry, Throttle}

  setup do
    Throttle.reset()
    :telemetry.listen()
    :ok
  end

  @allocation %{
    id: "0-17",
    username: "1700000000:alice",
    client: "192.0.2.1:1",
    relayed: "192.0.2.2:2",
    age_ms: 5,
    up_packets: 1,
    up_bytes: 2,
    down_packets: 3,
    down_bytes: 4
  }

  test "executes events under the library's prefix" do
    assert Telemetry.execute([:a, :b], %{count: 1}, %{x: 1}) == :ok
    assert_received {:telemetry, [:cromulent, :turn, :a, :b], %{count: 1}, %{x: 1}}
  end

  test "counts an allocation, and measures its end" do
    log =
      capture_log(fn ->
        Telemetry.relay_event(:allocation_created, @allocation)
        Telemetry.relay_event(:allocation_ended, Map.put(@allocation, :reason, :expired))
      end)

    assert_received {:telemetry, [:cromulent, :turn, :allocation, :created], %{count: 1},
                     @allocation}

    assert_received {:telemetry, [:cromulent, :turn, :allocation, :ended],
                     %{age_ms: 5, up_packets: 1, up_bytes: 2, down_packets: 3, down_bytes: 4},
                     %{reason: :expired}}

    assert log =~ "relays as 192.0.2.2:2"
    assert log =~ "ended (expired) after 5 ms: 2 bytes up, 4 bytes down"
  end

  test "tells who may reach whom, and from where" do
    permission = %{id: "0-1", username: "u", client: "c:1", relayed: "r:2", peer: "192.0.2.9"}
    log = capture_log(fn -> Telemetry.relay_event(:permission_created, permission) end)
    assert_received {:telemetry, [:cromulent, :turn, :permission, :created], _, ^permission}
    assert log =~ "u at c:1 may reach 192.0.2.9 by r:2, allocation 0-1"
  end

  test "tells of refusals once a minute, and says how to allow a peer" do
    log =
      capture_log(fn ->
        for _ <- 1..5 do
          Telemetry.relay_event(:peer_forbidden, %{
            username: "u",
            client: "c",
            peer: "10.0.0.1:1",
            rule: "10.0.0.0/8"
          })

          Telemetry.relay_event(:auth_failed, %{username: "u", client: "c", reason: :expired})
        end
      end)

    assert length(
             String.split(log, "refused by the rule 10.0.0.0/8; allow it with TURN_ALLOW_PEERS")
           ) == 2

    assert length(String.split(log, "were refused: expired")) == 2
    for _ <- 1..5, do: assert_received({:telemetry, [:cromulent, :turn, :peer, :forbidden], _, _})
    for _ <- 1..5, do: assert_received({:telemetry, [:cromulent, :turn, :auth, :failed], _, _})
  end

  test "passes the relay's own log on, at its level" do
    for level <- [:info, :warning, :error] do
      log =
        capture_log(fn -> Telemetry.relay_event(:log, %{level: level, message: "something"}) end)

      assert log =~ "[#{level}]"
      assert log =~ "TURN relay: something"
    end

    assert capture_log(fn -> Telemetry.relay_event(:log, %{level: :loud, message: "x"}) end) =~
             "loud"
  end

  test "survives an event without any details" do
    capture_log(fn ->
      for name <-
            [:permission_created, :allocation_created, :allocation_ended] ++
              [:peer_forbidden, :auth_failed, :log],
          do: assert(Telemetry.relay_event(name, %{}) == :ok)
    end)

    assert :allocation_created in Frame.vocabulary()
  end

  test "its documentation has every event that the code sends" do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Telemetry)
    sources = Path.wildcard(Path.expand("../../../lib/cromulent/**/*.ex", __DIR__))

    sent =
      for source <- sources,
          [event] <-
            Regex.scan(~r/execute\(\s*\[(:\w+, :\w+)\]/, File.read!(source),
              capture: :all_but_first
            ),
          do: event

    for event <- [
          ":relay, :up",
          ":allocation, :ended",
          ":provider, :failed",
          ":provider, :fallback"
        ],
        do: assert(event in sent)

    for event <- sent, do: assert(text =~ "[:cromulent, :turn, #{event}]")
  end
end
