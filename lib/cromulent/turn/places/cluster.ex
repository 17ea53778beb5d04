defmodule Cromulent.Turn.Places.Cluster do
  @moduledoc false
  # One place for a user on all connected nodes.
  #
  # Each node keeps the places of its own processes. A join takes the cluster's lock of its user in its
  # topic (:global's, one per place, so that joins of others never wait), asks the other nodes
  # whom they have, and claims a place of its own node. A process of its own does so, with a
  # deadline: a node that hangs is left out, as if the network had split, and so it stays until it
  # answers again.

  alias Cromulent.Turn.{Places, Telemetry}
  alias Cromulent.Turn.Places.{Cluster, Server}

  require Places

  # ms that members/1 waits for other nodes, and that settling does.
  @members_within 1_000
  @settle_within 5_000
  # ms after a join without all nodes until places are compared.
  @settle_soon 1_000
  # ms of the longest pause before a lock that another join holds is tried again.
  @pause_most 16

  @typedoc "A place and those that were given up for it; or none."
  @type answer :: {:ok, Places.place(), [Places.place()]} | {:full, :place | :presence}

  @doc "The other nodes, but for those that were found to hang."
  @spec nodes() :: [node()]
  def nodes, do: for(node <- Node.list(), not :ets.member(Cluster, node), do: node)

  @doc "Counts nodes in again."
  @spec forgive([node()]) :: :ok
  def forgive(nodes), do: Enum.each(nodes, &:ets.delete(Cluster, &1))

  @doc """
  Gets a place that no connected node has given away. `local` does it for this node alone, given the
  holders elsewhere; it is called again, without them, should the others not answer in time.
  """
  @spec claim(Places.place(), pos_integer(), ([Places.place()] -> answer())) :: answer()
  def claim(place, timeout, local) do
    deadline = now() + timeout

    with :late <- attempt(place, deadline - div(timeout, 2), local),
         :late <- attempt_without_silent(place, deadline, local) do
      degraded(place, nodes())
      local.([])
    end
  end

  @doc "What other nodes call: the living holders of a user's places here."
  @spec holders(String.t(), Places.id()) :: [Places.place()]
  defdelegate holders(topic, id), to: Places

  @doc "Takes a place from a holder on another node, for one of ours; under the lock."
  @spec take(Places.place()) :: boolean()
  def take(place) do
    {answers, _silent} = ask([home(place)], Cluster, :give_up, [place], @members_within)
    answers == [true]
  end

  @doc "What other nodes call: gives a place up to one of theirs."
  @spec give_up(Places.place()) :: boolean()
  def give_up(place) do
    removed? = Places.remove(place)
    if removed?, do: Server.forget(place)
    removed?
  end

  @doc "Users of a topic on the other nodes, as far as they answer in time."
  @spec members(String.t()) :: [{user_id :: term(), pid()}]
  def members(topic) do
    {answers, _silent} = ask_aside(nodes(), Places, :members, [topic], @members_within)
    Enum.concat(answers)
  end

  # ---- after a netsplit ----

  @doc """
  Finds the places of this node that it must give up because older ones of other nodes fill the
  room, and the nodes that did not answer. Who else loses is told to look, too.
  """
  @spec settle() :: {:settled, [Places.place()], silent :: [node()]}
  def settle do
    # Our own first: then a place of ours that is there still when the others have answered was
    # there together with theirs.
    own = Enum.filter(Places.all(), &Process.alive?(Places.place(&1, :pid)))
    {answers, silent} = ask(Node.list(), Places, :all, [], @settle_within)
    forgive(Node.list() -- silent)
    losers = own |> double(Enum.concat(answers)) |> Enum.flat_map(&losers/1)
    {here, there} = Enum.split_with(losers, &(home(&1) == node()))
    for node <- there |> Enum.map(&home/1) |> Enum.uniq(), do: Server.settle(node)
    {:settled, here, silent}
  end

  @doc """
  Who of those in one topic under one user must go: as if they had joined one after the other, the
  oldest first. The same on whatever node it is asked.
  """
  @spec losers([Places.place()]) :: [Places.place()]
  def losers(places) do
    {_stay, go} =
      places
      |> Enum.sort_by(&{Places.place(&1, :joined_at), home(&1), Places.place(&1, :key)})
      |> Enum.reduce({0, []}, fn place, {stay, go} ->
        if stay < Places.place(place, :limit), do: {stay + 1, go}, else: {stay, [place | go]}
      end)

    go
  end

  # The groups in which there are places of ours and of others.
  defp double(own, theirs) do
    theirs = Enum.group_by(theirs, &holding/1)

    for {holding, places} <- Enum.group_by(own, &holding/1), is_map_key(theirs, holding) do
      places ++ theirs[holding]
    end
  end

  defp holding(Places.place(key: {topic, id, _slot})), do: {topic, id}
  defp home(Places.place(pid: pid)), do: node(pid)

  # ---- attempts ----

  # The lock is held by a process of its own, which can be given up at any time: the place is claimed by
  # the caller.
  defp attempt(place, deadline, local) do
    {caller, nodes} = {self(), nodes()}
    keeper = aside(fn tell -> under_lock(place, nodes, deadline, caller, tell) end)

    try do
      with {:ok, answer} when answer != :late <- await(keeper, deadline - now()),
           do: local.(answer),
           else: (_ -> :late)
    after
      dismiss(keeper)
    end
  end

  # Somebody hangs: who? The others may still agree.
  defp attempt_without_silent(place, deadline, local) do
    nodes = nodes()
    {_answers, silent} = ask_aside(nodes, :erlang, :node, [], div(deadline - now(), 2))
    if silent != [], do: leave_out(silent, place)
    if nodes -- silent == [], do: local.([]), else: attempt(place, deadline, local)
  end

  # The locks go when this process does.
  defp under_lock(Places.place(key: {topic, id, _}), nodes, deadline, caller, tell) do
    monitor = Process.monitor(caller)
    lock({{Cromulent.Turn.Join, topic, id}, self()}, Enum.sort([node() | nodes], :desc), 1)
    {answers, silent} = ask(nodes, Cluster, :holders, [topic, id], deadline - now())
    tell.(if silent == [], do: Enum.concat(answers), else: :late)
    receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
  end

  # The same node first for everybody: of two that come together one gets all the locks. :global's own
  # repetition pauses for 125 ms at the least and 8 s at the most.
  defp lock(id, [first | rest] = nodes, pause) do
    cond do
      not :global.set_lock(id, [first], 0) -> lock_later(id, nodes, pause)
      :global.set_lock(id, rest, 0) -> :ok
      :global.del_lock(id, [first]) -> lock_later(id, nodes, pause)
    end
  end

  defp lock_later(id, nodes, pause) do
    Process.sleep(:rand.uniform(pause))
    lock(id, nodes, min(2 * pause, @pause_most))
  end

  defp leave_out(silent, place) do
    for node <- silent, do: :ets.insert(Cluster, {node})
    degraded(place, silent)
  end

  defp degraded(Places.place(key: {topic, _, _}, user_id: user_id), nodes) do
    Server.settle(node(), @settle_soon)
    metadata = %{topic: topic, user_id: user_id, nodes: nodes}
    Telemetry.execute([:place, :degraded], %{count: 1}, metadata)

    Telemetry.once(:warning, {:place_degraded, nodes}, fn ->
      "TURN: #{Enum.map_join(nodes, ", ", &to_string/1)} did not answer in time: until then, users " <>
        "may join a channel there and here at once"
    end)
  end

  # What the nodes answer, and those that do not. One without this library has nobody to tell of.
  defp ask([], _module, _function, _args, _ms), do: {[], []}

  defp ask(nodes, module, function, args, ms) do
    answers = :erpc.multicall(nodes, module, function, args, max(ms, 0))

    {for({:ok, answer} <- answers, do: answer),
     for({node, {:error, {:erpc, :timeout}}} <- Enum.zip(nodes, answers), do: node)}
  end

  # In a process of its own, since even sending to a node that hangs can block.
  defp ask_aside([], _module, _function, _args, _ms), do: {[], []}

  defp ask_aside(nodes, module, function, args, ms) do
    asking = aside(fn tell -> tell.(ask(nodes, module, function, args, ms)) end)
    # It is to be in time itself.
    answer = await(asking, ms + div(ms, 2))
    dismiss(asking)
    with {:ok, found} <- answer, do: found, else: (:late -> {[], nodes})
  end

  # ---- processes aside ----

  defp aside(fun) do
    {caller, tag} = {self(), make_ref()}
    {pid, monitor} = spawn_monitor(fn -> fun.(&send(caller, {tag, &1})) end)
    {pid, monitor, tag}
  end

  defp await({_pid, monitor, tag}, ms) do
    receive do
      {^tag, answer} -> {:ok, answer}
      {:DOWN, ^monitor, _, _, _reason} -> :late
    after
      max(ms, 0) -> :late
    end
  end

  # Once it has ended nothing more can come from it.
  defp dismiss({pid, monitor, tag}) do
    Process.demonitor(monitor, [:flush])
    Process.exit(pid, :kill)
    ended = Process.monitor(pid)
    receive do: ({:DOWN, ^ended, _, _, _} -> :ok)
    receive do: ({^tag, _late} -> :ok), after: (0 -> :ok)
  end

  defp now, do: System.monotonic_time(:millisecond)
end
