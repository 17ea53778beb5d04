defmodule CromulentWeb.ShortLived do
  @moduledoc "A provider whose credentials expire in two seconds, so that a test sees them renewed."

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.Embedded

  @impl true
  def get_ice_servers(user_id), do: Embedded.get_ice_servers(user_id)

  @impl true
  def offer(user_id, opts) do
    with {:ok, offer} <- Embedded.offer(user_id, Keyword.delete(opts, :provider)) do
      {:ok, %{offer | expires_at: System.system_time(:second) + 2}}
    end
  end
end
