defmodule Cromulent.Application do
  @moduledoc false

  use Application

  @impl true
  def start(_type, _args) do
    children = [
      {Phoenix.PubSub, name: Cromulent.PubSub},
      Cromulent.Users,
      Cromulent.Channels,
      CromulentWeb.Presence,
      CromulentWeb.Endpoint
    ]

    Supervisor.start_link(children, strategy: :one_for_one, name: Cromulent.Supervisor)
  end

  @impl true
  def config_change(changed, _new, removed) do
    CromulentWeb.Endpoint.config_change(changed, removed)
    :ok
  end
end
