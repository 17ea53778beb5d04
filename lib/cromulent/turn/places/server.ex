defmodule Cromulent.Turn.Places.Server do
  @moduledoc false
  # Watches the holders of this node's places and frees exactly theirs when they end; and the other
  # nodes, to settle what two sides of a netsplit gave away twice.
  #
  # Who takes a place does so in several steps, and may be killed between two of them. A sweep now and then
  # finds what was left: records of the dead that nobody watched, which hold nothing; and holders whose place is
  # another's, but whom nobody told.

  use GenServer

  alias Cromulent.Turn.{Admission, Places, Renewer}
  alias Cromulent.Turn.Places.{Cluster, Eviction, Server, Supervisor}

  require Places

  # ms between two attempts to settle with nodes that do not answer.
  @settle_again 5_000
  # ms between two sweeps of the table.
  @sweep 30_000
  # ms that a holder has who lost its place without being told.
  @lost_grace 500

  # holders: %{pid => {monitor, %{ref => place}}}; settling: the task that is at it, or nil;
  # again?: whether something happened since it started; timer: the next attempt, or nil;
  # lost: refs that were watched but not in the table at the last sweep.
  defstruct holders: %{}, settling: nil, again?: false, timer: nil, lost: []

  @spec start_link([]) :: GenServer.on_start()
  def start_link([]), do: GenServer.start_link(__MODULE__, [], name: Server)

  @doc "Frees this place when its holder ends."
  @spec watch(Places.place()) :: :ok
  def watch(place), do: GenServer.cast(Server, {:watch, place})

  @doc "Forgets a place that is in the table no more."
  @spec forget(Places.place()) :: :ok
  def forget(place), do: GenServer.cast(Server, {:forget, place})

  @doc "Looks for what killed processes left undone; done every half minute anyhow."
  @spec sweep() :: :ok
  def sweep, do: GenServer.cast(Server, :sweep)

  @doc "Compares this node's places with the others', after `ms`."
  @spec settle(node(), non_neg_integer()) :: :ok
  def settle(node \\ node(), ms \\ 0), do: GenServer.cast({Server, node}, {:settle, ms})

  @impl true
  def init([]) do
    :ok = :net_kernel.monitor_nodes(true)
    Process.send_after(self(), :sweep, @sweep)
    # A server that crashed was not there to see who ended, or who came back.
    state = Enum.reduce(Places.all(), %Server{}, &put/2)
    {:ok, if(Node.list() == [], do: state, else: settle_in(state, 0))}
  end

  @impl true
  def handle_cast({:watch, place}, state) do
    # It may have changed hands before its first holder's message came.
    {:noreply, if(Places.held?(place), do: put(place, state), else: state)}
  end

  def handle_cast({:forget, place}, state) do
    Renewer.forget(Places.place(place, :ref))
    {:noreply, drop(place, state)}
  end

  def handle_cast({:settle, ms}, state), do: {:noreply, settle_in(state, ms)}

  def handle_cast(:sweep, state), do: {:noreply, swept(state)}

  @impl true
  def handle_info(
        {:DOWN, monitor, :process, _pid, _reason},
        %{settling: %{ref: monitor}} = state
      ),
      do: {:noreply, settled(state, [node()])}

  def handle_info({:DOWN, monitor, :process, pid, _reason}, state) do
    case state.holders do
      %{^pid => {^monitor, places}} ->
        for {_ref, place} <- places, do: ended(place)
        {:noreply, %{state | holders: Map.delete(state.holders, pid)}}

      _ ->
        {:noreply, state}
    end
  end

  def handle_info({ref, {:settled, losers, silent}}, %{settling: %{ref: ref}} = state) do
    Process.demonitor(ref, [:flush])
    Enum.each(losers, &Eviction.healed/1)
    {:noreply, settled(state, silent)}
  end

  def handle_info({:nodeup, _node}, state), do: {:noreply, settle_in(state, 0)}

  def handle_info({:nodedown, node}, state) do
    Cluster.forgive([node])
    {:noreply, state}
  end

  def handle_info(:settle, state), do: {:noreply, start_settling(%{state | timer: nil})}

  def handle_info(:sweep, state) do
    Process.send_after(self(), :sweep, @sweep)
    {:noreply, swept(state)}
  end

  # Late answers of the task; nothing else is sent here.
  def handle_info(_message, state), do: {:noreply, state}

  defp swept(state) do
    free_unwatched(state)
    Admission.sweep()
    Renewer.sweep()
    {told, lost} = state |> lost() |> Enum.split_with(&(Places.place(&1, :ref) in state.lost))
    Enum.each(told, &Eviction.start(&1, @lost_grace, :takeover))
    state = Enum.reduce(told, state, &drop/2)
    %{state | lost: Enum.map(lost, &Places.place(&1, :ref))}
  end

  # Who gives a place back is in here too, for as long as the word of it is on its way: that is why it
  # takes two sweeps.
  defp lost(%{holders: holders}) do
    for {_pid, {_monitor, places}} <- holders,
        {_ref, place} <- places,
        not Places.held?(place),
        do: place
  end

  # Those that are watched are told of.
  defp free_unwatched(%{holders: holders}) do
    for Places.place(pid: pid) = place <- Places.all(),
        not is_map_key(holders, pid) and not Process.alive?(pid),
        do: ended(place)
  end

  defp ended(place) do
    if Places.remove(place), do: Places.freed(place, :ended)
    Renewer.forget(Places.place(place, :ref))
  end

  defp put(Places.place(pid: pid, ref: ref) = place, %Server{holders: holders} = state) do
    {monitor, places} =
      case holders do
        %{^pid => watched} -> watched
        _ -> {Process.monitor(pid), %{}}
      end

    %{state | holders: Map.put(holders, pid, {monitor, Map.put(places, ref, place)})}
  end

  defp drop(Places.place(pid: pid, ref: ref), %Server{holders: holders} = state) do
    case holders do
      %{^pid => {monitor, places}} when is_map_key(places, ref) and map_size(places) == 1 ->
        Process.demonitor(monitor, [:flush])
        %{state | holders: Map.delete(holders, pid)}

      %{^pid => {monitor, places}} ->
        %{state | holders: Map.put(holders, pid, {monitor, Map.delete(places, ref)})}

      _ ->
        state
    end
  end

  defp settle_in(%{settling: nil, timer: nil} = state, ms),
    do: %{state | timer: Process.send_after(self(), :settle, ms)}

  defp settle_in(%{settling: nil, timer: timer} = state, ms) do
    if Process.read_timer(timer) <= ms do
      state
    else
      Process.cancel_timer(timer)
      %{state | timer: Process.send_after(self(), :settle, ms)}
    end
  end

  defp settle_in(state, _ms), do: %{state | again?: true}

  defp start_settling(%{settling: nil} = state),
    do: %{state | settling: Supervisor.async(&Cluster.settle/0), again?: false}

  defp start_settling(state), do: %{state | again?: true}

  defp settled(%{again?: again?} = state, silent) do
    state = %{state | settling: nil, again?: false}

    cond do
      again? -> settle_in(state, 0)
      silent != [] -> settle_in(state, @settle_again)
      true -> state
    end
  end
end
