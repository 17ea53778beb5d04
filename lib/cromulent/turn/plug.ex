defmodule Cromulent.Turn.Plug do
  @moduledoc """
  Credentials over HTTP, for clients that are not on a Phoenix channel: the TURN REST API
  (draft-uberti-behave-turn-rest-00).

      # router.ex
      scope "/turn" do
        pipe_through :api
        forward "/", Cromulent.Turn.Plug, authorize: {MyAppWeb.Turn, :authorize}
      end

      defmodule MyAppWeb.Turn do
        def authorize(conn) do
          with ["Bearer " <> token] <- Plug.Conn.get_req_header(conn, "authorization"),
               {:ok, user_id} <- Phoenix.Token.verify(conn, "user socket", token, max_age: 86_400) do
            {:ok, user_id}
          else
            _ -> :error
          end
        end
      end

  `GET` or `POST /turn?service=turn` gives

      {"username": "1763712000:42", "password": "...", "ttl": 3600, "uris": ["turn:203.0.113.5:3478?transport=udp"]}

  and with `format=ice`, or `Accept: #{Cromulent.Turn.RestApi.ice_type()}`, what `RTCPeerConnection` takes, STUN servers
  included:

      {"iceServers": [{"urls": "stun:..."}, {"urls": "turn:...", "username": "...", "credential": "..."}],
       "expiresAt": 1763712000}

  ## Who gets credentials

  `authorize` is required, and there is no option that lets everybody in: a relay is bandwidth, and a way into
  networks. It is a function of the conn (`&MyApp.turn/1`) or `{module, function}`, and gives

    * `{:ok, user_id}` - credentials for this user; nil and `""` are refused, as a mistake
    * `{:ok, user_id, opts}` - the same, with options of `Cromulent.Turn.payload/2`, such as `ttl: 600`
    * `:error` - 401
    * `{:error, status}` - that status, 400 to 599

  `conn.query_params` is there, so an API key may come as the draft's `key`. The draft's `username` is ignored: whoever asks
  writes it. If it raises, throws or exits, the client gets a 500 without details, and the log a line per minute, without values.

  ## Options

    * `:authorize` - see above
    * `:origins` - web pages that may ask, exactly as browsers write them: `["https://app.example.org"]`; default none.
      Cookies do not come along from another origin: such pages send a token.
    * `:allow_headers` - headers that these pages may send, default `["authorization", "content-type"]`
    * `:challenge` - `WWW-Authenticate` of a 401, default `"Bearer"`
    * `:ice` - options of `Cromulent.Turn.payload/2` for every request

  ## Errors

  `{"error": code}`, never cached, as all replies.

  | status | code | when |
  |---|---|---|
  | 400 | `bad_query`, `missing_service`, `unknown_format` | the query cannot be decoded, has no `service`, or a `format` other than `rest` and `ice` |
  | 401 | `unauthorized` | `authorize` says `:error` |
  | 403 | `forbidden`, `origin_not_allowed` | `authorize` says so; a preflight from an origin that is not listed |
  | 404 | `unknown_service` | `service` is not `turn` |
  | 405 | `method_not_allowed` | with `Allow` |
  | 429, other | `too_many_requests`, `refused` | `authorize` says so |
  | 500 | `internal_error` | `authorize` failed |
  | 503 | `no_relay` | only STUN servers are to be had, and the draft has no reply without a username; with `Retry-After`. With `format=ice` it is a 200 with the STUN servers and `"expiresAt": null` |

  `ttl` is 3600 where the provider does not say how long its credentials hold.

  Plug is not a dependency of this library: the application brings it.
  """

  # It has the callbacks of the behaviour Plug, which cannot be named here: without Plug there would be
  # a warning. Plug itself only looks for init/1 and call/2.

  @compile {:no_warn_undefined, Plug.Conn}

  alias Cromulent.Turn.RestApi

  @doc "Checks the options; `ArgumentError` says what is wrong."
  @spec init(keyword()) :: RestApi.t()
  def init(opts), do: RestApi.new!(opts)

  @doc "Answers the request, and halts."
  @spec call(conn, RestApi.t()) :: conn when conn: map()
  def call(conn, config) do
    {conn, query} = query(conn)
    {status, headers, body} = RestApi.answer(request(conn, query), asker(conn, config), config)

    headers
    |> Enum.reduce(conn, &put_header/2)
    |> Plug.Conn.send_resp(status, body)
    |> Plug.Conn.halt()
  end

  # What hosts and other plugs say in Vary stays.
  defp put_header({"vary", value}, conn),
    do: Plug.Conn.prepend_resp_headers(conn, [{"vary", value}])

  defp put_header({name, value}, conn), do: Plug.Conn.put_resp_header(conn, name, value)

  defp asker(conn, %{authorize: {module, function}}),
    do: fn -> apply(module, function, [conn]) end

  defp asker(conn, %{authorize: authorize}), do: fn -> authorize.(conn) end

  defp query(conn) do
    conn = Plug.Conn.fetch_query_params(conn)
    {conn, conn.query_params}
  rescue
    # Plug.Conn.InvalidQueryError: the client is to blame.
    exception ->
      if Map.get(exception, :plug_status) in [400, 414],
        do: {conn, :error},
        else: reraise(exception, __STACKTRACE__)
  end

  defp request(conn, query) do
    %{
      method: conn.method,
      query: query,
      accept: header(conn, "accept"),
      origin: header(conn, "origin")
    }
  end

  defp header(conn, name) do
    case Plug.Conn.get_req_header(conn, name) do
      [] -> nil
      values -> Enum.join(values, ",")
    end
  end
end
