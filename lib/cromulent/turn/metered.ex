defmodule Cromulent.Turn.Metered do
  @moduledoc """
  The provider for Metered's service: not yet.

  `Cromulent.Turn.ice_servers/2` with it logs so and gives the STUN servers; calling it directly
  raises.
  """

  @behaviour Cromulent.Turn.Provider

  @impl true
  @spec get_ice_servers(term()) :: no_return()
  def get_ice_servers(_user_id) do
    raise "not yet: the provider metered of cromulent_turn; until then use embedded or stun"
  end
end
