defmodule Cromulent.Turn.StunServers do
  @moduledoc false
  # The provider without a relay: STUN servers only. `Cromulent.Turn.Stun` is its public name, which
  # it shares with the codec.

  alias Cromulent.Turn.{Option, Provider}

  @default "stun:stun.l.google.com:19302"

  @doc "The URLs of `TURN_STUN_URLS`, else that of a public server."
  @spec urls(keyword()) :: {:ok, [String.t(), ...]} | Option.error()
  def urls(opts) do
    case Option.fetch(:stun_urls, opts) do
      {:ok, [_ | _] = urls} -> {:ok, urls}
      {:error, _} = error -> error
      _ -> {:ok, [@default]}
    end
  end

  @doc "The servers of these URLs."
  @spec get_ice_servers(term(), keyword()) ::
          {:ok, [Provider.ice_server(), ...]} | Option.error()
  def get_ice_servers(_user_id, opts \\ []) do
    with {:ok, urls} <- urls(opts), do: {:ok, entries(urls)}
  end

  @doc "The same; nothing of it expires."
  @spec offer(term(), keyword()) :: {:ok, Provider.offer()} | Option.error()
  def offer(user_id, opts) do
    with {:ok, servers} <- get_ice_servers(user_id, opts),
         do: {:ok, %{ice_servers: servers, expires_at: nil}}
  end

  @doc "What is left when all else fails."
  @spec fallback() :: [Provider.ice_server(), ...]
  def fallback, do: entries([@default])

  @doc "ICE server entries of STUN URLs."
  @spec entries([String.t()]) :: [Provider.ice_server()]
  def entries(urls), do: for(url <- urls, do: %{urls: url})
end
