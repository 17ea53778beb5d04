defmodule Cromulent.Turn.Announced do
  @moduledoc false
  # The usernames that clients may hide in a USERHASH (RFC 8489 §14.4), as the process of a relay holds
  # them: those that the next relay must be told, and those that this one still is to be told. Of both
  # the newest, as many as a relay has room for. The first are in a table, which may be of somebody who
  # outlives the process.

  @typep line :: {non_neg_integer(), :queue.queue(String.t())}
  @opaque t :: %{known: :ets.tab(), untold: line()}

  # A frame to the relay has at most 1 MiB, a username 508 bytes.
  @per_frame 1000

  @doc "A table for `new/1`; it ends with the process that calls this."
  @spec table() :: :ets.tab()
  def table, do: :ets.new(__MODULE__, [:ordered_set, :public])

  @spec new(:ets.tab()) :: t()
  def new(table \\ table()), do: %{known: table, untold: {0, :queue.new()}}

  @doc "Remembers usernames; `most` is how many a relay has room for."
  @spec remember(t(), [String.t()], non_neg_integer()) :: t()
  def remember(%{known: table} = announced, usernames, most) do
    # Numbers go up, over all processes that ever write here.
    rows = for name <- usernames, do: {:erlang.unique_integer([:monotonic]), name}
    :ets.insert(table, rows)
    trim(table, :ets.info(table, :size) - most)
    announced
  end

  @doc "Remembers usernames that the relay is still to be told."
  @spec owe(t(), [String.t()], non_neg_integer()) :: t()
  def owe(announced, usernames, most) do
    announced
    |> remember(usernames, most)
    |> Map.update!(:untold, &push(&1, usernames, most))
  end

  @doc "For a relay that knows nobody yet: all but those whose time, in Unix seconds, is over."
  @spec owe_all(t(), integer()) :: t()
  def owe_all(%{known: table} = announced, now) do
    live = for {_number, name} <- :ets.tab2list(table), expiry(name) > now, do: name
    %{announced | untold: {length(live), :queue.from_list(live)}}
  end

  @doc "What to tell next, at most what one frame holds, and the state once that is told."
  @spec next(t()) :: {[String.t()], t()}
  def next(%{untold: {count, queue}} = announced) do
    taken = min(count, @per_frame)
    {first, rest} = :queue.split(taken, queue)
    {:queue.to_list(first), %{announced | untold: {count - taken, rest}}}
  end

  @doc "Usernames in portions that fit into one frame each."
  @spec portions([String.t()]) :: [[String.t()]]
  def portions(usernames), do: Enum.chunk_every(usernames, @per_frame)

  defp trim(table, surplus) when surplus > 0 do
    :ets.delete(table, :ets.first(table))
    trim(table, surplus - 1)
  end

  defp trim(_table, _surplus), do: :ok

  defp push({count, queue}, usernames, most) do
    queue = Enum.reduce(usernames, queue, &:queue.in/2)
    forget(count + length(usernames), queue, most)
  end

  defp forget(count, queue, most) when count <= most, do: {count, queue}
  defp forget(count, queue, most), do: forget(count - 1, :queue.drop(queue), most)

  defp expiry(username) do
    case Integer.parse(username) do
      {seconds, _} -> seconds
      :error -> 0
    end
  end
end
