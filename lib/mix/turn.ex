defmodule Mix.Turn do
  @moduledoc false
  # What the tasks of this library share.

  alias Cromulent.Turn.{Option, Relay}

  @doc """
  Compiles, configures and starts this application alone: neither the project's own application nor
  a relay. Whatever is printed on the way goes to standard error, and so does the log: standard output is
  the task's.
  """
  @spec boot() :: :ok
  def boot do
    stdout = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))

    try do
      Mix.Task.run("app.config")
      log_to_stderr()
      Application.put_env(:cromulent_turn, :start, false)
      {:ok, _} = Application.ensure_all_started(:cromulent_turn)
      :ok
    after
      Process.group_leader(self(), stdout)
    end
  end

  # The first is Logger's setting before Elixir 1.15, the second since.
  defp log_to_stderr do
    started? = List.keymember?(Application.started_applications(), :logger, 0)
    if started?, do: Application.stop(:logger)
    console = Application.get_env(:logger, :console, [])
    Application.put_env(:logger, :console, Keyword.put(console, :device, :standard_error))
    handler = Application.get_env(:logger, :default_handler, [])

    if handler do
      config = handler |> Keyword.get(:config, []) |> Map.new() |> Map.put(:type, :standard_error)
      Application.put_env(:logger, :default_handler, Keyword.put(handler, :config, config))
    end

    {:ok, _} = Application.ensure_all_started(:logger)
    # A line per allocation is for who looks for a fault, and costs more than the allocation.
    if Logger.level() == :debug, do: Logger.configure(level: :info)
    :ok
  end

  @doc """
  Starts the relay in the application's own tree, so that the end of the application, for whatever
  reason, ends the relay first. Gives what `Cromulent.Turn.Relay.info/0` does.
  """
  @spec start_relay(keyword()) :: {:ok, map()} | {:error, term()}
  def start_relay(opts) do
    case Supervisor.start_child(Cromulent.Turn.Application, {Cromulent.Turn, opts}) do
      {:ok, _pid} -> Relay.info()
      {:error, {reason, child}} when elem(child, 0) == :child -> {:error, reason}
      {:error, reason} -> {:error, reason}
    end
  end

  @doc "Lets a user of the task's own in: `:ok`, or that the configuration has no admission."
  @spec admit(String.t()) :: :ok | {:error, term()}
  def admit(user), do: Relay.admit(user, "mix")

  @doc "Ends the relay that `start_relay/1` started."
  @spec stop_relay() :: :ok
  def stop_relay do
    _ = Supervisor.terminate_child(Cromulent.Turn.Application, Cromulent.Turn)
    _ = Supervisor.delete_child(Cromulent.Turn.Application, Cromulent.Turn)
    :ok
  end

  @doc "The flags as options; anything else ends the task with one line and status 2."
  @spec parse(String.t(), [String.t()], keyword()) :: keyword()
  def parse(task, argv, switches) do
    case OptionParser.parse(argv, strict: switches) do
      {opts, [], []} -> gather(opts, switches)
      {_, [extra | _], []} -> fail(task, 2, "unexpected argument #{inspect(extra)}")
      {_, _, [{flag, nil} | _]} -> fail(task, 2, complaint(flag, switches))
      {_, _, [{flag, value} | _]} -> fail(task, 2, "#{flag} #{inspect(value)}: not understood")
    end
  end

  # What may be repeated becomes a list.
  defp gather(opts, switches) do
    for {name, kind} <- switches, values = Keyword.get_values(opts, name), values != [] do
      {name, if(is_list(kind) and :keep in kind, do: values, else: List.last(values))}
    end
  end

  defp complaint(flag, switches) do
    known = for {name, _} <- switches, do: Option.flag(name)

    if flag in known,
      do: "#{flag}: needs a value",
      else: "unknown flag #{flag}; there are #{Enum.join(known, ", ")}"
  end

  @doc "Ends the task with one line on standard error."
  @spec fail(String.t(), 1..255, String.t()) :: no_return()
  def fail(task, status, text) do
    IO.puts(:stderr, "mix #{task}: " <> String.replace(text, ~r/\s*\n\s*/, " "))
    exit({:shutdown, status})
  end
end
