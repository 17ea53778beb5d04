defmodule Cromulent.Turn.Commands do
  @moduledoc false
  # The commands that a relay has not answered yet, as its owner holds them: each by the reference that its answer will
  # have, with who waits for it and until when.

  alias Cromulent.Turn.{Frame, Program}

  # The relay takes references below 2^60. The upper half is for those of others than the owner, whose commands are to be
  # known by the time when they were sent, in µs.
  @others Bitwise.bsl(1, 59)

  defstruct next: 0, open: %{}

  @typedoc "`about` is the owner's."
  @type call :: %{
          required(:from) => GenServer.from() | nil,
          required(:timer) => reference(),
          required(:about) => term()
        }
  @type t :: %__MODULE__{next: Frame.ref(), open: %{Frame.ref() => call()}}

  @doc """
  Sends a command whose answer interests nobody. References are never those of an earlier relay: a timer of then
  may still be on its way.
  """
  @spec tell(t(), port(), atom(), [term()]) :: {:ok | {:error, :busy | :down}, t()}
  def tell(%{next: ref} = commands, port, name, args) do
    sent = Program.write(port, Frame.encode(List.to_tuple([name, ref | args])))
    {sent, %{commands | next: rem(ref + 1, @others)}}
  end

  @doc "Sends a command for a process that does not own the relay. The owner gets the answer, and `age/1` of its reference."
  @spec write(port(), atom(), [term()]) :: :ok | {:error, :busy | :down}
  def write(port, name, args),
    do: Program.write(port, Frame.encode(List.to_tuple([name, @others + uptime_us() | args])))

  @doc "For how long others than the owner have waited for an answer, in µs; nil for the owner's."
  @spec age(Frame.ref()) :: non_neg_integer() | nil
  def age(ref), do: if(ref >= @others, do: uptime_us() - (ref - @others))

  # 2^59 µs are 18,000 years.
  defp uptime_us do
    started = System.convert_time_unit(:erlang.system_info(:start_time), :native, :microsecond)
    System.monotonic_time(:microsecond) - started
  end

  @doc """
  Sends a command, for whose answer the calling process waits on somebody's behalf: after `ms` without, it is
  sent `{:call_timeout, ref}`.
  """
  @spec ask(t(), port(), atom(), [term()], {GenServer.from() | nil, term()}, pos_integer()) ::
          {:ok | {:error, :busy | :down}, t()}
  def ask(%{next: ref} = commands, port, name, args, {from, about}, ms) do
    with {:ok, commands} <- tell(commands, port, name, args) do
      timer = Process.send_after(self(), {:call_timeout, ref}, ms)
      {:ok, put_in(commands.open[ref], %{from: from, timer: timer, about: about})}
    end
  end

  @doc "What an answer is to: nil where nobody waits for it."
  @spec answered(t(), Frame.ref()) :: {call() | nil, t()}
  def answered(commands, ref) do
    {call, open} = Map.pop(commands.open, ref)
    if call, do: Process.cancel_timer(call.timer)
    {call, %{commands | open: open}}
  end

  @doc "What has not been answered in time. It still can be, for nobody in particular."
  @spec late(t(), Frame.ref()) :: {call() | nil, t()}
  def late(commands, ref) do
    case commands.open do
      %{^ref => call} -> {call, put_in(commands.open[ref], %{call | from: nil})}
      _ -> {nil, commands}
    end
  end

  @doc "Those that wait for an answer."
  @spec open(t()) :: [call()]
  def open(commands), do: Map.values(commands.open)

  @doc "The relay will answer no more."
  @spec close(t()) :: {[call()], t()}
  def close(commands) do
    for {_ref, call} <- commands.open, do: Process.cancel_timer(call.timer)
    {open(commands), %{commands | open: %{}}}
  end
end
