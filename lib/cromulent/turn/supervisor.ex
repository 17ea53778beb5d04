defmodule Cromulent.Turn.Supervisor do
  @moduledoc false
  # The keeper first: it must outlive the relay's owner, and without it the owner starts afresh.

  use Supervisor

  alias Cromulent.Turn.{Config, Keeper, Relay}

  @keeper Cromulent.Turn.Keeper

  @spec start_link(keyword()) :: Supervisor.on_start()
  def start_link(opts) do
    with {:ok, config} <- Config.new(opts) do
      Supervisor.start_link(__MODULE__, config, name: __MODULE__)
    end
  end

  @impl true
  def init(config) do
    children = [
      {Keeper, {@keeper, config}},
      {Relay, [config: config, keeper: @keeper]}
    ]

    Supervisor.init(children, strategy: :rest_for_one)
  end
end
