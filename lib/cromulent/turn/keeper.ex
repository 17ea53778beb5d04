defmodule Cromulent.Turn.Keeper do
  @moduledoc false
  # Keeps what must outlive the owner of the relay: the configuration in force, whether the relay is
  # draining, the relay that was last seen alive, and the table of the usernames that it was told.

  use Agent

  alias Cromulent.Turn.{Announced, Config}

  @type t :: %{
          config: Config.t(),
          drain: boolean(),
          os_pid: pos_integer() | nil,
          announced: :ets.tab()
        }

  @spec start_link({Agent.name(), Config.t()}) :: Agent.on_start()
  def start_link({name, %Config{} = config}) do
    empty = %{config: config, drain: false, os_pid: nil}
    Agent.start_link(fn -> Map.put(empty, :announced, Announced.table()) end, name: name)
  end

  @spec get(Agent.agent()) :: t()
  def get(keeper), do: Agent.get(keeper, & &1)

  @spec put(Agent.agent(), Enumerable.t()) :: :ok
  def put(keeper, changes), do: Agent.update(keeper, &Map.merge(&1, Map.new(changes)))
end
