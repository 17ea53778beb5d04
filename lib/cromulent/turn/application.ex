defmodule Cromulent.Turn.Application do
  @moduledoc false
  # Keeps the places of joins, and starts the relay when the embedded provider is chosen, unless `config :cromulent_turn, start: false`.

  use Application

  alias Cromulent.Turn.{Broker, Config, Embedded, Option, Places, Throttle}

  @impl true
  def start(_type, _args) do
    Throttle.init()
    _ = Config.boot_secret()

    with {:ok, children} <- children() do
      children = [Broker, Places.Supervisor | children]
      Supervisor.start_link(children, strategy: :one_for_one, name: __MODULE__)
    end
  end

  defp children do
    case Option.fetch(:provider, []) do
      {:ok, providers} ->
        {:ok, if(Embedded in providers and start?(), do: [Cromulent.Turn], else: [])}

      :unset ->
        {:ok, []}

      error ->
        error
    end
  end

  defp start?, do: Application.get_env(:cromulent_turn, :start, true)
end
