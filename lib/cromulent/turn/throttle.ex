defmodule Cromulent.Turn.Throttle do
  @moduledoc false
  # One line per cause and minute. No process and no table: an array of atomics, found by the hash
  # of the cause, holds when each was last let through. Two causes that share a slot may silence
  # each other for a minute, which a log can bear.

  @slots 256
  @seconds 60

  @doc "Whether this cause may be told now: true once a minute."
  @spec allow?(term(), integer()) :: boolean()
  def allow?(cause, now \\ System.system_time(:second)) do
    slots = slots()
    slot = :erlang.phash2(cause, @slots) + 1
    last = :atomics.get(slots, slot)
    now - last >= @seconds and :atomics.compare_exchange(slots, slot, last, now) == :ok
  end

  @doc "Forgets every cause."
  @spec reset() :: :ok
  def reset, do: Enum.each(1..@slots, &:atomics.put(slots(), &1, 0))

  @doc "Makes the array; the application does so when it starts."
  @spec init() :: :ok
  def init do
    if :persistent_term.get(__MODULE__, nil) == nil,
      do: :persistent_term.put(__MODULE__, :atomics.new(@slots, signed: true))

    :ok
  end

  defp slots do
    init()
    :persistent_term.get(__MODULE__)
  end
end
