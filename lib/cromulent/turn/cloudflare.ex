defmodule Cromulent.Turn.Cloudflare do
  @moduledoc """
  The provider for Cloudflare Realtime TURN.

      TURN_PROVIDER=cloudflare
      CLOUDFLARE_TURN_KEY_ID=...
      CLOUDFLARE_TURN_API_TOKEN=...

  | option | variable | |
  |---|---|---|
  | `cloudflare_key_id` | `CLOUDFLARE_TURN_KEY_ID` | the id of the TURN key |
  | `cloudflare_api_token` | `CLOUDFLARE_TURN_API_TOKEN` | its API token |
  | `cloudflare_shared` | `CLOUDFLARE_TURN_SHARED` | one credential for all users of a node, default `false` |
  | `cloudflare_url` | `CLOUDFLARE_TURN_URL` | default `https://rtc.live.cloudflare.com` |
  | `ttl` | `TURN_TTL` | lifetime of credentials in seconds, default 3600, at most 172800 |
  | `http`, `http_timeout`, `http_cacertfile` | | see `Cromulent.Turn.Http` |

  `POST /v1/turn/keys/ID/credentials/generate-ice-servers` makes a credential for each user; Cloudflare is not
  told who that is. A shared one cannot be revoked for one user alone, and its traffic is everybody's.

  The answer's status may be 200 or 201, and `iceServers` an array, or an object as `credentials/generate`
  has it. URLs with port 53 are left out: browsers refuse that port, after a while of trying.

  What was obtained is kept until it has a quarter of its life left (or 15 minutes), and renewed in the background
  from half of it on. Cloudflare ends a call whose credential expires, unless the browser has got another one by
  then. Failures are kept for 5 seconds, growing to 60.

  Errors: `{:not_configured, option}`, `{:config, text}`, `{:http_error, status}` (401 and 403: the token is
  wrong; 404: the key id), `:not_json`, `:bad_answer`, `:no_servers`, `:no_credentials`, `:no_relays`, and those of
  `t:Cromulent.Turn.Http.reason/0` and of waiting for them: `:timeout`, `:circuit_open` (the account has
  failed five times in a row; asked again after 30 seconds), `:overloaded`.

  Source: Cloudflare Realtime documentation, "Generate credentials" and "FAQ" of TURN service.
  """

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.{Broker, Http, Option, Provider, Rest}

  @url "https://rtc.live.cloudflare.com"
  @ttl 3600
  @ttl_most 172_800

  @type error :: Provider.service_error()

  @doc "The ICE servers of a user: a string, or what `to_string/1` makes one of."
  @impl true
  @spec get_ice_servers(term(), keyword()) :: {:ok, [Provider.ice_server()]} | {:error, error()}
  def get_ice_servers(user_id, opts \\ []), do: Provider.servers(offer(user_id, opts))

  @doc "The same, and when the credentials expire, by the lifetime that was asked for."
  @impl true
  @spec offer(term(), keyword()) :: {:ok, Provider.offer()} | {:error, error()}
  def offer(user_id, opts) do
    with {:ok, account} <- account(opts),
         {:ok, ttl} <- Option.default(:ttl, opts, @ttl),
         {:ok, shared?} <- Option.default(:cloudflare_shared, opts, false),
         {:ok, user} <- Rest.user_text(user_id),
         {:ok, bound} <- Http.timeout(opts) do
      ttl = min(ttl, @ttl_most)
      key = {account.name, if(shared?, do: :shared, else: {:user, user}), ttl}
      Broker.fetch(key, account.name, bound, &generate(account, ttl, opts, &1))
    end
  end

  @doc """
  Revokes the credential of a username, which ends its calls, and forgets what was kept of it.

  Takes at most `http_timeout`. `{:error, :not_found}` when Cloudflare has no such credential.
  """
  @spec revoke(String.t(), keyword()) :: :ok | {:error, error() | :not_found}
  def revoke(username, opts \\ []) when is_binary(username) do
    with {:ok, account} <- account(opts) do
      result =
        account
        |> call(:revoke, "credentials/" <> encode(username) <> "/revoke", nil)
        |> Rest.call(opts)

      _ = Broker.drop(&Rest.of?(&1, username))
      revoked(result)
    end
  end

  # 204 No Content.
  defp revoked({:ok, _any}), do: :ok
  defp revoked({:error, {:http_error, 404}, _verdict}), do: {:error, :not_found}
  defp revoked({:error, reason, _verdict}), do: {:error, reason}

  defp account(opts) do
    with {:ok, url} <- Option.default(:cloudflare_url, opts, @url),
         {:ok, key_id} <- Option.required(:cloudflare_key_id, opts),
         {:ok, token} <- Option.required(:cloudflare_api_token, opts) do
      name = {__MODULE__, url, Broker.digest({key_id, token})}
      {:ok, %{name: name, url: url, key_id: key_id, token: token}}
    end
  end

  defp generate(account, ttl, opts, ms) do
    # Before the request: the credential cannot expire earlier than that.
    expires_at = System.os_time(:second) + ttl
    call = call(account, :generate, "credentials/generate-ice-servers", ttl: ttl)

    with {:ok, answer} <- Rest.call(call, opts, ms),
         {:ok, servers} <- servers(answer),
         do: Rest.offer(servers, expires_at)
  end

  defp call(account, operation, path, body) do
    call = %{
      provider: :cloudflare,
      operation: operation,
      method: :post,
      url: account.url <> "/v1/turn/keys/" <> encode(account.key_id) <> "/" <> path,
      headers: [{"authorization", "Bearer " <> account.token}]
    }

    if body, do: Map.put(call, :body, body), else: call
  end

  defp encode(text), do: URI.encode(text, &URI.char_unreserved?/1)

  defp servers(%{"iceServers" => servers}) when is_list(servers),
    do: {:ok, for(server <- servers, is_map(server), do: usable(server))}

  defp servers(%{"iceServers" => %{} = server}), do: {:ok, [usable(server)]}
  defp servers(_other), do: {:error, :bad_answer, :answered}

  defp usable(%{"urls" => urls} = server),
    do: %{
      server
      | "urls" => for(url <- List.wrap(urls), is_binary(url), not port_53?(url), do: url)
    }

  defp usable(server), do: server

  defp port_53?(url), do: url =~ ~r/:53(\?|\z)/
end
