defmodule Cromulent.Turn.Breaker do
  @moduledoc false
  # A circuit breaker, pure: closed while a provider answers, open for a while after failures in a row
  # that were its own, then one trial. Times are milliseconds of one clock that the caller reads.

  @failures 5
  @open_ms 30_000
  # A provider that asks for more patience than this gets this much.
  @most_ms 600_000

  @enforce_keys [:state]
  defstruct state: :closed, failures: 0, until: 0

  @type t :: %__MODULE__{
          state: :closed | :open | :trial,
          failures: non_neg_integer(),
          until: integer()
        }

  @spec new() :: t()
  def new, do: %__MODULE__{state: :closed}

  @doc "Whether a request may go out now, which the caller then tells the end of."
  @spec ask(t(), integer()) :: {:ok, t()} | :open
  def ask(%__MODULE__{state: :closed} = breaker, _now), do: {:ok, breaker}

  def ask(%__MODULE__{state: :open, until: until} = breaker, now) when now >= until,
    do: {:ok, %{breaker | state: :trial}}

  def ask(%__MODULE__{}, _now), do: :open

  @doc "The provider answered, be it with a refusal."
  @spec answered(t()) :: t()
  def answered(%__MODULE__{}), do: new()

  @doc """
  It failed. With `retry_after`, milliseconds, it said itself for how long to leave it alone: that
  opens the breaker at once.
  """
  @spec failed(t(), integer(), non_neg_integer() | nil) :: t()
  def failed(breaker, now, retry_after \\ nil)

  # An answer to what was sent before it opened may only lengthen the pause.
  def failed(%__MODULE__{state: :open} = breaker, now, retry_after),
    do: %{breaker | until: max(breaker.until, now + min(retry_after || 0, @most_ms))}

  def failed(%__MODULE__{} = breaker, now, retry_after) do
    failures = breaker.failures + 1

    if retry_after != nil or breaker.state == :trial or failures >= @failures do
      pause = min(retry_after || @open_ms, @most_ms)
      %{breaker | state: :open, failures: failures, until: now + pause}
    else
      %{breaker | failures: failures}
    end
  end

  @doc "Whether there is nothing to remember: as if new, or open for so long ago that nobody asks."
  @spec idle?(t(), integer()) :: boolean()
  def idle?(%__MODULE__{state: :closed, failures: 0}, _now), do: true

  def idle?(%__MODULE__{state: :open, until: until}, now), do: now - until > @most_ms
  def idle?(%__MODULE__{}, _now), do: false
end
