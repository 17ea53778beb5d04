defmodule Cromulent.Turn.Throttle do
  @moduledoc false
  # One line per cause and minute. No process and no table: an array of atomics holds when each of
  # the last causes was let through. A word of it is the cause's hash (32 bits) and a time in Unix seconds
  # (32 bits, until 2106); a cause is looked for in the few words behind the one that its hash names.
  # Where all of these are younger than a minute the oldest makes room: a line more, not one less.

  import Bitwise

  @slots 1024
  @probes 8
  @seconds 60
  @hashes 1 <<< 32

  @doc "Whether this cause may be told now: true once a minute."
  @spec allow?(term(), non_neg_integer()) :: boolean()
  def allow?(cause, now \\ System.system_time(:second)) do
    slots = slots()
    hash = :erlang.phash2(cause, @hashes)
    words = for slot <- probes(hash), do: {slot, :atomics.get(slots, slot)}

    case Enum.find(words, fn {_slot, word} -> word >>> 32 == hash and word != 0 end) do
      {slot, word} -> now - seconds(word) >= @seconds and take(slots, slot, word, hash, now)
      nil -> enter(slots, Enum.min_by(words, &seconds(elem(&1, 1))), cause, hash, now)
    end
  end

  @doc "Forgets every cause."
  @spec reset() :: :ok
  def reset, do: Enum.each(1..@slots, &:atomics.put(slots(), &1, 0))

  @doc "Makes the array; the application does so when it starts."
  @spec init() :: :ok
  def init do
    if :persistent_term.get(__MODULE__, nil) == nil,
      do: :persistent_term.put(__MODULE__, :atomics.new(@slots, signed: false))

    :ok
  end

  # Somebody else took the word: perhaps for this cause.
  defp enter(slots, {slot, word}, cause, hash, now),
    do: take(slots, slot, word, hash, now) or allow?(cause, now)

  defp take(slots, slot, word, hash, now),
    do: :atomics.compare_exchange(slots, slot, word, hash <<< 32 ||| now) == :ok

  defp probes(hash), do: for(i <- 0..(@probes - 1), do: rem(hash + i, @slots) + 1)
  defp seconds(word), do: word &&& @hashes - 1

  defp slots do
    init()
    :persistent_term.get(__MODULE__)
  end
end
