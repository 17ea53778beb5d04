defmodule Cromulent.Turn.Coturn do
  @moduledoc """
  The provider for a TURN server with a shared secret: coturn with `use-auth-secret`, eturnal, or another
  relay of this library ("A REST API for access to TURN services", draft-uberti-rtcweb-turn-rest-00).

      TURN_PROVIDER=coturn
      TURN_URL=turn:turn.example.org:3478,turns:turn.example.org:5349
      TURN_SECRET=...

  | option | variable | |
  |---|---|---|
  | `turn_urls` | `TURN_URL` | the server's URLs |
  | `secret` | `TURN_SECRET` | what the server has as `static-auth-secret`; of several, the first signs |
  | `ttl` | `TURN_TTL` | lifetime of credentials in seconds, default 3600 |
  | `stun_urls` | `TURN_STUN_URLS` | STUN servers, default a public one |
  | `opaque_usernames` | `TURN_OPAQUE_USERNAMES` | hides the user id in the username, default `false` |

  Nothing is asked over the network: the credential is made here, and the server can tell from it that whoever
  made it has the secret.
  """

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.{Credentials, Option, Provider, StunServers}

  @ttl 3600

  @type error :: {:not_configured, :turn_urls | :secret} | :bad_user_id | {:config, String.t()}

  @doc """
  The ICE servers of a user: a string, or what `to_string/1` makes one of.

  `{:error, {:not_configured, option}}` names the option that is missing, `{:error, {:config, text}}` says which
  is wrong, and `{:error, :bad_user_id}` that the id cannot be part of a username.
  """
  @impl true
  @spec get_ice_servers(term(), keyword()) :: {:ok, [Provider.ice_server()]} | {:error, error()}
  def get_ice_servers(user_id, opts \\ []), do: Provider.servers(offer(user_id, opts))

  @doc "The same, and when the credentials expire."
  @impl true
  @spec offer(term(), keyword()) :: {:ok, Provider.offer()} | {:error, error()}
  def offer(user_id, opts) do
    with {:ok, urls} <- Option.required(:turn_urls, opts),
         {:ok, [secret | _]} <- Option.required(:secret, opts),
         {:ok, ttl} <- Option.default(:ttl, opts, @ttl),
         {:ok, opaque?} <- Option.default(:opaque_usernames, opts, false),
         {:ok, stun_urls} <- StunServers.urls(opts),
         {:ok, made} <- Credentials.mint(user_id, secret, ttl, opaque?) do
      turn =
        for url <- urls, do: Map.merge(%{urls: url}, Map.take(made, [:username, :credential]))

      {:ok, %{ice_servers: StunServers.entries(stun_urls) ++ turn, expires_at: made.expires_at}}
    end
  end

  @doc """
  The same with URL and secret as arguments, as Cromulent's own module of that name had it.

      {:ok, [%{urls: "stun:stun.l.google.com:19302"},
             %{urls: turn_url, username: "1763712000:42", credential: "..."}]}

  Several URLs are separated by commas. A URL or a secret that is nil or empty gives
  `{:error, :not_configured}`, wrong ones `{:error, {:config, text}}`; nothing raises.
  """
  @spec get_ice_servers(term(), String.t() | nil, String.t() | nil) ::
          {:ok, [Provider.ice_server()]}
          | {:error, :not_configured | :bad_user_id | {:config, String.t()}}
  def get_ice_servers(user_id, turn_url, turn_secret) do
    if blank?(turn_url) or blank?(turn_secret),
      do: {:error, :not_configured},
      else: get_ice_servers(user_id, turn_urls: turn_url, secret: [turn_secret])
  end

  # nil as an option would mean: look elsewhere.
  defp blank?(none) when none in [nil, []], do: true
  defp blank?(text) when is_binary(text), do: String.trim(text) == ""
  defp blank?(_other), do: false
end
