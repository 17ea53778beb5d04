defmodule Cromulent.Turn.Places.Eviction do
  @moduledoc false
  # Tells a process that its place is another's now, and ends it when it does not end itself.

  alias Cromulent.Turn.{Places, Telemetry}
  alias Cromulent.Turn.Places.Supervisor

  require Places

  # ms until a process that did not obey is killed: as long as Phoenix waits for a channel to close.
  @kill_after 5_000
  @healed_grace 500

  @doc "Ends the holder of a place, wherever it runs, which has been removed from the table."
  @spec start(Places.place(), non_neg_integer(), :takeover | :healed) :: :ok
  def start(Places.place(key: {topic, _, _}, pid: pid, user_id: user_id) = place, grace, reason) do
    metadata = %{topic: topic, user_id: user_id, pid: pid, reason: reason}
    Telemetry.execute([:place, :taken_over], %{count: 1}, metadata)
    send(pid, {:cromulent_turn, :taken_over, topic})
    stop(pid, Places.place(place, :transport), grace)
  end

  @doc "Ends the holder of a place that lost it when a netsplit healed."
  @spec healed(Places.place()) :: :ok
  def healed(place) do
    if Places.remove(place) do
      Places.Server.forget(place)
      start(place, @healed_grace, :healed)
    end

    :ok
  end

  @doc """
  Ends a process after `grace` ms, and kills it 5 s later. Phoenix takes a channel that was ended from
  outside for a crash and tells its client so, which then joins again and takes the place back; told
  first that the channel closes (see "Custom channels" in `Phoenix.Socket`), it lets the client rest.
  """
  @spec stop(pid(), transport :: pid() | nil, non_neg_integer()) :: :ok
  def stop(pid, transport, grace) do
    Supervisor.spawn_task(fn ->
      monitor = Process.monitor(pid)
      unless ended?(monitor, grace), do: shut_down(pid, transport, monitor)
    end)
  end

  defp shut_down(pid, transport, monitor) do
    reason = {:shutdown, :taken_over}
    if transport, do: send(transport, {:socket_close, pid, reason})
    Process.exit(pid, reason)
    unless ended?(monitor, @kill_after), do: Process.exit(pid, :kill)
  end

  defp ended?(monitor, ms) do
    receive do
      {:DOWN, ^monitor, _, _, _} -> true
    after
      ms -> false
    end
  end
end
