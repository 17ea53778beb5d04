defmodule Cromulent.Turn.Greeting do
  @moduledoc false
  # What a relay says first: that it is ready, or why it is not. And why it did not say even that.

  alias Cromulent.Turn.{Frame, Program}

  @doc """
  Waits for the greeting, or for `{:start_timeout, timer}`, which was to come after `ms`. The one place that waits:
  whoever starts a relay wants to know whether it runs.
  """
  @spec await(port(), reference(), pos_integer()) :: {:ok, map()} | {:error, Frame.failure()}
  def await(port, timer, ms) do
    receive do
      {^port, {:data, bytes}} -> read(Frame.decode(bytes))
      {^port, {:exit_status, status}} -> {:error, early_exit(status)}
      {:EXIT, ^port, reason} -> {:error, cut_off(reason)}
      {:start_timeout, ^timer} -> {:error, missing(ms)}
    end
  end

  defp read({:ok, {:ready, info}}), do: {:ok, info}
  defp read({:ok, {:failed, reason}}), do: {:error, reason}
  defp read({:ok, _early}), do: {:error, {:protocol, "the relay spoke before it was ready"}}
  defp read({:error, text}), do: {:error, {:protocol, "the relay sent " <> text}}

  @spec early_exit(non_neg_integer()) :: Frame.failure()
  def early_exit(status),
    do: {:system, "the relay ended before it was ready: #{Program.describe_exit(status)}"}

  # A write to a relay that has just ended closes the port, and no exit status is told.
  @spec cut_off(atom()) :: Frame.failure()
  def cut_off(reason), do: {:system, "the control channel broke: #{reason}"}

  @spec missing(pos_integer()) :: Frame.failure()
  def missing(ms), do: {:system, "the relay did not get ready within #{ms} ms"}
end
