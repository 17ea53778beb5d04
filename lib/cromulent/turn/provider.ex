defmodule Cromulent.Turn.Provider do
  @moduledoc """
  Where ICE servers come from.

  `TURN_PROVIDER`, `config :cromulent_turn, provider: ...` or the `provider` option of
  `Cromulent.Turn.ice_servers/2` name one of

  | name | module | gives |
  |---|---|---|
  | `embedded` | `Cromulent.Turn.Embedded` | the relay of this node |
  | `stun`, `disabled`, `none` | `Cromulent.Turn.Stun` | public STUN servers, no relay |
  | `coturn` | `Cromulent.Turn.Coturn` | a coturn server, or another with a shared secret |
  | `metered` | `Cromulent.Turn.Metered` | Metered's service |
  | `cloudflare` | `Cromulent.Turn.Cloudflare` | Cloudflare Realtime TURN |

  or, as an atom, a module of the application that has this behaviour. Several make a chain
  (`TURN_PROVIDER=embedded,cloudflare`), in which the next is asked when one fails. Without any name it
  is `embedded` while this node runs a relay, else `stun`.

  A module of the application needs `c:get_ice_servers/1` alone. It may answer in any shape that
  `Cromulent.Turn.Payload.build/2` understands; it may raise, too, and has failed then. When its
  credentials expire is read from their usernames, or said by `c:offer/2`.
  """

  alias Cromulent.Turn.{Broker, Rest}

  @typedoc """
  One entry of `RTCPeerConnection`'s `iceServers`: `urls` is one URL. `username` and `credential` are
  there for TURN URLs, and absent (never nil) for STUN URLs.
  """
  @type ice_server :: %{
          required(:urls) => String.t(),
          optional(:username) => String.t(),
          optional(:credential) => String.t()
        }

  @typedoc """
  ICE servers and when their credentials expire, in Unix seconds; nil where none do or nobody knows.
  """
  @type offer :: %{ice_servers: [ice_server()], expires_at: pos_integer() | nil}

  @typedoc """
  Why `Cromulent.Turn.Cloudflare` or `Cromulent.Turn.Metered` has no ICE servers: an option is missing
  or wrong, the user id cannot be sent, the service was not reached or refused, or its answer is of
  no use.
  """
  @type service_error ::
          {:not_configured, atom()}
          | {:config, String.t()}
          | :bad_user_id
          | :bad_answer
          | :no_servers
          | :no_credentials
          | :no_relays
          | Rest.reason()
          | Broker.error()

  @doc "The ICE servers of a user, with credentials that are this user's own."
  @callback get_ice_servers(user_id :: term()) :: {:ok, [ice_server()]} | {:error, term()}

  @doc "The same, with the options of `Cromulent.Turn.ice_servers/2`."
  @callback get_ice_servers(user_id :: term(), opts :: keyword()) ::
              {:ok, [ice_server()]} | {:error, term()}

  @doc "The same, and when the credentials expire. This one is asked where a module has it."
  @callback offer(user_id :: term(), opts :: keyword()) :: {:ok, offer()} | {:error, term()}

  @optional_callbacks get_ice_servers: 2, offer: 2

  @providers [
    embedded: Cromulent.Turn.Embedded,
    stun: Cromulent.Turn.Stun,
    coturn: Cromulent.Turn.Coturn,
    metered: Cromulent.Turn.Metered,
    cloudflare: Cromulent.Turn.Cloudflare,
    disabled: Cromulent.Turn.Stun,
    none: Cromulent.Turn.Stun
  ]

  @by_text Map.new(@providers, fn {name, module} -> {Atom.to_string(name), module} end)

  @doc "The names of the providers."
  @spec names() :: [atom()]
  def names, do: Keyword.keys(@providers)

  @doc "The name of a provider; a module of the application is its own."
  @spec name(module()) :: atom()
  def name(module) do
    Enum.find_value(@providers, module, fn {name, known} -> known == module && name end)
  end

  @doc "The provider of a name, which may be a string, an atom or a module with this behaviour."
  @spec find(term()) :: {:ok, module()} | :error
  def find(name) when is_binary(name), do: Map.fetch(@by_text, String.downcase(name))

  def find(name) when is_atom(name) do
    with :error <- Keyword.fetch(@providers, name) do
      if Code.ensure_loaded?(name) and function_exported?(name, :get_ice_servers, 1),
        do: {:ok, name},
        else: :error
    end
  end

  def find(_other), do: :error

  @doc false
  # get_ice_servers/2 of a provider that has offer/2.
  @spec servers({:ok, offer()} | {:error, error}) :: {:ok, [ice_server()]} | {:error, error}
        when error: term()
  def servers({:ok, %{ice_servers: servers}}), do: {:ok, servers}
  def servers({:error, _reason} = error), do: error
end
