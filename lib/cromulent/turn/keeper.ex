defmodule Cromulent.Turn.Keeper do
  @moduledoc false
  # Keeps what must outlive the owner of the relay: the configuration in force, whether the relay is
  # draining, and the relay that was last seen alive.

  use Agent

  alias Cromulent.Turn.Config

  @type t :: %{config: Config.t(), drain: boolean(), os_pid: pos_integer() | nil}

  @spec start_link({Agent.name(), Config.t()}) :: Agent.on_start()
  def start_link({name, %Config{} = config}) do
    Agent.start_link(fn -> %{config: config, drain: false, os_pid: nil} end, name: name)
  end

  @spec get(Agent.agent()) :: t()
  def get(keeper), do: Agent.get(keeper, & &1)

  @spec put(Agent.agent(), Enumerable.t()) :: :ok
  def put(keeper, changes), do: Agent.update(keeper, &Map.merge(&1, Map.new(changes)))
end
