defmodule Cromulent.Turn.Bounded do
  @moduledoc false
  # Runs a function in a process of its own, for so long and no longer. Of two processes, one runs
  # nothing but the function, and the other, which cannot hang, sees to it that the first ends: when
  # its time is over, or when the caller is gone.

  @doc """
  What the function returns. `{:error, :timeout}` when it has not within `ms` milliseconds, and
  `{:error, :crashed}` when it raised or was killed; nothing of that is logged, since what it carries
  may be secret. The function's process is dead when this returns.
  """
  @spec run((() -> result), pos_integer()) :: result | {:error, :timeout | :crashed}
        when result: term()
  def run(fun, ms) do
    caller = self()
    ref = make_ref()
    {_keeper, monitor} = spawn_monitor(fn -> keep(caller, ref, fun, ms) end)

    receive do
      {^ref, result} ->
        Process.demonitor(monitor, [:flush])
        result

      {:DOWN, ^monitor, :process, _keeper, _reason} ->
        {:error, :crashed}
    end
  end

  defp keep(caller, ref, fun, ms) do
    Process.flag(:trap_exit, true)
    monitor = Process.monitor(caller)
    keeper = self()
    worker = spawn_link(fn -> send(keeper, {ref, guarded(fun)}) end)

    receive do
      {^ref, result} -> send(caller, {ref, ended(worker, result)})
      {:EXIT, ^worker, _reason} -> send(caller, {ref, {:error, :crashed}})
      {:DOWN, ^monitor, :process, ^caller, _reason} -> kill(worker)
    after
      ms -> send(caller, {ref, ended(kill(worker), {:error, :timeout})})
    end
  end

  defp guarded(fun) do
    fun.()
  rescue
    _ -> {:error, :crashed}
  catch
    _, _ -> {:error, :crashed}
  end

  defp kill(worker) do
    Process.exit(worker, :kill)
    worker
  end

  defp ended(worker, result) do
    receive do
      {:EXIT, ^worker, _reason} -> result
    end
  end
end
