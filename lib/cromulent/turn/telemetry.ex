defmodule Cromulent.Turn.Telemetry do
  @moduledoc """
  The events of this library. They are sent through the `:telemetry` package when the application
  has it, as Phoenix applications do; otherwise they go nowhere. Durations ending in `_ms` are
  milliseconds, those in `_us` microseconds, counts of bytes are payload bytes.

  | event | when | measurements | metadata |
  |---|---|---|---|
  | `[:cromulent, :turn, :relay, :up]` | the relay is ready | `down_ms` (0 at the first start), `restarts` | `os_pid`, `listen`, `version` |
  | `[:cromulent, :turn, :relay, :down]` | the relay ended by itself or broke the protocol | `up_ms` | `reason`, `os_pid` |
  | `[:cromulent, :turn, :allocation, :created]` | a client has a relayed address | `count` (1) | the allocation, see below |
  | `[:cromulent, :turn, :allocation, :ended]` | the allocation is gone; its counts are final | `age_ms`, `up_packets`, `up_bytes`, `down_packets`, `down_bytes` | the allocation and `reason`: `:released`, `:expired`, `:killed`, `:shutdown`, `:closed` (with its client's connection) or `:withdrawn` (its user has left all rooms) |
  | `[:cromulent, :turn, :permission, :created]` | a client may reach a peer, which it could not before; with the option `permission_events` | `count` (1) | `id` of the allocation, `username`, `client`, `relayed`, `peer` (an IP) |
  | `[:cromulent, :turn, :peer, :forbidden]` | a peer's address was refused with 403 | `count` (1) | `username`, `client`, `peer`, `rule` |
  | `[:cromulent, :turn, :admission, :granted]` | the relay has taken grants (docs/admission.md) | `count`, `duration_us` until it answered | |
  | `[:cromulent, :turn, :admission, :withdrawn]` | it has taken grants back, and ended allocations of users without any | `count`, `duration_us` | |
  | `[:cromulent, :turn, :admission, :failed]` | it has no room for one, which is tried again | `count` (1) | `user`, `room`, `reason`: `:too_many_grants` or `:too_many_rooms` |
  | `[:cromulent, :turn, :admission, :opened]` | a relay that was started knows all grants: from now on it refuses others | `duration_us` | |
  | `[:cromulent, :turn, :admission, :refused]` | a client was refused an allocation (403), its user is in no room | `count` (1) | `username`, `client` |
  | `[:cromulent, :turn, :auth, :failed]` | credentials did not hold | `count` (1) | `username`, `client`, `reason`: `:bad_password`, `:expired`, `:malformed_username`, `:wrong_realm`, `:unknown_userhash`, `:unknown_kid` or `:bad_token` |
  | `[:cromulent, :turn, :provider, :failed]` | a provider of a chain failed and the next one is asked | `count` (1) | `provider`, `reason`, `user_id` |
  | `[:cromulent, :turn, :provider, :fallback]` | no provider was left, and only the STUN list could be given | `count` (1) | `provider` (the last one; nil where its name is wrong), `reason`, `user_id` |
  | `[:cromulent, :turn, :provider, :request]` | a provider's API was asked, and answered or did not | `duration_ms` | `provider`, `operation` (`:create`, `:get`, `:generate`, `:revoke`), `status` (of HTTP; nil without an answer), `outcome`: `:ok` or a reason (`Cromulent.Turn.Metered`) |
  | `[:cromulent, :turn, :place, :taken]` | a process joined (`Cromulent.Turn.Join`) | `duration_us`, from the call to the place, without the credentials | `topic`, `user_id` |
  | `[:cromulent, :turn, :place, :refused]` | a join was refused | `duration_us` | `topic`, `user_id`, `by`: `:place`, or `:presence` where a process without a place was found |
  | `[:cromulent, :turn, :place, :taken_over]` | a holder lost its place and is told | `count` (1) | `topic`, `user_id`, `pid`, `reason`: `:takeover` or `:healed` (a netsplit) |
  | `[:cromulent, :turn, :place, :freed]` | a place is free | `held_ms` | `topic`, `user_id`, `reason`: `:left`, `:ended` (its process) or `:withdrawn` (the join failed) |
  | `[:cromulent, :turn, :place, :degraded]` | a join went on without nodes that did not answer | `count` (1) | `topic`, `user_id`, `nodes` |
  | `[:cromulent, :turn, :place, :renewed]` | a holder was sent new ICE servers | `count` (1) | `topic`, `user_id`, `expires_at` |
  | `[:cromulent, :turn, :place, :renewal_failed]` | there were none to be sent; it is tried again | `count` (1) | `topic`, `user_id`, `reason`, without secrets |

  The `reason` of a provider is an atom, a tuple such as `{:http_error, 503}`, or text; secrets and what
  looks like one are hidden in it.

  An allocation is a map of `id`, `username`, `client`, `server`, `relayed` (addresses as
  `"ip:port"`), `transport`, `permissions`, `channels`, `protocol` (`:udp` or `:tcp`), `tcp_peers` and `worker`, and in metadata the measured
  values too. Up is from the client to its peers, down is from peers to the client.

  Handlers of the relay's events run in the process that answers `Cromulent.Turn.Relay`'s functions, so
  they should hand anything slow to another one. Events of the relay are best effort: it never waits for the BEAM, and drops events that the BEAM
  is too slow for. `Cromulent.Turn.Relay.stats/0` says how many (`events_dropped`).
  """

  alias Cromulent.Turn.Admission.Feed
  alias Cromulent.Turn.{Program, Throttle}

  require Logger

  @totals [:age_ms, :up_packets, :up_bytes, :down_packets, :down_bytes]

  @doc false
  @spec execute([atom()], map(), map()) :: :ok
  def execute(event, measurements, metadata) do
    if telemetry?() do
      # Not a dependency: only known when it runs.
      apply(:telemetry, :execute, [[:cromulent, :turn | event], measurements, metadata])
    end

    :ok
  end

  # Where it is absent, looking for it is a search of all code paths by the one code server: once is enough.
  defp telemetry? do
    function_exported?(:telemetry, :execute, 3) or
      (:persistent_term.get(__MODULE__, :unknown) == :unknown and look_for_telemetry())
  end

  defp look_for_telemetry do
    found? = Code.ensure_loaded?(:telemetry)
    unless found?, do: :persistent_term.put(__MODULE__, :absent)
    found?
  end

  @doc false
  @spec relay_up(map(), non_neg_integer(), non_neg_integer()) :: :ok
  def relay_up(info, down_ms, restarts) do
    metadata = Map.take(info, [:os_pid, :listen, :version])
    execute([:relay, :up], %{down_ms: down_ms, restarts: restarts}, metadata)
    back = if restarts > 0, do: " again, #{down_ms} ms after it was lost", else: ""
    listen = Enum.join(info.listen, ", ")
    Logger.info("TURN relay runs#{back}: pid #{info.os_pid}, listens on #{listen}")
  end

  @doc false
  @spec relay_down(pos_integer() | nil, non_neg_integer(), term()) :: :ok
  def relay_down(os_pid, up_ms, reason) do
    execute([:relay, :down], %{up_ms: up_ms}, %{reason: reason, os_pid: os_pid})

    Logger.error(
      "TURN relay (pid #{os_pid}) was lost after #{up_ms} ms: #{Program.describe(reason)}; starting another"
    )
  end

  @doc false
  # What the relay answered to a command about grants.
  @spec admission(Feed.command(), non_neg_integer(), term()) :: :ok
  def admission({:open, []}, us, :ok),
    do: execute([:admission, :opened], %{duration_us: us}, %{})

  def admission({:withdraw, [pairs]}, us, :ok),
    do: execute([:admission, :withdrawn], %{count: length(pairs), duration_us: us}, %{})

  def admission({:admit, [pairs]}, us, {:ok, refused}) do
    count = length(pairs) - length(refused)
    execute([:admission, :granted], %{count: count, duration_us: us}, %{})
    Enum.each(refused, &not_granted/1)
  end

  def admission({name, _pairs}, _us, {:error, reason}) do
    once(:error, {:admission, name, reason}, fn ->
      "TURN: the relay did not take a command (#{name}): #{inspect(reason)}"
    end)
  end

  defp not_granted({user, room, reason}) do
    execute([:admission, :failed], %{count: 1}, %{user: user, room: room, reason: reason})

    once(:error, {:admission, reason}, fn ->
      "TURN: #{user} could not be admitted to #{room}: #{reason}; it is tried again"
    end)
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

  def relay_event(:permission_created, permission) do
    execute([:permission, :created], %{count: 1}, permission)

    Logger.info(fn ->
      "TURN: #{permission[:username]} at #{permission[:client]} may reach #{permission[:peer]} " <>
        "by #{permission[:relayed]}, allocation #{permission[:id]}"
    end)
  end

  def relay_event(:peer_forbidden, refusal) do
    execute([:peer, :forbidden], %{count: 1}, refusal)

    once(:warning, {:peer_forbidden, refusal[:rule]}, fn ->
      "TURN: the peer #{refusal[:peer]} of #{refusal[:username]} was refused" <>
        why_forbidden(refusal[:rule])
    end)
  end

  def relay_event(:auth_failed, failure) do
    execute([:auth, :failed], %{count: 1}, failure)

    once(:info, {:auth_failed, failure[:reason]}, fn ->
      "TURN: the credentials of #{inspect(failure[:username])} at #{failure[:client]} were refused: " <>
        "#{failure[:reason]}"
    end)
  end

  def relay_event(:admission_refused, refusal) do
    execute([:admission, :refused], %{count: 1}, refusal)

    once(:info, :admission_refused, fn ->
      "TURN: #{inspect(refusal[:username])} at #{refusal[:client]} was refused: in no room"
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

  defp why_forbidden(:own_address), do: ": no client is at that port of the relay's own address"

  defp why_forbidden(:switch_mode),
    do: ": in switch mode only clients of this relay can be reached"

  defp why_forbidden(:admission),
    do: ": with admission to rooms only clients of this relay can be reached"

  defp why_forbidden(rule),
    do: " by the rule #{rule}; allow it with TURN_ALLOW_PEERS if it should be reached"
end
