defmodule Cromulent.Turn.Renewer do
  @moduledoc false
  # Sends the holder of a place new ICE servers before its credentials expire, and when it has none
  # because the provider failed, as soon as there are some.
  #
  # What is to be renewed is in a table that outlives this process: {ref, place, due, expires_at,
  # fails, seal}, due and expires_at in Unix ms and s, seal a function that gives the options
  # (with secrets in them) and that prints nothing.

  use GenServer

  alias Cromulent.Turn.{Admission, Chain, Places, Reason, Renewer, Telemetry}
  alias Cromulent.Turn.Places.Supervisor

  require Places

  # s before the expiry: a tenth of the lifetime within these, and never more than half of it.
  @margin_least 30
  @margin_most 300
  # ms until the next try, doubled with every failure.
  @retry_least 1_000
  @retry_most 60_000
  # ms that a provider may take. All of ours take less, others may hang.
  @answer_within 60_000

  # timers: %{ref => timer}, to renew or to give up; asking: %{task's ref => {ref, task}}.
  defstruct timers: %{}, asking: %{}

  @spec start_link([]) :: GenServer.on_start()
  def start_link([]), do: GenServer.start_link(__MODULE__, [], name: Renewer)

  @doc """
  Renews what a place was given, while it is held. A list without credentials is renewed only when a
  provider that was to give some has failed, which asking again shows.
  """
  @spec watch(Places.place(), Cromulent.Turn.payload(), keyword()) :: :ok
  def watch(place, payload, opts) do
    cond do
      payload.expires_at -> watch(place, due(payload.expires_at), payload.expires_at, opts)
      relayed?(payload) -> :ok
      Chain.providers(opts) == {:ok, [Cromulent.Turn.Stun]} -> :ok
      true -> watch(place, now_ms() + retry_after(0), nil, opts)
    end
  end

  defp watch(place, due, expires_at, opts) do
    row = {Places.place(place, :ref), place, due, expires_at, 0, fn -> opts end}
    # Written here: a renewer that is being restarted finds it there.
    :ets.insert(Renewer, row)
    GenServer.cast(Renewer, {:watch, row})
  end

  @doc "Forgets a place that is held no more."
  @spec forget(reference()) :: :ok
  def forget(ref), do: GenServer.cast(Renewer, {:forget, ref})

  @doc """
  Forgets all places that are held no more. A process that is ended while it asks for renewals may leave a
  row that nobody looks at.
  """
  @spec sweep() :: :ok
  def sweep, do: GenServer.cast(Renewer, :sweep)

  @doc "When credentials are renewed, in Unix ms: spread a little, so that not all of them are at once."
  @spec due(pos_integer(), integer(), float()) :: integer()
  def due(expires_at, now \\ now_ms(), random \\ :rand.uniform()) do
    lifetime = max(expires_at * 1000 - now, 0)
    margin = (lifetime / 10) |> max(@margin_least * 1000) |> min(@margin_most * 1000)
    margin = min(margin * (1 + random / 5), lifetime / 2)
    now + round(lifetime - margin)
  end

  @impl true
  def init([]) do
    {:ok, Enum.reduce(:ets.tab2list(Renewer), %Renewer{}, &take_up/2)}
  end

  @impl true
  def handle_cast({:watch, row}, state), do: {:noreply, take_up(row, state)}
  def handle_cast({:forget, ref}, state), do: {:noreply, drop(ref, state)}

  def handle_cast(:sweep, state) do
    gone =
      for {ref, place, _, _, _, _} <- :ets.tab2list(Renewer), not Places.held?(place), do: ref

    {:noreply, Enum.reduce(gone, state, &drop/2)}
  end

  @impl true
  def handle_info({:due, ref}, state) do
    case :ets.lookup(Renewer, ref) do
      [{_, place, _, _, _, seal}] ->
        if Places.held?(place),
          do: {:noreply, ask(ref, place, seal, state)},
          else: {:noreply, drop(ref, state)}

      [] ->
        {:noreply, drop(ref, state)}
    end
  end

  def handle_info({:overdue, task}, state) do
    with {_ref, pid} <- state.asking[task], do: Process.exit(pid, :kill)
    {:noreply, state}
  end

  def handle_info({task, result}, state) when is_map_key(state.asking, task) do
    Process.demonitor(task, [:flush])
    answered(task, result, state)
  end

  def handle_info({:DOWN, task, _, _, reason}, state) when is_map_key(state.asking, task),
    do: answered(task, {:error, {:exit, reason}}, state)

  def handle_info(_late, state), do: {:noreply, state}

  # ---- one renewal ----

  defp ask(ref, Places.place(user_id: user_id), seal, state) do
    task = Supervisor.async(fn -> Chain.ask(user_id, seal.()) end)
    timer = Process.send_after(self(), {:overdue, task.ref}, @answer_within)
    asking = Map.put(state.asking, task.ref, {ref, task.pid})
    %{state | asking: asking, timers: Map.put(state.timers, ref, timer)}
  end

  defp answered(task, result, state) do
    {{ref, _pid}, asking} = Map.pop!(state.asking, task)
    state = cancel(ref, %{state | asking: asking})

    case :ets.lookup(Renewer, ref) do
      [row] -> {:noreply, settle(row, judge(result, elem(row, 3)), state)}
      [] -> {:noreply, state}
    end
  end

  # What an answer is worth to somebody whose credentials expire then (nil: who has none).
  defp judge({:ok, %{expires_at: nil} = answer}, expires_at) do
    cond do
      relayed?(answer) -> {:push, answer}
      expires_at == nil -> :done
      # Rather credentials that are about to expire than none.
      true -> {:again, :no_credentials}
    end
  end

  defp judge({:ok, answer}, nil), do: {:push, answer}
  defp judge({:ok, %{expires_at: later} = answer}, then) when later > then, do: {:push, answer}
  # Kept by the provider; the next will be others.
  defp judge({:ok, _same}, _then), do: :wait
  defp judge({:error, reason}, _then), do: {:again, reason}

  # Who has heard of new credentials finds them written down.
  defp settle({ref, place, _, _, _, seal}, {:push, answer}, state) do
    payload = Map.take(answer, [:ice_servers, :expires_at])

    state =
      if payload.expires_at,
        do: put({ref, place, due(payload.expires_at), payload.expires_at, 0, seal}, state),
        else: drop(ref, state)

    if Places.held?(place) do
      # Under new secrets a user may have another name.
      Places.admit(place, Admission.grant(topic(place), Places.place(place, :user_id), seal.()))
      send(Places.place(place, :pid), {:cromulent_turn, :ice_servers, payload})
      tell([:place, :renewed], place, %{expires_at: payload.expires_at})
    end

    state
  end

  defp settle({ref, _, _, _, _, _}, :done, state), do: drop(ref, state)
  defp settle(row, :wait, state), do: try_later(row, state)

  defp settle({_, place, _, _, _, seal} = row, {:again, reason}, state) do
    opts = seal.()
    tell([:place, :renewal_failed], place, %{reason: Reason.clean(reason, opts)})

    Telemetry.once(:warning, {:renewal_failed, Reason.cause(reason)}, fn ->
      "TURN: no new credentials for a user in #{topic(place)}, trying again: " <>
        Reason.describe(reason, opts)
    end)

    try_later(row, state)
  end

  defp try_later({ref, place, _due, expires_at, fails, seal}, state) do
    put({ref, place, now_ms() + retry_after(fails), expires_at, fails + 1, seal}, state)
  end

  # ---- rows and their timers ----

  defp put(row, state) do
    :ets.insert(Renewer, row)
    take_up(row, state)
  end

  # It may have been forgotten before it came.
  defp take_up({ref, place, _, _, _, _} = row, state),
    do: if(Places.held?(place), do: set_timer(row, state), else: drop(ref, state))

  defp set_timer({ref, _place, due, _, _, _}, state) do
    timer = Process.send_after(self(), {:due, ref}, max(due - now_ms(), 0))
    state = cancel(ref, state)
    %{state | timers: Map.put(state.timers, ref, timer)}
  end

  defp drop(ref, state) do
    :ets.delete(Renewer, ref)
    state = cancel(ref, state)
    %{state | timers: Map.delete(state.timers, ref)}
  end

  defp cancel(ref, state) do
    with timer when timer != nil <- state.timers[ref], do: Process.cancel_timer(timer)
    state
  end

  # ---- helpers ----

  # Half of it for sure, the other half at random.
  defp retry_after(fails) do
    ms = min(@retry_least * Integer.pow(2, min(fails, 10)), @retry_most)
    div(ms, 2) + :rand.uniform(div(ms, 2))
  end

  defp relayed?(%{ice_servers: servers}), do: Enum.any?(servers, &is_map_key(&1, :credential))

  defp tell(event, place, more) do
    metadata = Map.merge(more, %{topic: topic(place), user_id: Places.place(place, :user_id)})
    Telemetry.execute(event, %{count: 1}, metadata)
  end

  defp topic(Places.place(key: {topic, _, _})), do: topic
  defp now_ms, do: System.system_time(:millisecond)
end
