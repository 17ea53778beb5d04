defmodule Cromulent.Turn.Frame do
  @moduledoc false
  # The frames of the control channel (docs/control.md), as terms: pure, no port in sight.

  @protocol 1
  # What the relay may send at most, in bytes.
  @max 16 * 1024 * 1024
  # Every counter that the relay has, in the order of c_src/core/turn_server.h. Naming them here is
  # also what lets a frame with them be decoded: atoms that nobody knows are refused.
  @counters [
    :up_packets,
    :up_bytes,
    :down_packets,
    :down_bytes,
    :icmp_errors,
    :requests,
    :bindings,
    :allocations_created,
    :allocations_released,
    :allocations_expired,
    :allocations_killed,
    :allocations_moved,
    :refreshes,
    :permissions,
    :channels,
    :challenges,
    :unauthenticated,
    :stale_nonces,
    :errors,
    :forbidden,
    :drop_malformed,
    :drop_unexpected,
    :drop_no_allocation,
    :drop_no_permission,
    :drop_no_channel,
    :drop_rate_limited,
    :drop_send,
    :drop_receive,
    :allocations_closed,
    :connections,
    :connections_refused,
    :connections_idle,
    :connections_broken,
    :handshakes,
    :drop_queue,
    :pair_packets,
    :drop_ring,
    :drop_bandwidth,
    :tcp_connected,
    :tcp_failed,
    :tcp_accepted,
    :tcp_refused,
    :tcp_bound,
    :tcp_unbound,
    :tcp_cut,
    :refused_admission,
    :drop_early,
    :allocations_withdrawn,
    :drop_other_room
  ]
  @events [
    :allocation_created,
    :allocation_ended,
    :permission_created,
    :peer_forbidden,
    :auth_failed,
    :admission_refused,
    :log
  ]
  @failures [:listen, :relay_ip, :config, :protocol, :system]
  @keys [
    ready: [:os_pid, :listen, :version, :protocol, :relays, :workers, :udp, :mmsg, :uv],
    stats: [:allocations, :grants, :uptime_ms, :counters, :workers, :events_dropped],
    allocation: [
      :id,
      :username,
      :client,
      :server,
      :transport,
      :tcp,
      :tls,
      :dtls,
      :relayed,
      :also_relayed,
      :age_ms,
      :expires_in_ms,
      :permissions,
      :channels,
      :tcp_peers,
      :worker
    ],
    event:
      [:reason, :peer, :rule, :own_address, :switch_mode, :admission] ++
        [:level, :message, :info, :warning, :error],
    reply: [:no_memory, :admission_off, :too_many_grants, :too_many_rooms],
    ended: [:released, :expired, :killed, :shutdown, :closed, :withdrawn],
    auth: [
      :bad_password,
      :malformed_username,
      :wrong_realm,
      :unknown_userhash,
      :unknown_kid,
      :bad_token
    ]
  ]
  # What bind() can say of an address.
  @errnos [
            :eaddrinuse,
            :eaddrnotavail,
            :eacces,
            :eafnosupport,
            :einval,
            :emfile,
            :enfile,
            :enobufs
          ] ++
            [:enodev, :enomem, :eperm]

  @type failure ::
          {:listen, String.t(), atom()}
          | {:relay_ip, String.t(), atom()}
          | {:config, String.t()}
          | {:protocol, String.t()}
          | {:system, String.t()}
  @type event ::
          :allocation_created
          | :allocation_ended
          | :permission_created
          | :peer_forbidden
          | :auth_failed
          | :admission_refused
          | :log
  @type ref :: non_neg_integer()
  @type t ::
          {:ready, map()}
          | {:failed, failure()}
          | {:reply, ref(), :ok | {:ok, term()} | {:error, term()}}
          | {:event, event(), map()}

  @doc "The names of the relay's counters."
  @spec counters() :: [atom()]
  def counters, do: @counters

  @doc "The largest frame that is taken from a relay, in bytes."
  @spec max() :: pos_integer()
  def max, do: @max

  @doc "The atoms that frames are made of; they must exist before the first one is decoded."
  @spec vocabulary() :: [atom()]
  def vocabulary,
    do: Enum.concat([@counters, @events, @failures, @errnos | Keyword.values(@keys)])

  @spec hello() :: binary()
  def hello, do: encode({:hello, @protocol})

  @spec encode(tuple()) :: binary()
  def encode(term) when is_tuple(term), do: :erlang.term_to_binary(term)

  @doc "The frame, or a sentence that says what is wrong with it."
  @spec decode(binary()) :: {:ok, t()} | {:error, String.t()}
  def decode(bytes) when byte_size(bytes) > @max,
    do: {:error, "a frame of #{byte_size(bytes)} bytes"}

  def decode(bytes) do
    bytes |> :erlang.binary_to_term([:safe]) |> check()
  rescue
    ArgumentError -> {:error, "a frame of #{byte_size(bytes)} bytes that is no term we know"}
  end

  defp check({:ready, %{os_pid: pid, listen: listen, protocol: @protocol} = info})
       when is_integer(pid) and pid > 0 and is_list(listen) do
    if Enum.all?(listen, &is_binary/1),
      do: {:ok, {:ready, info}},
      else: unexpected({:ready, info})
  end

  defp check({:ready, %{protocol: other}}) when is_integer(other) and other != @protocol,
    do: {:error, "it speaks version #{other} of the control protocol, and we speak #{@protocol}"}

  defp check({:failed, reason, {what, errno}})
       when reason in [:listen, :relay_ip] and is_binary(what) and is_atom(errno),
       do: {:ok, {:failed, {reason, what, errno}}}

  defp check({:failed, reason, text})
       when reason in [:config, :protocol, :system] and is_binary(text),
       do: {:ok, {:failed, {reason, text}}}

  defp check({:reply, ref, :ok} = frame) when is_integer(ref), do: {:ok, frame}
  defp check({:reply, ref, {:ok, _}} = frame) when is_integer(ref), do: {:ok, frame}
  defp check({:reply, ref, {:error, _}} = frame) when is_integer(ref), do: {:ok, frame}
  defp check({:event, name, %{}} = frame) when name in @events, do: {:ok, frame}
  defp check(other), do: unexpected(other)

  defp unexpected(term),
    do: {:error, "an unexpected frame: " <> inspect(term, limit: 10, printable_limit: 100)}
end
