defmodule Cromulent.Turn.Admission do
  @moduledoc false
  # Who is in which room on this node, for relays that let only those in (docs/admission.md). No process: joins
  # write to the tables themselves, and they outlive every process that works on them.
  #
  # A grant is a user's, by the name that usernames have, in a room; it has holders, and is in force while it has any. So
  # the order in which several come and go at once does not matter: whoever goes tells the relay's owner
  # that the grant may have changed, and that looks here what it is then. Whoever comes tells the relay himself, once
  # he is written down here; the owner looks again after it has sent that a grant is withdrawn: so either it
  # sees him, or what he sends comes after that.
  #
  # A holder is a place's reference, which goes when the place does, or {:app, pid, user_id, room}, with what
  # an application granted by itself: that goes with the process.

  alias Cromulent.Turn.{Commands, Config, Credentials, OpaqueString, Option, Places, Relay}
  alias Cromulent.Turn.Admission
  alias Cromulent.Turn.Admission.{Holders, Relays}

  # What the relay takes, in bytes.
  @user_most 508
  @room_most 255

  @typedoc "The owner of a relay: its name, or its pid where it has none."
  @type relay :: atom() | pid()
  @type pair :: {user :: String.t(), room :: binary()}
  @type grant :: {relay(), user :: String.t(), room :: binary()}
  @type holder :: reference() | {:app, pid(), term(), binary()}

  # Admission: {{relay, user, room, holder}, until}, until :infinity or ms of the monotonic clock.
  # Holders: {holder, key of its place or nil, relay, user, room}. Relays: {relay, opaque?, secrets, withdraw_after,
  # port or nil}.
  @doc "Makes the tables, which end with the caller."
  @spec tables() :: :ok
  def tables do
    shared = [:named_table, :public, read_concurrency: true]
    :ets.new(Admission, [:ordered_set, write_concurrency: true] ++ shared)
    :ets.new(Holders, [:bag, write_concurrency: true] ++ shared)
    :ets.new(Relays, [:set] ++ shared)
    :ok
  end

  # ---- relays ----

  @doc """
  From now on joins are for this relay too, if its configuration has admission. `port` is that of a relay that runs; it
  is given before the relay is told which grants there are.
  """
  @spec serve(relay(), Config.t(), port() | nil) :: :ok | {:error, {:system, String.t()}}
  def serve(relay, config, port \\ nil) do
    cond do
      :ets.whereis(Relays) == :undefined and on?(config) ->
        {:error, {:system, "admission: the application :cromulent_turn is not started"}}

      # Nobody can join for a relay without a name.
      on?(config) and is_atom(relay) ->
        row = {relay, config.opaque_usernames, config.secrets, config.withdraw_after, port}
        :ets.insert(Relays, row) && :ok

      # A relay without admission does without the application too.
      :ets.whereis(Relays) == :undefined ->
        :ok

      true ->
        :ets.delete(Relays, relay) && :ok
    end
  end

  @spec on?(Config.t()) :: boolean()
  def on?(config), do: Map.get(config.limits, :admission, :off) != :off

  # ---- grants ----

  @doc """
  What a place in a topic is worth at the relay that the options of a join choose; nil where there is none with
  admission, and for ids that no username can have.
  """
  @spec grant(String.t(), term(), keyword()) :: grant() | nil
  def grant(topic, user_id, opts) do
    relay = opts[:relay] || Relay

    with [{_relay, opaque?, secrets, _after, _port}] <- :ets.lookup(Relays, relay),
         {:ok, opaque?} <- opaque(opts[:opaque_usernames], opaque?),
         {:ok, user} <- user(user_id, secrets, opaque?),
         do: {relay, user, room(topic)},
         else: (_ -> nil)
  end

  defp opaque(nil, opaque?), do: {:ok, opaque?}
  defp opaque(given, _), do: Option.fetch(:opaque_usernames, opaque_usernames: given)

  @doc "The name that usernames have for a user."
  @spec user(term(), (() -> [binary(), ...]), boolean()) ::
          {:ok, String.t()} | {:error, :bad_user_id}
  def user(user_id, secrets, opaque?) do
    with {:ok, name} <- Credentials.name(user_id, secrets, opaque?),
         user = OpaqueString.prepared(name),
         true <- byte_size(user) in 1..@user_most,
         do: {:ok, user},
         else: (_ -> {:error, :bad_user_id})
  end

  @doc "The room of a topic: itself, or its hash where it is too long for the relay."
  @spec room(String.t()) :: binary()
  def room(topic) when byte_size(topic) <= @room_most, do: topic
  def room(topic), do: "sha256:" <> Base.encode16(:crypto.hash(:sha256, topic), case: :lower)

  @doc """
  One more holder of a grant. `key` is that of its place. The relay has been sent it then, before its user can be told
  anything; what it says to it is not waited for.
  """
  @spec hold(holder(), Places.key() | nil, grant() | nil) :: :ok
  def hold(_holder, _key, nil), do: :ok

  # Not by the relay's owner: that would take a multiple of the time of a join. When the relay does not read just
  # now, or is being started, the owner tells it.
  def hold(holder, key, {relay, user, room} = grant) do
    put(holder, key, grant)

    with [{_relay, _opaque?, _secrets, _after, port}] when port != nil <-
           :ets.lookup(Relays, relay),
         :ok <- Commands.write(port, :admit, [[{user, room}]]),
         do: :ok,
         else: (_ -> tell(relay, user, room))
  end

  @doc "The same, for who tells the relay himself."
  @spec put(holder(), Places.key() | nil, grant()) :: :ok
  def put(holder, key, {relay, user, room}) do
    # This first: by it a grant is found whose holder was killed before he had told of it.
    :ets.insert(Holders, {holder, key, relay, user, room})
    :ets.insert(Admission, {{relay, user, room, holder}, :infinity})
    :ok
  end

  @doc "Whether the holder has this grant."
  @spec held?(holder(), grant() | nil) :: boolean()
  def held?(_holder, nil), do: true
  def held?(holder, {relay, user, room}), do: :ets.member(Admission, {relay, user, room, holder})

  @doc "The holder has ended: its grants lose it, at once or when `withdraw_after` is over."
  @spec release(holder()) :: :ok
  def release(holder) do
    case :ets.lookup(Holders, holder) do
      [] ->
        :ok

      rows ->
        for {_holder, _key, relay, user, room} <- rows do
          lose({relay, user, room, holder}, linger(relay))
          tell(relay, user, room)
        end

        # At last: who is killed on the way leaves it to a sweep to do all of it.
        :ets.delete(Holders, holder)
        :ok
    end
  end

  @doc "The same at once, for who tells the relay himself: the grants that lost it."
  @spec drop(holder()) :: [grant()]
  def drop(holder) do
    for {_holder, _key, relay, user, room} <- :ets.take(Holders, holder) do
      lose({relay, user, room, holder}, 0)
      {relay, user, room}
    end
  end

  defp lose(row, 0), do: :ets.delete(Admission, row)
  defp lose(row, ms), do: :ets.update_element(Admission, row, {2, now() + ms})

  defp linger(relay) do
    case :ets.lookup(Relays, relay) do
      [{_relay, _opaque?, _secrets, ms, _port}] -> ms
      [] -> 0
    end
  end

  # The owner of a relay that is being started again looks at all of them.
  defp tell(relay, user, room), do: GenServer.cast(relay, {:grants, [{user, room}]})

  @doc "Whether a grant is in force: by a holder, until a time because of `withdraw_after`, or not."
  @spec state(grant(), integer()) :: :held | {:until, integer()} | :none
  # Numbers sort before all holders.
  def state({relay, user, room}, now), do: state({relay, user, room, 0}, now, :none)

  defp state({relay, user, room, _} = row, now, found) do
    case :ets.next(Admission, row) do
      {^relay, ^user, ^room, holder} = next ->
        case until(next, holder, now) do
          :infinity -> :held
          :none -> state(next, now, found)
          until -> state(next, now, later(found, until))
        end

      _ ->
        found
    end
  end

  defp until(row, holder, now) do
    with [{_row, until}] <- :ets.lookup(Admission, row),
         true <- live?(holder) and until > now do
      # Numbers sort before :infinity too.
      until
    else
      [] -> :none
      false -> :ets.delete(Admission, row) && :none
    end
  end

  defp live?({:app, pid, _user_id, _room}), do: Process.alive?(pid)
  defp live?(_place), do: true

  defp later(:none, until), do: {:until, until}
  defp later({:until, other}, until), do: {:until, max(other, until)}

  @doc "Every grant of a relay that has a holder, each once."
  @spec pairs(relay()) :: [pair()]
  def pairs(relay) do
    Admission
    |> :ets.select([{{{relay, :"$1", :"$2", :_}, :_}, [], [{{:"$1", :"$2"}}]}])
    |> Enum.dedup()
  end

  @doc "What an application has granted by itself, and which process it goes with."
  @spec app_holders(pid()) :: [holder()]
  def app_holders(pid) do
    pattern = {{:app, pid, :_, :_}, :_, :_, :_, :_}
    Holders |> :ets.match_object(pattern) |> Enum.map(&elem(&1, 0)) |> Enum.uniq()
  end

  @doc "Ends what processes left that were killed in the middle of something."
  @spec sweep() :: :ok
  def sweep do
    for {holder, key, _relay, _user, _room} <- :ets.tab2list(Holders),
        not if(key, do: Places.held?(key, holder), else: live?(holder)),
        do: release(holder)

    # Their relay's owner does so in time, if there is one.
    now = now()
    lapsed = [{{:"$1", :"$2"}, [{:is_integer, :"$2"}, {:<, :"$2", now}], [:"$1"]}]

    for {relay, user, room, _holder} = row <- :ets.select(Admission, lapsed) do
      :ets.delete(Admission, row)
      tell(relay, user, room)
    end

    :ok
  end

  @doc "The clock of lingering grants, in ms."
  @spec now() :: integer()
  def now, do: System.monotonic_time(:millisecond)
end
