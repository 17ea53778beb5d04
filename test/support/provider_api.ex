defmodule Cromulent.Turn.ProviderApi do
  @moduledoc false
  # What Metered's and Cloudflare's APIs answer, as their documents have it, and how they fail.

  alias Cromulent.Turn.Json

  @doc "Metered's API for an account with these keys; credentials are numbered."
  def metered(secret_key, opts \\ []) do
    counter = :counters.new(1, [])

    fn request ->
      case {request.method, request.path, request.query} do
        {"POST", "/api/v1/turn/credential", %{"secretKey" => ^secret_key}} ->
          create(request, counter)

        {"DELETE", "/api/v1/turn/credential", %{"secretKey" => ^secret_key}} ->
          delete(request)

        {_method, "/api/v1/turn/credential", _query} ->
          {401, ~s({"error":"Invalid API Key"})}

        {"GET", "/api/v1/turn/credentials", %{"apiKey" => "key-" <> n}} ->
          {200, opts |> Keyword.get(:shape, &metered_array/1) |> apply([n])}

        {"GET", "/api/v1/turn/credentials", %{"apiKey" => _wrong}} ->
          {401, ~s({"error":"Invalid API Key"})}

        {"GET", "/api/v1/turn/credentials", _query} ->
          {400, ~s({"error":"Please specify API Key"})}
      end
    end
  end

  defp create(request, counter) do
    {:ok, %{"expiryInSeconds" => seconds, "label" => label}} = Json.decode(request.body)
    :counters.add(counter, 1, 1)
    n = :counters.get(counter, 1)

    {200,
     Json.encode(%{
       username: "user-#{n}",
       password: "password-#{n}",
       expiryInSeconds: seconds,
       label: label,
       apiKey: "key-#{n}"
     })}
  end

  defp delete(request) do
    case Json.decode(request.body) do
      {:ok, %{"username" => "user-" <> _}} ->
        {200, ~s({"success":true,"message":"credential removed"})}

      {:ok, _other} ->
        {200, ~s({"success":false,"message":"credential not found"})}
    end
  end

  @doc "The array that the v1 call gives."
  def metered_array(n), do: Json.encode(metered_servers(n))

  def metered_servers(n) do
    turn =
      for url <- [
            "turn:standard.relay.metered.ca:80",
            "turn:standard.relay.metered.ca:80?transport=tcp",
            "turn:standard.relay.metered.ca:443",
            "turns:standard.relay.metered.ca:443?transport=tcp"
          ],
          do: %{urls: url, username: "user-#{n}", credential: "password-#{n}"}

    [%{urls: "stun:stun.relay.metered.ca:80"} | turn]
  end

  @doc "The rows of the v2 list: without URLs, with `password`, with what has expired."
  def metered_list(n) do
    Json.encode(%{
      data: [
        %{username: "gone", password: "gone", apiKey: "k", expired: true},
        %{username: "user-#{n}", password: "password-#{n}", apiKey: "k", expired: false},
        %{username: "another", password: "another", apiKey: "k", expired: false}
      ],
      pagination: %{total_records: 3, current_page: 1, total_pages: 1, next_page: nil}
    })
  end

  @doc "Cloudflare's API for this key and token; `status` and `shape` of its answer may be chosen."
  def cloudflare(key_id, token, opts \\ []) do
    counter = :counters.new(1, [])
    base = "/v1/turn/keys/#{key_id}/credentials/"
    bearer = "Bearer " <> token

    fn request ->
      case {request.method, String.replace_prefix(request.path, base, ""), request.headers} do
        {"POST", "generate-ice-servers", %{"authorization" => ^bearer}} ->
          :counters.add(counter, 1, 1)
          shape = Keyword.get(opts, :shape, &cloudflare_array/1)
          {Keyword.get(opts, :status, 201), shape.(:counters.get(counter, 1))}

        {"POST", "user-" <> _revoke, %{"authorization" => ^bearer}} ->
          {:raw, "HTTP/1.1 204 No Content\r\n\r\n"}

        {"POST", _other, %{"authorization" => ^bearer}} ->
          {404, ~s({"errors":[{"code":10404,"message":"not found"}]})}

        _unauthorized ->
          {401, ~s({"errors":[{"code":10000,"message":"Authentication error"}]})}
      end
    end
  end

  @cloudflare_turn [
    "turn:turn.cloudflare.com:3478?transport=udp",
    "turn:turn.cloudflare.com:53?transport=udp",
    "turn:turn.cloudflare.com:443?transport=udp",
    "turn:turn.cloudflare.com:3478?transport=tcp",
    "turn:turn.cloudflare.com:80?transport=tcp",
    "turns:turn.cloudflare.com:5349?transport=tcp",
    "turns:turn.cloudflare.com:443?transport=tcp"
  ]

  @doc "As `generate-ice-servers` answers."
  def cloudflare_array(n) do
    stun = %{urls: ["stun:stun.cloudflare.com:3478", "stun:stun.cloudflare.com:53"]}
    turn = %{urls: @cloudflare_turn, username: "user-#{n}", credential: "password-#{n}"}
    Json.encode(%{iceServers: [stun, turn]})
  end

  @doc "As the older `generate` answers: one object with all URLs."
  def cloudflare_object(n) do
    urls = ["stun:stun.cloudflare.com:3478" | @cloudflare_turn]

    Json.encode(%{
      iceServers: %{urls: urls, username: "user-#{n}", credential: "password-#{n}"}
    })
  end

  @doc """
  How an API fails: name, what the server replies to everything, and what comes of it. The reason is a
  term, or a list of those that are right.
  """
  def failures do
    html = "<html><body>Just a moment...</body></html>"
    nulls = ~s([{"urls":null,"username":null,"credential":null},null])

    [
      {"a bad key", {401, ~s({"error":"Invalid API Key"})}, {:http_error, 401}},
      {"a wrong plan", {400, ~s({"message":"api not available under free plan"})},
       {:http_error, 400}},
      {"a forbidden call", {403, ""}, {:http_error, 403}},
      {"500", {500, "Internal Server Error"}, {:http_error, 500}},
      {"502 in HTML", {502, html}, {:http_error, 502}},
      {"429", {429, [{"Retry-After", "2"}], ~s({"error":"slow down"})}, {:http_error, 429}},
      {"503 to be retried", {503, [{"Retry-After", "1"}], ""}, {:http_error, 503}},
      {"no answer", :hang, :timeout},
      {"an answer in drops", {:trickle, "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{"},
       :timeout},
      {"HTML with 200", {200, html}, :not_json},
      {"half of a JSON text", {200, ~s([{"urls":"stun:)}, :not_json},
      {"nothing with 200", {200, ""}, :bad_answer},
      {"JSON of another shape", {200, ~s({"hello":"world"})}, :bad_answer},
      {"a number", {200, "42"}, :bad_answer},
      {"an empty list", {200, ~s([])}, [:bad_answer, :no_servers]},
      {"an empty list of iceServers", {200, ~s({"iceServers":[]})}, [:bad_answer, :no_servers]},
      {"null fields", {200, nulls}, [:bad_answer, :no_servers]},
      {"null fields in iceServers", {200, ~s({"iceServers":#{nulls}})},
       [:bad_answer, :no_servers]},
      {"TURN without credentials",
       {200, ~s({"iceServers":[{"urls":"turn:turn.example.org","username":null}]})},
       [:bad_answer, :no_credentials]},
      {"STUN only", {200, ~s({"iceServers":[{"urls":"stun:stun.example.org"}]})},
       [:bad_answer, :no_relays]},
      {"a redirect", {302, [{"Location", "http://127.0.0.1:1/"}], ""}, {:http_error, 302}},
      {"a huge body", {:huge, 200}, :too_large},
      {"a huge body of an error", {:huge, 500}, :too_large},
      {"a body without an end", {:endless, 200}, :too_large},
      {"a connection that is closed", {:raw, ""}, :closed},
      {"a connection that is closed within the body",
       {:raw, "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[{"}, :closed},
      {"something else than HTTP", {:raw, "SSH-2.0-OpenSSH\r\n\r\n"}, :bad_response}
    ]
  end
end
