defmodule Cromulent.Turn.PlugTest do
  # The plug under real Plug and Bandit, asked by HTTP. Both are the application's to bring: where they are
  # not loaded, these tests are skipped, and Cromulent.Turn.RestApiTest has all that is decided.
  use ExUnit.Case, async: true

  @compile {:no_warn_undefined, [Plug.Conn, Bandit, ThousandIsland]}

  alias Cromulent.Turn.{Credentials, Json, RestApi}

  @bandit? Code.ensure_loaded?(Plug.Conn) and Code.ensure_loaded?(Bandit)
  @http [skip: if(not @bandit?, do: "Plug and Bandit are not dependencies of this library")]
  @secret "a secret of this test's own"
  @url "turn:192.0.2.1:3478?transport=udp"

  # What a host's callback may look like: a token, or the draft's API key.
  def authorize(conn) do
    case {Plug.Conn.get_req_header(conn, "authorization"), conn.query_params} do
      {["Bearer alice's token"], _} -> {:ok, "alice", ttl: 120}
      {_, %{"key" => "bob's key"}} -> {:ok, "bob"}
      {_, %{"key" => "banned"}} -> {:error, 403}
      {_, %{"key" => "bug"}} -> raise "hunter2"
      _ -> :error
    end
  end

  defmodule Outer do
    # As an endpoint has it: other plugs before, which say things of their own.
    @compile {:no_warn_undefined, Plug.Conn}
    def init(opts), do: Cromulent.Turn.Plug.init(opts)

    def call(conn, config) do
      conn = Plug.Conn.put_resp_header(conn, "vary", "cookie")
      conn = Cromulent.Turn.Plug.call(conn, config)
      true = conn.halted
      conn
    end
  end

  defp serve(opts \\ []) do
    {:ok, _} = Application.ensure_all_started(:bandit)

    ice = [provider: :coturn, turn_urls: [@url], secret: @secret, stun_urls: []]
    opts = Keyword.merge([authorize: {__MODULE__, :authorize}, ice: ice], opts)
    plug = {Outer, opts}
    opts = [plug: plug, ip: {127, 0, 0, 1}, port: 0, startup_log: false]
    server = start_supervised!({Bandit, opts})
    {:ok, {_ip, port}} = ThousandIsland.listener_info(server)
    port
  end

  # A request as it is on the wire: clients of others mend it, and httpc waits for Retry-After.
  defp ask(method, path, port, headers \\ []) do
    body = if method == "POST", do: "service=stun", else: ""
    form = {"content-type", "application/x-www-form-urlencoded"}
    own = [form, {"host", "localhost"}, {"connection", "close"}]
    length = {"content-length", byte_size(body)}
    lines = for {name, value} <- [length | own] ++ headers, do: "#{name}: #{value}\r\n"

    {:ok, socket} = :gen_tcp.connect({127, 0, 0, 1}, port, [:binary, active: false])
    :ok = :gen_tcp.send(socket, ["#{method} #{path} HTTP/1.1\r\n", lines, "\r\n", body])
    answer = receive_all(socket, "")
    :gen_tcp.close(socket)

    [head, body] = String.split(answer, "\r\n\r\n", parts: 2)
    ["HTTP/1.1 " <> <<status::binary-size(3)>> <> _ | headers] = String.split(head, "\r\n")
    headers = for line <- headers, do: line |> String.split(": ", parts: 2) |> List.to_tuple()
    {String.to_integer(status), headers, if(body == "", do: nil, else: decode!(body))}
  end

  defp receive_all(socket, received) do
    case :gen_tcp.recv(socket, 0, 10_000) do
      {:ok, more} -> receive_all(socket, received <> more)
      {:error, :closed} -> received
    end
  end

  defp decode!(body) do
    {:ok, value} = Json.decode(body)
    value
  end

  defp header(headers, name), do: for({^name, value} <- headers, do: value)

  @token {"authorization", "Bearer alice's token"}

  @tag @http
  test "gives credentials that hold, by GET and POST, to whom authorize knows" do
    port = serve()

    for method <- ["GET", "POST"] do
      assert {200, headers, reply} = ask(method, "/?service=turn&username=admin", port, [@token])
      assert header(headers, "cache-control") == ["no-store"]
      assert header(headers, "content-type") == ["application/json"]
      assert %{"uris" => [@url], "ttl" => ttl, "username" => name, "password" => password} = reply
      assert ttl in 100..120
      assert name =~ ~r/^\d+:alice$/
      assert Credentials.verify(name, password, @secret) == :ok
    end

    assert {200, _, %{"username" => name}} = ask("GET", "/?service=turn&key=bob%27s+key", port)
    assert name =~ ~r/^\d+:bob$/
  end

  @tag @http
  test "gives a list for RTCPeerConnection" do
    port = serve()

    for {query, headers} <- [{"&format=ice", []}, {"", [{"accept", RestApi.ice_type()}]}] do
      assert {200, _, %{"iceServers" => servers, "expiresAt" => expires_at}} =
               ask("GET", "/?service=turn" <> query, port, [@token | headers])

      assert %{"username" => name, "credential" => password} = List.last(servers)
      assert name == "#{expires_at}:alice"
      assert Credentials.verify(name, password, @secret) == :ok
    end
  end

  @tag @http
  test "refuses" do
    port = serve()

    assert {401, headers, %{"error" => "unauthorized"}} = ask("GET", "/?service=turn", port)
    assert header(headers, "www-authenticate") == ["Bearer"]

    for {method, query, status, code} <- [
          {"GET", "?service=turn&key=banned", 403, "forbidden"},
          {"GET", "?service=turn&key=bug", 500, "internal_error"},
          {"GET", "", 400, "missing_service"},
          {"GET", "?service=%zz", 404, "unknown_service"},
          {"GET", "?service=%ff", 400, "bad_query"},
          {"GET", "?service[]=turn", 404, "unknown_service"},
          {"GET", "?service=stun", 404, "unknown_service"},
          # Parameters are those of the URL.
          {"POST", "", 400, "missing_service"},
          {"DELETE", "?service=turn", 405, "method_not_allowed"},
          {"OPTIONS", "?service=turn", 405, "method_not_allowed"}
        ] do
      assert {^query, {^status, _, %{"error" => ^code}}} =
               {query, ask(method, "/" <> query, port)}
    end
  end

  @tag @http
  test "gives no credentials where there are none" do
    port = serve(ice: [provider: :stun])
    path = "/?service=turn"
    assert {503, headers, %{"error" => "no_relay"}} = ask("GET", path, port, [@token])
    assert [_seconds] = header(headers, "retry-after")

    assert {200, _, %{"iceServers" => [_ | _]}} =
             ask("GET", path <> "&format=ice", port, [@token])
  end

  @tag @http
  test "answers other origins, beside what other plugs say in Vary" do
    origin = {"origin", "https://app.example.org"}
    port = serve(origins: ["https://app.example.org"])
    path = "/?service=turn"

    assert {200, headers, _} = ask("GET", path, port, [@token, origin])
    assert header(headers, "access-control-allow-origin") == ["https://app.example.org"]
    assert Enum.sort(header(headers, "vary") -- ["accept-encoding"]) == ["cookie", "origin"]

    assert {204, headers, nil} = ask("OPTIONS", path, port, [origin])
    assert header(headers, "access-control-allow-methods") == ["GET, POST"]

    assert {200, headers, _} =
             ask("GET", path, port, [@token, {"origin", "https://evil.example"}])

    assert header(headers, "access-control-allow-origin") == []
  end

  test "wants to know who decides, when it is plugged in" do
    assert_raise ArgumentError, ~r/Cromulent.Turn.Plug needs authorize/, fn ->
      Cromulent.Turn.Plug.init([])
    end

    config = Cromulent.Turn.Plug.init(authorize: &__MODULE__.authorize/1)
    # Routers keep it in the compiled code.
    assert {^config, _} = config |> Macro.escape() |> Code.eval_quoted()
  end
end
