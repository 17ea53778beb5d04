defmodule Cromulent.Turn.Broker do
  @moduledoc false
  # Stands between all who want credentials and the APIs that sell them.
  #
  # An answer is kept until its end of life comes near, and a failure for a short while. Whoever asks
  # for what is kept reads a table, and no process is in the way. For all others one process starts
  # flights: one per key however many wait for it, `@at_once` in all, the rest in a queue, and none to
  # an account whose breaker is open. It never runs code of a provider itself.
  #
  # What a flight brings is credentials: it travels as a function, so that no crash report shows it, and
  # lies in the table only. Keys and accounts must not hold secrets; `digest/1` makes names of them.

  use GenServer

  alias Cromulent.Turn.Breaker

  @at_once 64
  @queued_most 1_000
  @entries_most 10_000
  @sweep_ms 30_000
  # How long a failure is kept, ms: the first one, doubled with each that follows, at most.
  @pause_first 5_000
  @pause_most 60_000
  # What has no end of life is fetched anew after so many seconds.
  @endless_s 300
  # The margin is a quarter of the life, in seconds at most.
  @margin_most 900
  # How much longer than its time a flight may be before it is killed, ms.
  @grace 250

  @typedoc "Whom a key belongs to: what has one breaker, such as a provider's account."
  @type account :: term()
  @typedoc """
  What the function of a flight returns: a value and when it ends (Unix seconds; nil: not known), or a
  failure. `:answered` says that the provider does answer, `:failed` that the fault is its own, and a
  number after how many ms it wants to be asked again.
  """
  @type landing ::
          {:ok, term(), expires_at :: pos_integer() | nil}
          | {:error, term(), :answered | :failed | {:failed, retry_after_ms :: non_neg_integer()}}
  @typedoc """
  `:circuit_open` - the account has failed too often just now; `:overloaded` - too many are in the queue;
  `:crashed` - the flight has; `:expired` - what it brought had no life left.
  """
  @type error ::
          :timeout
          | :circuit_open
          | :overloaded
          | :crashed
          | {:crashed, exception :: module()}
          | :expired
          | :not_running

  defmodule State do
    @moduledoc false
    defstruct [:table, flights: %{}, waiting: %{}, queue: nil, breakers: %{}, limits: %{}]
  end

  # ---- client functions ----

  @spec start_link(keyword()) :: GenServer.on_start()
  def start_link(opts \\ []) do
    name = Keyword.get(opts, :name, __MODULE__)
    GenServer.start_link(__MODULE__, {name, Map.new(opts)}, name: name)
  end

  @doc """
  The value of a key: as it was kept, or from `fun`, which is told in how many milliseconds it must be
  done, and runs in a process of its own.

  Returns within about `bound` ms. A value is given while a quarter of its life is left (or 15 minutes,
  when that is less); from half of its life on, asking for it also fetches the next one, which nobody
  waits for. An error is the flight's own, the one that was kept, or an `t:error/0`.
  """
  @spec fetch(term(), account(), pos_integer(), (pos_integer() -> landing()), GenServer.name()) ::
          {:ok, term()} | {:error, error() | term()}
  def fetch(key, account, bound, fun, broker \\ __MODULE__) when is_function(fun, 1) do
    case look_up(broker, key) do
      {:fresh, value} ->
        {:ok, value}

      {:aging, value} ->
        GenServer.cast(broker, {:renew, key, account, bound, fun})
        {:ok, value}

      {:failed, reason} ->
        {:error, reason}

      :none ->
        call(broker, {:fetch, key, account, now() + bound, fun}, bound)

      :not_running ->
        {:error, :not_running}
    end
  end

  @doc "Forgets the values of which this is true, such as revoked ones."
  @spec drop((term() -> boolean()), GenServer.name()) :: :ok | {:error, :timeout | :not_running}
  def drop(unwanted?, broker \\ __MODULE__), do: call(broker, {:drop, unwanted?}, 5_000)

  @doc "Forgets all keys and all failures; flights go on."
  @spec reset(GenServer.name()) :: :ok
  def reset(broker \\ __MODULE__), do: GenServer.call(broker, :reset)

  @doc "A name for a secret, to tell two of them apart and no more."
  @spec digest(term()) :: binary()
  def digest(secret),
    do: binary_part(:crypto.hash(:sha256, :erlang.term_to_binary(secret)), 0, 16)

  defp call(broker, request, bound) do
    GenServer.call(broker, request, bound)
  catch
    :exit, {:timeout, _call} -> {:error, :timeout}
    :exit, _reason -> {:error, :not_running}
  end

  # ---- the table ----

  # Rows are {key, value, aging, until, reason, retry, failures}: the value is fresh before `aging`
  # and given before `until`, both Unix seconds and 0 without a value; a failure, or a renewal under
  # way, counts before `retry`, in ms of now/0.

  defp look_up(table, key) do
    case :ets.lookup(table, key) do
      [row] -> judge(row, System.os_time(:second), now())
      [] -> :none
    end
  rescue
    ArgumentError -> :not_running
  end

  defp judge({_key, value, aging, until, reason, retry, _failures}, clock, now) do
    cond do
      clock < aging -> {:fresh, value}
      clock < until and now < retry -> {:fresh, value}
      clock < until -> {:aging, value}
      reason != nil and now < retry -> {:failed, reason}
      true -> :none
    end
  end

  defp keep(state, key, value, expires_at) do
    clock = System.os_time(:second)
    life = (expires_at || clock + @endless_s) - clock
    margin = min(div(life, 4), @margin_most)
    insert(state, {key, value, clock + div(life, 2), clock + life - margin, nil, now(), 0})
  end

  # What was kept stays good until its own end.
  defp keep_failure(state, key, reason, verdict) do
    {value, aging, until, failures} = known(state.table, key)
    pause = pause(failures + 1, verdict, state.limits)
    insert(state, {key, value, aging, until, reason, now() + pause, failures + 1})
  end

  defp known(table, key) do
    case :ets.lookup(table, key) do
      [{_key, value, aging, until, _reason, _retry, failures}] -> {value, aging, until, failures}
      [] -> {nil, 0, 0, 0}
    end
  end

  defp pause(failures, verdict, limits) do
    grown = Map.get(limits, :pause, @pause_first) * Integer.pow(2, min(failures, 10) - 1)

    case verdict do
      {:failed, retry_after} -> grown |> max(retry_after) |> min(@pause_most)
      _ -> min(grown, @pause_most)
    end
  end

  # Nobody else writes, so nothing comes between looking and writing.
  defp insert(state, row) do
    most = Map.get(state.limits, :entries, @entries_most)
    full? = :ets.info(state.table, :size) >= most and not :ets.member(state.table, elem(row, 0))
    if full?, do: make_room(state.table, most)
    :ets.insert(state.table, row)
  end

  # The table is swept by the clock; one that is full before gives up any one row, which costs its user a
  # request.
  defp make_room(table, most) do
    :ets.delete(table, :ets.first(table))
    if :ets.info(table, :size) >= most, do: make_room(table, most), else: :ok
  end

  # Failures are remembered for a while after they count, for the pauses to grow.
  defp sweep_table(table) do
    past = now() - 2 * @pause_most
    clock = System.os_time(:second)
    gone = [{:"=<", :"$1", clock}, {:<, :"$2", past}]
    :ets.select_delete(table, [{{:_, :_, :_, :"$1", :_, :"$2", :_}, gone, [true]}])
  end

  # ---- callbacks ----

  @impl true
  def init({table, limits}) do
    :ets.new(table, [:named_table, :protected, read_concurrency: true])
    schedule_sweep(limits)
    {:ok, %State{table: table, limits: limits, queue: :queue.new()}}
  end

  @impl true
  def handle_call({:fetch, key, account, deadline, fun}, from, state) do
    job = %{key: key, account: account, deadline: deadline, fun: fun}

    # What came while the question was on its way.
    case look_up(state.table, key) do
      {kept, value} when kept in [:fresh, :aging] -> {:reply, {:ok, value}, state}
      {:failed, reason} -> {:reply, {:error, reason}, state}
      :none -> {:noreply, admit(job, [from], state)}
    end
  end

  def handle_call(:reset, _from, state) do
    :ets.delete_all_objects(state.table)
    {:reply, :ok, %{state | breakers: %{}}}
  end

  def handle_call({:drop, unwanted?}, _from, state) do
    for {key, value, _, until, _, _, _} <- :ets.tab2list(state.table),
        until > 0 and unwanted?.(value),
        do: :ets.delete(state.table, key)

    {:reply, :ok, state}
  end

  @impl true
  def handle_cast({:renew, key, account, bound, fun}, state) do
    with {:aging, _value} <- look_up(state.table, key),
         false <- is_map_key(state.waiting, key) do
      # Until then nobody asks for it again.
      :ets.update_element(state.table, key, {6, now() + bound})
      job = %{key: key, account: account, deadline: now() + bound, fun: fun}
      {:noreply, admit(job, [], state)}
    else
      _ -> {:noreply, state}
    end
  end

  @impl true
  def handle_info({:DOWN, ref, :process, _pid, reason}, state)
      when is_map_key(state.flights, ref) do
    {job, flights} = Map.pop!(state.flights, ref)
    Process.cancel_timer(job.timer)
    {:noreply, %{state | flights: flights} |> land(job, landing(reason)) |> next()}
  end

  def handle_info({:overdue, ref}, state) do
    with %{pid: pid} <- state.flights[ref], do: Process.exit(pid, :kill)
    {:noreply, state}
  end

  def handle_info(:sweep, state) do
    sweep_table(state.table)
    schedule_sweep(state.limits)
    now = now()
    {:noreply, %{state | breakers: Map.reject(state.breakers, &Breaker.idle?(elem(&1, 1), now))}}
  end

  def handle_info(_unknown, state), do: {:noreply, state}

  # ---- flights ----

  # `waiting` has everybody who waits, by key, for flights and for those in the queue.
  defp admit(%{key: key} = job, callers, state) do
    queued = map_size(state.waiting) - map_size(state.flights)

    cond do
      is_map_key(state.waiting, key) ->
        %{state | waiting: Map.update!(state.waiting, key, &(callers ++ &1))}

      map_size(state.flights) < Map.get(state.limits, :at_once, @at_once) ->
        start(job, %{state | waiting: Map.put(state.waiting, key, callers)})

      queued < Map.get(state.limits, :queued, @queued_most) ->
        waiting = Map.put(state.waiting, key, callers)
        %{state | waiting: waiting, queue: :queue.in(job, state.queue)}

      true ->
        Enum.each(callers, &GenServer.reply(&1, {:error, :overloaded}))
        state
    end
  end

  defp start(job, state) do
    breaker = Map.get(state.breakers, job.account, Breaker.new())
    left = job.deadline - now()

    with true <- left > 0 || :timeout,
         {:ok, breaker} <- Breaker.ask(breaker, now()) do
      state = %{state | breakers: Map.put(state.breakers, job.account, breaker)}
      launch(job, left, state)
    else
      # Neither says anything about this key.
      :timeout -> answer(state, job.key, {:error, :timeout})
      :open -> answer(state, job.key, {:error, :circuit_open})
    end
  end

  # The exit reason of a flight is what it brings, in a function, which nothing prints.
  defp launch(%{fun: fun} = job, left, state) do
    ms = max(left - min(div(left, 10), 100), 1)
    {pid, ref} = spawn_monitor(fn -> exit({:landed, fly(fun, ms)}) end)
    timer = Process.send_after(self(), {:overdue, ref}, left + @grace)
    job = job |> Map.delete(:fun) |> Map.merge(%{pid: pid, timer: timer})
    %{state | flights: Map.put(state.flights, ref, job)}
  end

  defp fly(fun, ms) do
    result = fun.(ms)
    fn -> result end
  rescue
    exception ->
      module = exception.__struct__
      fn -> {:error, {:crashed, module}, :answered} end
  catch
    _kind, _reason -> fn -> {:error, :crashed, :answered} end
  end

  defp landing({:landed, sealed}), do: check(sealed.())
  defp landing(:killed), do: {:error, :timeout, :failed}
  defp landing(_reason), do: {:error, :crashed, :answered}

  defp check({:ok, value, nil}), do: {:ok, value, nil}

  defp check({:ok, value, expires_at}) when is_integer(expires_at) do
    if expires_at > System.os_time(:second),
      do: {:ok, value, expires_at},
      else: {:error, :expired, :answered}
  end

  defp check({:error, _reason, verdict} = error) when verdict in [:answered, :failed], do: error
  defp check({:error, _reason, {:failed, ms}} = error) when is_integer(ms), do: error
  defp check(_other), do: {:error, :crashed, :answered}

  defp land(state, job, {:ok, value, expires_at}) do
    keep(state, job.key, value, expires_at)
    state |> judge_account(job.account, :answered) |> answer(job.key, {:ok, value})
  end

  defp land(state, job, {:error, reason, verdict}) do
    keep_failure(state, job.key, reason, verdict)
    state |> judge_account(job.account, verdict) |> answer(job.key, {:error, reason})
  end

  defp judge_account(state, account, verdict) do
    breaker = Map.get(state.breakers, account, Breaker.new())

    breaker =
      case verdict do
        :answered -> Breaker.answered(breaker)
        :failed -> Breaker.failed(breaker, now())
        {:failed, retry_after} -> Breaker.failed(breaker, now(), retry_after)
      end

    %{state | breakers: Map.put(state.breakers, account, breaker)}
  end

  defp answer(state, key, result) do
    {callers, waiting} = Map.pop(state.waiting, key, [])
    Enum.each(callers, &GenServer.reply(&1, result))
    %{state | waiting: waiting}
  end

  # Jobs whose time is over, or whose account is closed to them, start nothing and make room at once.
  defp next(state) do
    with true <- map_size(state.flights) < Map.get(state.limits, :at_once, @at_once),
         {{:value, job}, queue} <- :queue.out(state.queue) do
      next(start(job, %{state | queue: queue}))
    else
      _ -> state
    end
  end

  defp schedule_sweep(limits),
    do: Process.send_after(self(), :sweep, Map.get(limits, :sweep, @sweep_ms))

  defp now, do: System.monotonic_time(:millisecond)
end
