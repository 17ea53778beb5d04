defmodule Cromulent.Turn.Places do
  @moduledoc false
  # The places of this node: who is in which topic. No process: joins work on the table themselves.
  #
  # A place's key is {topic, id of the user, slot}; slots count from 0 to what the join allows less
  # one, so that insert_new alone decides who gets the last one. A holder that has ended holds
  # nothing: whoever finds its record takes the place over, long before any monitor has told.

  require Record

  alias Cromulent.Turn.{Admission, Telemetry}
  alias Cromulent.Turn.Places.Server

  # ref tells two holds of one key apart; joined_at is the system time in ns; limit is how many the
  # join allowed; transport is the process to be told when a Phoenix channel is ended, or nil; grant is what
  # its holder may do at the relay, or nil.
  Record.defrecord(:place, [
    :key,
    :ref,
    :pid,
    :user_id,
    :joined_at,
    :transport,
    :grant,
    limit: 1
  ])

  @type id :: integer() | binary() | {:term, binary()}
  @type key :: {topic :: String.t(), id(), slot :: non_neg_integer()}
  @type place ::
          record(:place,
            key: key(),
            ref: reference(),
            pid: pid(),
            user_id: term(),
            joined_at: integer(),
            transport: pid() | nil,
            grant: Admission.grant() | nil,
            limit: pos_integer()
          )

  @doc """
  What stands for a user in keys. Those are matched and compared with ==: no atom may be in there,
  since `:_` is one, and no float, since 1 == 1.0.
  """
  @spec id(term()) :: id()
  def id(user_id) when is_binary(user_id) or is_integer(user_id), do: user_id
  def id(user_id), do: {:term, :erlang.term_to_binary(user_id, [:deterministic])}

  @doc "A place that the calling process may claim."
  @spec new(String.t(), term(), pos_integer(), pid() | nil, Admission.grant() | nil) :: place()
  def new(topic, user_id, limit, transport \\ nil, grant \\ nil) do
    place(
      key: {topic, id(user_id), 0},
      ref: make_ref(),
      pid: self(),
      user_id: user_id,
      joined_at: System.system_time(:nanosecond),
      transport: transport,
      grant: grant,
      limit: limit
    )
  end

  @doc "Claims a place, when fewer than its limit are taken here and, as the caller knows, elsewhere."
  @spec claim(place(), non_neg_integer()) :: {:ok, place()} | :full
  def claim(place(key: {topic, id, _}, limit: limit) = new, elsewhere \\ 0) do
    if elsewhere + length(holders(topic, id)) >= limit,
      do: :full,
      else: take_slot(new, 0)
  end

  @doc """
  Takes the place from the holders of this user in this topic on this node, and gives them. Where
  there are several, the first passes to the new one and the others are given up.
  """
  @spec take_over(place()) :: {:ok, place(), [place()]}
  def take_over(place(key: {topic, id, _}) = new) do
    case holders(topic, id) do
      [] -> take_over(new, claim(new))
      [first | rest] -> take_over(new, first, rest)
    end
  end

  defp take_over(_new, {:ok, taken}), do: {:ok, taken, []}
  defp take_over(new, :full), do: take_over(new)

  defp take_over(new, first, rest) do
    taken = place(new, key: place(first, :key))

    if swap(first, taken) do
      admit(taken)
      # After that: the user is never without a grant.
      Admission.release(place(first, :ref))
      {:ok, taken, [first | Enum.filter(rest, &remove/1)]}
    else
      take_over(new)
    end
  end

  @doc "The living holders of a user's places in a topic, on this node."
  @spec holders(String.t(), id()) :: [place()]
  def holders(topic, id) do
    for place <- records(topic, id, -1), alive?(place), do: place
  end

  @doc "Whether this very hold is still in force."
  @spec held?(place()) :: boolean()
  def held?(place(key: key, ref: ref)), do: held?(key, ref)

  @spec held?(key(), reference()) :: boolean()
  def held?(key, ref), do: match?([place(ref: ^ref)], :ets.lookup(__MODULE__, key))

  @doc "Removes exactly this hold; false when it was gone already."
  @spec remove(place()) :: boolean()
  def remove(place(key: key, ref: ref)) do
    removed? =
      :ets.select_delete(__MODULE__, [{place(key: key, ref: ref, _: :_), [], [true]}]) == 1

    if removed?, do: Admission.release(ref)
    removed?
  end

  @doc "Users and holders of a topic, on this node."
  @spec members(String.t()) :: [{user_id :: term(), pid()}]
  def members(topic) do
    pattern = place(key: {topic, :_, :_}, pid: :"$2", user_id: :"$1", _: :_)

    for {user_id, pid} <- :ets.select(__MODULE__, [{pattern, [], [{{:"$1", :"$2"}}]}]),
        Process.alive?(pid),
        do: {user_id, pid}
  end

  @doc "Every record of this node."
  @spec all() :: [place()]
  def all, do: :ets.tab2list(__MODULE__)

  @doc "Tells that a place is free, and the server to stop watching its holder."
  @spec freed(place(), :left | :ended | :withdrawn) :: :ok
  def freed(place(key: {topic, _, _}, user_id: user_id, joined_at: since) = place, reason) do
    held_ms = div(max(System.system_time(:nanosecond) - since, 0), 1_000_000)
    metadata = %{topic: topic, user_id: user_id, reason: reason}
    Telemetry.execute([:place, :freed], %{held_ms: held_ms}, metadata)
    Server.forget(place)
  end

  defp take_slot(place(limit: limit), limit), do: :full

  defp take_slot(place(key: {topic, id, _}) = new, slot) do
    new = place(new, key: {topic, id, slot})

    if :ets.insert_new(__MODULE__, new) do
      admit(new)
      {:ok, new}
    else
      replace(new, slot)
    end
  end

  defp replace(place(key: key) = new, slot) do
    with [old] <- :ets.lookup(__MODULE__, key),
         {:alive, false} <- {:alive, alive?(old)},
         true <- swap(old, new) do
      admit(new)
      Admission.release(place(old, :ref))
      freed(old, :ended)
      {:ok, new}
    else
      {:alive, true} -> take_slot(new, slot + 1)
      # It changed hands or was freed since.
      _ -> take_slot(new, slot)
    end
  end

  # Whoever takes the place away releases what he finds: what came too late for that is released here.
  defp admit(place(grant: nil)), do: :ok

  defp admit(place(key: key, ref: ref, grant: grant)) do
    Admission.hold(ref, key, grant)
    if held?(key, ref), do: :ok, else: Admission.release(ref)
  end

  @doc "Gives a place a grant besides the one that it came with."
  @spec admit(place(), Admission.grant() | nil) :: :ok
  def admit(place(ref: ref) = place, grant),
    do: if(Admission.held?(ref, grant), do: :ok, else: admit(place(place, grant: grant)))

  # Compare and swap. The table takes a new object only with a key that it can see to be the same.
  defp swap(place(key: key, ref: ref, pid: pid), new) do
    old = place(key: key, ref: ref, pid: pid, _: :_)

    fields = new |> Tuple.to_list() |> Enum.map(&{:const, &1}) |> List.to_tuple()
    body = put_elem(fields, place(:key), {:element, place(:key) + 1, :"$_"})
    :ets.select_replace(__MODULE__, [{old, [], [{body}]}]) == 1
  end

  defp alive?(place(pid: pid)), do: Process.alive?(pid)

  defp records(topic, id, slot) do
    case :ets.next(__MODULE__, {topic, id, slot}) do
      {^topic, ^id, next} = key -> :ets.lookup(__MODULE__, key) ++ records(topic, id, next)
      _ -> []
    end
  end
end
