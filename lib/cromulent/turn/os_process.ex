defmodule Cromulent.Turn.OsProcess do
  @moduledoc false
  # Processes of the operating system, by number: the relay is one, and must never outlive its owner.

  @poll_ms 5

  @doc "Whether the process runs; one that ended and was not yet collected does not."
  @spec alive?(pos_integer()) :: boolean()
  def alive?(pid) do
    if File.dir?("/proc/self"), do: runs?(state(pid), pid), else: signal(pid, 0)
  end

  # The main thread of a process may have ended while others still hold its sockets.
  defp runs?(nil, _pid), do: false

  defp runs?(state, pid) when state in ["Z", "X"],
    do: match?({:ok, [_, _ | _]}, File.ls("/proc/#{pid}/task"))

  defp runs?(_state, _pid), do: true

  @doc "Waits until the process is gone."
  @spec await_exit(pos_integer(), timeout_ms :: non_neg_integer()) :: :ok | :timeout
  def await_exit(pid, timeout_ms), do: await_until(pid, now() + timeout_ms)

  @doc "Waits that long for the process to end by itself, then makes it."
  @spec reap(pos_integer(), grace_ms :: non_neg_integer()) :: :ok | :timeout
  def reap(pid, grace_ms) do
    with :timeout <- await_exit(pid, grace_ms) do
      kill(pid)
      await_exit(pid, 1000)
    end
  end

  @doc "SIGKILL."
  @spec kill(pos_integer()) :: boolean()
  def kill(pid), do: signal(pid, 9)

  defp await_until(pid, deadline) do
    cond do
      not alive?(pid) ->
        :ok

      now() >= deadline ->
        :timeout

      true ->
        Process.sleep(@poll_ms)
        await_until(pid, deadline)
    end
  end

  # The state is the letter after the name, and the name may hold anything: `42 (a) b) S 1 ...`.
  defp state(pid) do
    with {:ok, stat} <- File.read("/proc/#{pid}/stat"),
         [_, state] <- Regex.run(~r/.*\) (\w)/s, stat) do
      state
    else
      _ -> nil
    end
  end

  # The shell's own kill: a minimal system may have no other.
  defp signal(pid, number) when is_integer(pid) and pid > 1 do
    :os.cmd(~c"kill -#{number} #{pid} 2>/dev/null && echo ok") == ~c"ok\n"
  end

  defp now, do: System.monotonic_time(:millisecond)
end
