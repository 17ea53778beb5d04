defmodule Cromulent.Turn.Places.Supervisor do
  @moduledoc false
  # The tables first. What works on them has a supervisor of its own: it can crash, and more often than a
  # supervisor bears, without a place being lost.

  use Supervisor

  alias Cromulent.Turn.Places.{Server, Tables}
  alias Cromulent.Turn.Renewer

  @tasks Cromulent.Turn.Places.Tasks

  @spec start_link([]) :: Supervisor.on_start()
  def start_link([]), do: Supervisor.start_link(__MODULE__, [], name: __MODULE__)

  @impl true
  def init([]) do
    workers = [{Task.Supervisor, name: @tasks}, Server, Renewer]

    children = [
      Tables,
      %{
        id: :workers,
        type: :supervisor,
        start: {Supervisor, :start_link, [workers, [strategy: :one_for_one]]}
      }
    ]

    Supervisor.init(children, strategy: :rest_for_one)
  end

  @doc "Runs something beside its caller; what becomes of it interests nobody."
  @spec spawn_task((() -> term())) :: :ok
  def spawn_task(fun) do
    {:ok, _} = Task.Supervisor.start_child(@tasks, fun)
    :ok
  end

  @doc "Runs something for a server, which gets `{ref, result}` or a `:DOWN` with that ref."
  @spec async((() -> term())) :: Task.t()
  def async(fun), do: Task.Supervisor.async_nolink(@tasks, fun)
end
