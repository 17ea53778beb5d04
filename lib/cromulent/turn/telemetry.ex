defmodule Cromulent.Turn.Telemetry do
  @moduledoc """
  The events of this library. They are sent through the `:telemetry` package when the application
  has it, as Phoenix applications do; otherwise they go nowhere. Durations ending in `_ms` are
  milliseconds, counts of bytes are payload bytes.

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:cromulent, :turn, :relay, :up]` | the relay is ready | `down_ms` (0 at the first start), `restarts` | `os_pid`, `listen`, `version` |
  | `[:cromulent, :turn, :relay, :down]` | the relay ended by itself or broke the protocol | `up_ms` | `reason`, `os_pid` |
  | `[:cromulent, :turn, :allocation, :created]` | a client has a relayed address | `count` (1) | the allocation, see below |
  | `[:cromulent, :turn, :allocation, :ended]` | the allocation is gone; its counts are final | `age_ms`, `up_packets`, `up_bytes`, `down_packets`, `down_bytes` | the allocation and `reason`: `:released`, `:expired`, `:killed`, `:shutdown` or `:closed` (with its client's connection) |
  | `[:cromulent, :turn, :peer, :forbidden]` | a peer's address was refused with 403 | `count` (1) | `username`, `client`, `peer`, `rule` |
  | `[:cromulent, :turn, :auth, :failed]` | credentials did not hold | `count` (1) | `username`, `client`, `reason`: `:bad_password`, `:expired`, `:malformed_username` or `:wrong_realm` |
  | `[:cromulent, :turn, :provider, :fallback]` | `Cromulent.Turn.ice_servers/2` could only give the STUN list | `count` (1) | `provider`, `reason`, `user_id` |

  An allocation is a map of `id`, `username`, `client`, `server`, `relayed` (addresses as
  `"ip:port"`), `transport`, `permissions`, `channels` and `worker`, and in metadata the measured
  values too. Up is from the client to its peers, down is from peers to the client.

  Handlers of the relay's events run in the process that answers `Cromulent.Turn.Relay`'s functions, so
  they should hand anything slow to another one. Events of the relay are best effort: it never waits for the BEAM, and drops events that the BEAM
  is too slow for. `Cromulent.Turn.Relay.stats/0` says how many (`events_dropped`).
  """

  alias Cromulent.Turn.Throttle

  require Logger

  @totals [:age_ms, :up_packets, :up_bytes, :down_packets, :down_bytes]

  @doc false
  @spec execute([atom()], map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if function_exported?(:telemetry, :execute, 3) or Code.ensure_loaded?(:telemetry) do
      # Not a dependency: only known when it runs.
      apply(:telemetry, :execute, [[:cromulent, :turn | event], measurements, metadata])
    end

    :ok
  end

  @doc false
  # An event of the relay, to :telemetry and to the log.
  @spec relay_event(Cromulent.Turn.Frame.event(), map()) :: :ok
  def relay_event(:allocation_created, allocation) do
    execute([:allocation, :created], %{count: 1}, allocation)

    Logger.debug(fn ->
      "TURN allocation #{allocation[:id]} of #{allocation[:username]} at #{allocation[:client]}: " <>
        "relays as #{allocation[:relayed]}"
    end)
  end

  def relay_event(:allocation_ended, allocation) do
    execute([:allocation, :ended], Map.take(allocation, @totals), allocation)

    Logger.debug(fn ->
      "TURN allocation #{allocation[:id]} of #{allocation[:username]} ended (#{allocation[:reason]}) " <>
        "after #{allocation[:age_ms]} ms: #{allocation[:up_bytes]} bytes up, " <>
        "#{allocation[:down_bytes]} bytes down"
    end)
  end

  def relay_event(:peer_forbidden, refusal) do
    execute([:peer, :forbidden], %{count: 1}, refusal)

    once(:warning, {:peer_forbidden, refusal[:rule]}, fn ->
      "TURN: the peer #{refusal[:peer]} of #{refusal[:username]} was refused by the rule " <>
        "#{refusal[:rule]}; allow it with TURN_ALLOW_PEERS if it should be reached"
    end)
  end

  def relay_event(:auth_failed, failure) do
    execute([:auth, :failed], %{count: 1}, failure)

    once(:info, {:auth_failed, failure[:reason]}, fn ->
      "TURN: the credentials of #{inspect(failure[:username])} at #{failure[:client]} were refused: " <>
        "#{failure[:reason]}"
    end)
  end

  def relay_event(:log, %{level: level, message: message})
      when level in [:info, :warning, :error] do
    Logger.log(level, fn -> "TURN relay: #{message}" end)
  end

  def relay_event(:log, entry), do: Logger.warning("TURN relay: #{inspect(entry)}")

  @doc false
  @spec once(Logger.level(), term(), (() -> String.t())) :: :ok
  def once(level, cause, text) do
    if Throttle.allow?(cause), do: Logger.log(level, text), else: :ok
  end
end
