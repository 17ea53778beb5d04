defmodule Cromulent.Turn.StunServers do
  @moduledoc false
  # The provider without a relay: STUN servers only. `Cromulent.Turn.Stun` is its public name, which
  # it shares with the codec.

  alias Cromulent.Turn.Option

  @default "stun:stun.l.google.com:19302"

  @doc "The servers of `TURN_STUN_URLS`, else a public one."
  @spec get_ice_servers(term()) ::
          {:ok, [Cromulent.Turn.Provider.ice_server()]} | Option.error()
  def get_ice_servers(_user_id) do
    case Option.fetch(:stun_urls, []) do
      {:ok, [_ | _] = urls} -> {:ok, entries(urls)}
      {:error, _} = error -> error
      _ -> {:ok, fallback()}
    end
  end

  @doc "What is left when all else fails."
  @spec fallback() :: [Cromulent.Turn.Provider.ice_server()]
  def fallback, do: entries([@default])

  @doc "ICE server entries of STUN URLs."
  @spec entries([String.t()]) :: [Cromulent.Turn.Provider.ice_server()]
  def entries(urls), do: for(url <- urls, do: %{urls: url})
end
