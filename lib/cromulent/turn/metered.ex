defmodule Cromulent.Turn.Metered do
  @moduledoc """
  The provider for Metered's TURN service.

      TURN_PROVIDER=metered
      METERED_URL=https://APP.metered.live
      METERED_SECRET_KEY=...

  | option | variable | |
  |---|---|---|
  | `metered_url` | `METERED_URL` | the application at Metered, without a path |
  | `metered_secret_key` | `METERED_SECRET_KEY` | makes a credential for each user |
  | `metered_api_key` | `METERED_API_KEY` | without a secret key: the key of one credential that all users share |
  | `metered_region` | `METERED_REGION` | asks for the relays of a region |
  | `ttl` | `TURN_TTL` | lifetime of the users' credentials in seconds, default 3600 |
  | `opaque_usernames` | `TURN_OPAQUE_USERNAMES` | does not tell Metered the user ids, default `false` |
  | `http`, `http_timeout`, `http_cacertfile` | | see `Cromulent.Turn.Http` |

  With the secret key two requests are made for a user: `POST /api/v1/turn/credential` makes a credential that
  expires, labelled with the user id (or what stands for it, `Cromulent.Turn.Credentials.opaque_user_id/2`, with
  the secret key as the secret), and `GET /api/v1/turn/credentials` has its ICE servers. With an API key
  alone it is the latter: that credential does not expire with the users, and cannot tell them apart.

  An answer may be an array of ICE servers, or have one in `data` or `iceServers`. Rows with `username` and
  `password` but without URLs, as in lists of credentials, get those of Metered's own hosts; the first row that has
  not expired counts.

  What was obtained is kept for the user until it has a quarter of its life left (or 15 minutes), and renewed in
  the background from half of it on. Failures are kept for 5 seconds, growing to 60.

  Errors: `{:not_configured, option}`, `{:config, text}`, `:bad_user_id`, `{:http_error, status}` (401: the key is
  wrong; 400: also the plan does not include the API), `:not_json`, `:bad_answer`, `:no_servers`,
  `:no_credentials`, `:no_relays`, and those of `t:Cromulent.Turn.Http.reason/0` and of waiting for them:
  `:timeout`, `:circuit_open` (the account has failed five times in a row; asked again after 30
  seconds), `:overloaded`.

  Source: Metered's TURN server REST API, "Get Credential", "Create Credential", "Get Credentials v2" and "Delete
  Credential".
  """

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.{Broker, Credentials, Http, Option, Provider, Rest}

  @ttl 3600

  # The hosts that Metered's documents name, for credentials without URLs.
  @stun "stun:stun.relay.metered.ca:80"
  @turn [
    "turn:global.relay.metered.ca:80",
    "turn:global.relay.metered.ca:80?transport=tcp",
    "turn:global.relay.metered.ca:443",
    "turns:global.relay.metered.ca:443?transport=tcp"
  ]

  @type error :: Provider.service_error()

  @doc "The ICE servers of a user: a string, or what `to_string/1` makes one of."
  @impl true
  @spec get_ice_servers(term(), keyword()) :: {:ok, [Provider.ice_server()]} | {:error, error()}
  def get_ice_servers(user_id, opts \\ []), do: Provider.servers(offer(user_id, opts))

  @doc """
  The same with URL and key as arguments, as Cromulent's own module of that name had it.

  The key may be a secret key or a credential's API key: a credential is made for the user with it, and when
  that is refused (400, 401, 403), its ICE servers are asked for.

      {:ok, [%{urls: "stun:stun.relay.metered.ca:80"},
             %{urls: "turn:global.relay.metered.ca:80", username: "...", credential: "..."}, ...]}

  `{:error, :not_configured}` when one of the two is nil or empty, `{:error, {:http_error, status}}`, and for all
  else an exception in `{:error, exception}`; nothing raises.
  """
  @spec get_ice_servers(term(), String.t() | nil, String.t() | nil) ::
          {:ok, [Provider.ice_server()]}
          | {:error, :not_configured | {:http_error, 100..599} | Exception.t()}
  def get_ice_servers(user_id, api_url, api_key) do
    if blank?(api_url) or blank?(api_key) do
      {:error, :not_configured}
    else
      opts = [metered_url: api_url, metered_secret_key: api_key]

      case ask(user_id, :either, opts) do
        {:ok, %{ice_servers: servers}} -> {:ok, servers}
        {:error, {:http_error, _status} = reason} -> {:error, reason}
        {:error, reason} -> {:error, %Http.Error{reason: reason}}
      end
    end
  end

  @doc "The ICE servers of a user, and when their credentials expire; nil with an API key, which does not tell."
  @impl true
  @spec offer(term(), keyword()) :: {:ok, Provider.offer()} | {:error, error()}
  def offer(user_id, opts) do
    case Option.required(:metered_secret_key, opts) do
      {:ok, _secret} -> ask(user_id, :create, opts)
      {:error, {:not_configured, _name}} -> ask(user_id, :plain, opts)
      error -> error
    end
  end

  @doc """
  Deletes the credential of a username, which ends its calls, and forgets what was kept of it.

  Needs the secret key. Takes at most `http_timeout`. `{:error, :not_found}` when Metered has no such credential.
  """
  @spec revoke(String.t(), keyword()) :: :ok | {:error, error() | :not_found}
  def revoke(username, opts \\ []) when is_binary(username) do
    with {:ok, base} <- Option.required(:metered_url, opts),
         {:ok, secret} <- Option.required(:metered_secret_key, opts) do
      call = %{
        provider: :metered,
        operation: :revoke,
        method: :delete,
        url: url(base, "credential", secretKey: secret),
        body: [username: username]
      }

      result = Rest.call(call, opts)
      _ = Broker.drop(&Rest.of?(&1, username))
      revoked(result)
    end
  end

  defp revoked({:ok, %{"success" => true}}), do: :ok
  defp revoked({:ok, %{"success" => false}}), do: {:error, :not_found}
  defp revoked({:ok, _other}), do: {:error, :bad_answer}
  defp revoked({:error, {:http_error, 404}, _verdict}), do: {:error, :not_found}
  defp revoked({:error, reason, _verdict}), do: {:error, reason}

  # ---- asking ----

  defp ask(user_id, how, opts) do
    with {:ok, account} <- account(how, opts),
         {:ok, user} <- user(user_id, how, account, opts),
         {:ok, bound} <- Http.timeout(opts) do
      name = {__MODULE__, account.url, Broker.digest(account.key)}
      key = {name, how, user, account.region, account.ttl}
      fly = fn ms -> obtain(how, account, user, opts, deadline(ms)) end
      Broker.fetch(key, name, bound, fly)
    end
  end

  defp account(how, opts) do
    name = if how == :plain, do: :metered_api_key, else: :metered_secret_key

    with {:ok, url} <- Option.required(:metered_url, opts),
         {:ok, key} <- key(name, opts),
         {:ok, region} <- Option.default(:metered_region, opts, nil),
         {:ok, ttl} <- Option.default(:ttl, opts, @ttl) do
      {:ok, %{url: url, key: key, region: region, ttl: ttl}}
    end
  end

  # Of the two keys, the secret one is wanted.
  defp key(name, opts) do
    with {:error, {:not_configured, _}} <- Option.required(name, opts),
         do: {:error, {:not_configured, :metered_secret_key}}
  end

  # Everybody shares the credential of an API key.
  defp user(_user_id, :plain, _account, _opts), do: {:ok, nil}

  defp user(user_id, _how, account, opts) do
    with {:ok, opaque?} <- Option.default(:opaque_usernames, opts, false),
         {:ok, user} <- Rest.user_text(user_id) do
      {:ok, if(opaque?, do: Credentials.opaque_user_id(user, account.key), else: user)}
    end
  end

  # ---- flights ----

  defp obtain(:plain, account, _user, opts, deadline),
    do: get(account, account.key, nil, opts, deadline)

  defp obtain(:create, account, user, opts, deadline) do
    # Before the request: the credential cannot expire earlier than that.
    now = System.os_time(:second)

    with {:ok, made} <- create(account, user, opts, deadline),
         do: follow(made, now, account, opts, deadline)
  end

  defp obtain(:either, account, user, opts, deadline) do
    with {:error, {:http_error, status}, _} = refused when status in [400, 401, 403] <-
           obtain(:create, account, user, opts, deadline),
         {:error, {:http_error, status}, _} when status in [400, 401, 403] <-
           obtain(:plain, account, user, opts, deadline) do
      # It was the wrong kind of key for both: what the first said is about the account.
      refused
    end
  end

  defp create(account, user, opts, deadline) do
    call = %{
      provider: :metered,
      operation: :create,
      method: :post,
      url: url(account.url, "credential", secretKey: account.key),
      body: [expiryInSeconds: account.ttl, label: user]
    }

    Rest.call(call, opts, left(deadline))
  end

  defp follow(%{"apiKey" => key} = made, now, account, opts, deadline)
       when is_binary(key) and key != "",
       do: get(account, key, now + lifetime(made, account.ttl), opts, deadline)

  defp follow(%{"username" => _, "password" => _} = made, now, account, _opts, _deadline),
    do: made |> with_urls() |> Rest.offer(now + lifetime(made, account.ttl))

  defp follow(_other, _now, _account, _opts, _deadline), do: {:error, :bad_answer, :answered}

  defp lifetime(%{"expiryInSeconds" => seconds}, ttl) when is_integer(seconds) and seconds > 0,
    do: min(seconds, ttl)

  defp lifetime(_made, ttl), do: ttl

  defp get(account, api_key, expires_at, opts, deadline) do
    region = if account.region, do: [region: account.region], else: []

    call = %{
      provider: :metered,
      operation: :get,
      method: :get,
      url: url(account.url, "credentials", [apiKey: api_key] ++ region)
    }

    with {:ok, answer} <- Rest.call(call, opts, left(deadline)),
         {:ok, servers} <- servers(answer),
         do: Rest.offer(servers, expires_at)
  end

  defp url(base, path, query),
    do: base <> "/api/v1/turn/" <> path <> "?" <> URI.encode_query(query)

  defp deadline(ms), do: System.monotonic_time(:millisecond) + ms
  defp left(deadline), do: max(deadline - System.monotonic_time(:millisecond), 1)

  # ---- answers ----

  defp servers(%{"data" => rows}), do: servers(rows)
  defp servers(%{"iceServers" => servers}), do: servers(servers)
  defp servers(%{"urls" => _} = server), do: {:ok, [server]}

  defp servers(rows) when is_list(rows) do
    case Enum.filter(rows, &credential?/1) do
      [credential | _] -> {:ok, with_urls(credential)}
      [] -> {:ok, rows}
    end
  end

  defp servers(_other), do: {:error, :bad_answer, :answered}

  # A row of the list of credentials.
  defp credential?(%{"username" => name, "password" => password} = row)
       when is_binary(name) and is_binary(password),
       do: row["urls"] == nil and row["url"] == nil and row["expired"] != true

  defp credential?(_row), do: false

  defp with_urls(credential) do
    [
      %{urls: @stun},
      %{urls: @turn, username: credential["username"], credential: credential["password"]}
    ]
  end

  # nil as an option would mean: look elsewhere.
  defp blank?(nil), do: true
  defp blank?(text) when is_binary(text), do: String.trim(text) == ""
  defp blank?(_other), do: false
end
