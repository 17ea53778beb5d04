defmodule Cromulent.Turn.RestApi do
  @moduledoc false
  # What Cromulent.Turn.Plug answers, without Plug: a request as a map in, status, headers and body out.
  # draft-uberti-behave-turn-rest-00, and CORS as the Fetch standard has it.

  alias Cromulent.Turn
  alias Cromulent.Turn.{Json, Telemetry}

  # The options of a provider may have its secret in them.
  @derive {Inspect, except: [:ice]}
  @enforce_keys [:authorize]
  defstruct @enforce_keys ++
              [
                origins: [],
                allow_headers: ["authorization", "content-type"],
                challenge: "Bearer",
                ice: []
              ]

  @typedoc "The options of the plug, checked."
  @type t :: %__MODULE__{
          authorize: (term() -> verdict()) | {module(), atom()},
          origins: [String.t()],
          allow_headers: [String.t()],
          challenge: String.t(),
          ice: keyword()
        }

  @typedoc "What the host's callback says."
  @type verdict ::
          {:ok, user_id :: term()}
          | {:ok, user_id :: term(), ice_options :: keyword()}
          | :error
          | {:error, status :: 400..599}

  @typedoc """
  What matters of a request. `query` is `:error` where it cannot be decoded; header values are nil where
  there are none.
  """
  @type request :: %{
          method: String.t(),
          query: %{optional(String.t()) => term()} | :error,
          accept: String.t() | nil,
          origin: String.t() | nil
        }

  @type response ::
          {status :: 200..599, headers :: [{String.t(), String.t()}], body :: String.t()}

  @typep answer :: {200..599, [{String.t(), String.t()}], keyword() | nil}

  @ice_type "application/vnd.cromulent.ice+json"
  @methods "GET, POST"
  # Seconds: when to ask again where a provider does not say how long credentials hold.
  @unknown_ttl 3_600
  # Seconds: a provider that failed is tried again after a while.
  @retry_after "30"
  # Seconds: how long a browser may remember the answer to a preflight.
  @preflight_age "600"

  @doc "The media type that asks for the list of ICE servers instead of the draft's reply."
  @spec ice_type() :: String.t()
  def ice_type, do: @ice_type

  @doc "The checked options of the plug. Raises `ArgumentError` for wrong ones."
  @spec new!(keyword()) :: t()
  def new!(opts) do
    unless Keyword.keyword?(opts), do: invalid!("takes a keyword list of options")
    unless opts[:authorize], do: missing_authorize!()
    Enum.each(opts, &check!/1)
    struct!(__MODULE__, opts)
  end

  defp check!({:authorize, callback}) when is_function(callback, 1), do: :ok

  defp check!({:authorize, {module, function}}) when is_atom(module) and is_atom(function),
    do: :ok

  defp check!({:authorize, _other}) do
    invalid!(
      "authorize must be a function of the conn or {module, function}, which says who the user is; " <>
        "credentials for nobody in particular are not given out"
    )
  end

  defp check!({:origins, origins}) do
    # Exact ones: what is allowed here may read credentials.
    unless list_of?(origins, ~r{\A[a-z][a-z0-9+.-]*://[^/*?#\s]+\z}),
      do:
        invalid!(
          ~s(origins must be a list such as ["https://app.example.org"], without * or path)
        )
  end

  defp check!({:allow_headers, names}) do
    unless list_of?(names, ~r/\A[a-z0-9-]+\z/),
      do: invalid!(~s(allow_headers must be a list of names in lower case, such as ["x-api-key"]))
  end

  defp check!({:challenge, challenge}) do
    unless is_binary(challenge) and challenge =~ ~r/\A[!-~][ -~]*\z/,
      do: invalid!(~s(challenge must be a value of WWW-Authenticate, such as "Bearer"))
  end

  defp check!({:ice, opts}) do
    unless Keyword.keyword?(opts),
      do: invalid!("ice must be options of Cromulent.Turn.payload/2, such as [ttl: 600]")
  end

  defp check!({name, _value}) do
    known = "authorize, origins, allow_headers, challenge, ice"
    invalid!("there is no option #{name}; there are #{known}")
  end

  defp list_of?(values, pattern) do
    is_list(values) and Enum.all?(values, &(is_binary(&1) and &1 =~ pattern))
  end

  @spec missing_authorize!() :: no_return()
  defp missing_authorize! do
    invalid!(
      "needs authorize: a function of the conn, or {module, function}, that gives {:ok, user_id} to users " <>
        "who may join a call, and :error to everybody else"
    )
  end

  @spec invalid!(String.t()) :: no_return()
  defp invalid!(text), do: raise(ArgumentError, "Cromulent.Turn.Plug " <> text)

  @doc """
  The answer to a request. `authorize` asks the host's callback; it is called for requests that are right
  in everything else, at most once. `payload` mints (`Cromulent.Turn.payload/2`).
  """
  @spec answer(request(), (() -> verdict()), t(), (term(), keyword() -> Turn.payload())) ::
          response()
  def answer(request, authorize, %__MODULE__{} = config, payload \\ &Turn.payload/2) do
    {status, headers, body} =
      with {:ok, shape} <- shape(request, config),
           {:ok, user_id, opts} <- user(authorize, config) do
        user_id |> payload.(Keyword.merge(config.ice, opts)) |> reply(shape)
      end

    {status, headers ++ common(body) ++ cors(request, config), encode(body)}
  end

  defp encode(nil), do: ""
  defp encode(body), do: Json.encode(body)

  defp common(nil), do: [{"cache-control", "no-store"}]

  defp common(_body) do
    [
      {"cache-control", "no-store"},
      {"content-type", "application/json"},
      {"x-content-type-options", "nosniff"}
    ]
  end

  # ---- what is asked ----

  @spec shape(request(), t()) :: {:ok, :rest | :ice} | answer()
  defp shape(%{method: "OPTIONS"} = request, %{origins: [_ | _]} = config),
    do: preflight(request, config)

  defp shape(%{method: method}, _config) when method not in ["GET", "POST"],
    do: error(405, "method_not_allowed", [{"allow", @methods}])

  defp shape(%{query: :error}, _config), do: error(400, "bad_query")

  # Parameters are those of the URL, for POST as well (draft, 2.1).
  defp shape(%{query: query} = request, _config) do
    case {query["service"], query["format"]} do
      {nil, _} -> error(400, "missing_service")
      {"turn", nil} -> {:ok, if(accepts_ice?(request.accept), do: :ice, else: :rest)}
      {"turn", "ice"} -> {:ok, :ice}
      {"turn", "rest"} -> {:ok, :rest}
      {"turn", _} -> error(400, "unknown_format")
      {_, _} -> error(404, "unknown_service")
    end
  end

  defp accepts_ice?(nil), do: false

  defp accepts_ice?(accept) do
    accept
    |> String.downcase()
    |> String.split(",")
    |> Enum.any?(&(&1 |> String.split(";") |> hd() |> String.trim() == @ice_type))
  end

  defp preflight(request, config) do
    if request.origin in config.origins do
      {204,
       [
         {"access-control-allow-methods", @methods},
         {"access-control-allow-headers", Enum.join(config.allow_headers, ", ")},
         {"access-control-max-age", @preflight_age}
       ], nil}
    else
      error(403, "origin_not_allowed")
    end
  end

  defp cors(_request, %{origins: []}), do: []

  defp cors(%{origin: origin}, %{origins: origins}) do
    allow = if origin in origins, do: [{"access-control-allow-origin", origin}], else: []
    allow ++ [{"vary", "origin"}]
  end

  # ---- who asks ----

  # The `username` of the query is no identity: whoever asks writes it.
  defp user(authorize, config) do
    case authorize.() do
      {:ok, user_id} -> known(user_id, [], config)
      {:ok, user_id, opts} -> known(user_id, opts, config)
      :error -> refused(401, config)
      {:error, status} when status in 400..599 -> refused(status, config)
      _other -> known(nil, [], config)
    end
  rescue
    exception -> failed(exception.__struct__, raised(exception, __STACKTRACE__), config)
  catch
    kind, _reason -> failed(kind, "ended with a #{kind}#{place(__STACKTRACE__)}", config)
  end

  # A user who is nobody is a mistake of the callback's, such as an assign that was never set.
  defp known(user_id, opts, config) do
    if user_id not in [nil, ""] and Keyword.keyword?(opts),
      do: {:ok, user_id, opts},
      else: failed(:bad_verdict, "gave neither a user nor an error", config)
  end

  defp refused(401, config),
    do: error(401, "unauthorized", [{"www-authenticate", config.challenge}])

  defp refused(403, _config), do: error(403, "forbidden")
  defp refused(429, _config), do: error(429, "too_many_requests")
  defp refused(status, _config), do: error(status, "refused")

  # Without the message, the values or the arguments: a token may be among them.
  defp failed(cause, what, config) do
    Telemetry.once(:error, {:rest_api, config.authorize, cause}, fn ->
      "TURN REST API: authorize #{what}; the client got a 500"
    end)

    error(500, "internal_error")
  end

  defp raised(exception, stacktrace),
    do: "raised #{inspect(exception.__struct__)}#{place(stacktrace)}"

  defp place([{module, function, arguments, location} | _]) do
    arity = if is_list(arguments), do: length(arguments), else: arguments
    " in " <> Exception.format_stacktrace_entry({module, function, arity, location})
  end

  defp place(_stacktrace), do: ""

  # ---- what is given ----

  @spec reply(Turn.payload(), :rest | :ice) :: answer()
  defp reply(%{ice_servers: servers, expires_at: expires_at}, :ice),
    do: {200, [], [iceServers: servers, expiresAt: expires_at]}

  # One username and one password, and the URLs that they are for. The draft knows no reply without them,
  # so where there are only STUN servers there is none.
  defp reply(%{ice_servers: servers, expires_at: expires_at}, :rest) do
    case Enum.find(servers, &match?(%{username: _, credential: _}, &1)) do
      nil ->
        error(503, "no_relay", [{"retry-after", @retry_after}])

      %{username: username, credential: password} ->
        uris = for %{username: ^username, credential: ^password, urls: url} <- servers, do: url

        ttl = ttl(expires_at)
        {200, [], [username: username, password: password, ttl: ttl, uris: uris]}
    end
  end

  defp ttl(nil), do: @unknown_ttl
  defp ttl(expires_at), do: max(expires_at - System.os_time(:second), 0)

  @spec error(400..599, String.t(), [{String.t(), String.t()}]) :: answer()
  defp error(status, code, headers \\ []), do: {status, headers, [error: code]}
end
