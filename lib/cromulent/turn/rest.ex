defmodule Cromulent.Turn.Rest do
  @moduledoc false
  # What the providers with a REST API share: the options that name an account, one call with JSON both
  # ways, its event, and what a failure says about the provider.

  alias Cromulent.Turn.{Broker, Http, Json, Payload, Provider, Telemetry}

  @type call :: %{
          required(:provider) => atom(),
          required(:operation) => atom(),
          required(:method) => Http.method(),
          required(:url) => String.t(),
          optional(:headers) => Http.headers(),
          optional(:body) => keyword()
        }

  @typedoc """
  Why a call brought nothing: `{:http_error, status}` for each status but 2xx, `:not_json`, or the
  reason of `t:Cromulent.Turn.Http.reason/0`. Nothing of it is the provider's text.
  """
  @type reason :: {:http_error, 100..599} | :not_json | Http.reason()

  # RFC 9110 §10.2.3, ms. Without a number there, the breaker's own pause does.
  @retry_after_most 600

  @doc """
  Makes a call, within the time of the options and no more than `within` ms. An answer without a body is nil.

  The verdict is that of `t:Cromulent.Turn.Broker.landing/0`: transport errors, 5xx and 429 are the
  provider's fault.
  """
  @spec call(call(), keyword(), pos_integer() | nil) ::
          {:ok, Json.value()}
          | {:error, reason() | {:config, String.t()},
             :answered | :failed | {:failed, non_neg_integer()}}
  def call(call, opts, within \\ nil) do
    started = System.monotonic_time(:millisecond)
    body = if call[:body], do: Json.encode(call.body), else: ""
    options = if within, do: Keyword.put(opts, :within, within), else: opts
    answer = Http.request(call.method, call.url, headers(call), body, options)
    result = read(answer)
    tell(call, System.monotonic_time(:millisecond) - started, answer, result)
    result
  end

  defp headers(call) do
    content = if call[:body], do: [{"content-type", "application/json"}], else: []
    [{"accept", "application/json"}] ++ content ++ Map.get(call, :headers, [])
  end

  defp read({:ok, %{status: status, body: ""}}) when status in 200..299, do: {:ok, nil}

  defp read({:ok, %{status: status, body: body}}) when status in 200..299 do
    with {:error, _} <- Json.decode(body), do: {:error, :not_json, :answered}
  end

  defp read({:ok, %{status: status} = response}),
    do: {:error, {:http_error, status}, verdict(response)}

  defp read({:error, {:config, _} = reason}), do: {:error, reason, :answered}

  # The application's own doing.
  defp read({:error, reason}) when reason in [:not_available, :crashed],
    do: {:error, reason, :answered}

  defp read({:error, reason}), do: {:error, reason, :failed}

  defp verdict(%{status: status} = response) when status in [429, 503] do
    with {_, value} <- List.keyfind(Map.get(response, :headers, []), "retry-after", 0),
         {seconds, ""} when seconds >= 0 <- Integer.parse(value) do
      {:failed, min(seconds, @retry_after_most) * 1000}
    else
      _ -> :failed
    end
  end

  defp verdict(%{status: status}), do: if(status >= 500, do: :failed, else: :answered)

  # Not the URL, which has keys in it.
  defp tell(call, duration, answer, result) do
    status = with {:ok, %{status: status}} <- answer, do: status, else: (_ -> nil)
    outcome = with {:error, reason, _verdict} <- result, do: outcome(reason), else: (_ -> :ok)
    metadata = %{provider: call.provider, operation: call.operation}
    metadata = Map.merge(metadata, %{status: status, outcome: outcome})
    Telemetry.execute([:provider, :request], %{duration_ms: duration}, metadata)
  end

  defp outcome({:config, _text}), do: :config
  defp outcome(reason), do: reason

  # ---- options ----

  @doc "The text of a user id: UTF-8, of a length that the relay's usernames could have too."
  @spec user_text(term()) :: {:ok, String.t()} | {:error, :bad_user_id}
  def user_text(user_id) do
    text = to_string(user_id)

    if String.printable?(text) and byte_size(text) <= 490,
      do: {:ok, text},
      else: {:error, :bad_user_id}
  rescue
    # String.Chars may be implemented by anybody.
    _ -> {:error, :bad_user_id}
  end

  # ---- answers ----

  @doc "What is kept of a provider's servers: an offer with a relay in it, or an error."
  @spec offer(term(), pos_integer() | nil) :: Broker.landing()
  def offer(servers, expires_at) do
    case Payload.build(servers, max_ice_servers: 32) do
      [_ | _] = entries -> offer_entries(entries, servers, expires_at)
      [] -> no_servers(servers)
    end
  end

  defp offer_entries(entries, servers, expires_at) do
    if Enum.any?(entries, &is_map_key(&1, :credential)),
      do: {:ok, %{ice_servers: entries, expires_at: expires_at}, expires_at},
      else: no_servers(servers)
  end

  defp no_servers(servers) do
    with {:ok, _only_stun} <- Payload.read(servers),
         do: {:error, :no_relays, :answered},
         else: ({:error, reason} -> {:error, reason, :answered})
  end

  @doc "Whether an offer has credentials of this username."
  @spec of?(Provider.offer(), String.t()) :: boolean()
  def of?(%{ice_servers: servers}, username), do: Enum.any?(servers, &(&1[:username] == username))
end
