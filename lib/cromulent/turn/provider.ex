defmodule Cromulent.Turn.Provider do
  @moduledoc """
  Where ICE servers come from.

  `TURN_PROVIDER`, `config :cromulent_turn, provider: ...` or the `provider` option of
  `Cromulent.Turn.ice_servers/2` name one of

  | name | module | gives |
  |---|---|---|
  | `embedded` | `Cromulent.Turn.Embedded` | the relay of this node |
  | `stun`, `disabled`, `none` | `Cromulent.Turn.Stun` | public STUN servers, no relay |
  | `coturn` | `Cromulent.Turn.Coturn` | not yet |
  | `metered` | `Cromulent.Turn.Metered` | not yet |
  | `cloudflare` | `Cromulent.Turn.Cloudflare` | not yet |

  or, as an atom, a module of the application that has this behaviour. Without any name it is
  `embedded` while this node runs a relay, else `stun`.
  """

  @typedoc """
  One entry of `RTCPeerConnection`'s `iceServers`: `urls` is one URL. `username` and `credential` are
  there for TURN URLs, and absent (never nil) for STUN URLs.
  """
  @type ice_server :: %{
          required(:urls) => String.t(),
          optional(:username) => String.t(),
          optional(:credential) => String.t()
        }

  @doc "The ICE servers of a user, with credentials that are this user's own."
  @callback get_ice_servers(user_id :: term()) :: {:ok, [ice_server()]} | {:error, term()}

  @doc "The same, with the options of `Cromulent.Turn.ice_servers/2`."
  @callback get_ice_servers(user_id :: term(), opts :: keyword()) ::
              {:ok, [ice_server()]} | {:error, term()}

  @optional_callbacks get_ice_servers: 2

  @providers [
    embedded: Cromulent.Turn.Embedded,
    stun: Cromulent.Turn.Stun,
    coturn: Cromulent.Turn.Coturn,
    metered: Cromulent.Turn.Metered,
    cloudflare: Cromulent.Turn.Cloudflare,
    disabled: Cromulent.Turn.Stun,
    none: Cromulent.Turn.Stun
  ]

  @doc "The names of the providers."
  @spec names() :: [atom()]
  def names, do: Keyword.keys(@providers)

  @doc "The provider of a name, which may be a string, an atom or a module with this behaviour."
  @spec find(term()) :: {:ok, module()} | :error
  def find(name) when is_binary(name) do
    name = String.downcase(name)

    Enum.find_value(@providers, :error, fn {key, module} ->
      to_string(key) == name && {:ok, module}
    end)
  end

  def find(name) when is_atom(name) do
    with :error <- Keyword.fetch(@providers, name) do
      if Code.ensure_loaded?(name) and function_exported?(name, :get_ice_servers, 1),
        do: {:ok, name},
        else: :error
    end
  end

  def find(_other), do: :error
end
