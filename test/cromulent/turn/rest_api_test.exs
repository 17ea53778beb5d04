defmodule Cromulent.Turn.RestApiTest do
  use ExUnit.Case, async: true

  import ExUnit.CaptureLog

  alias Cromulent.Turn.{Credentials, Json, RestApi}

  @secret "a secret of this test's own"
  @stun %{urls: "stun:192.0.2.1:3478"}
  @urls ["turn:192.0.2.1:3478?transport=udp", "turns:192.0.2.1:5349?transport=tcp"]

  defp config(more), do: RestApi.new!([authorize: fn _conn -> :error end] ++ more)

  defp request(query, more \\ %{}) do
    query = if is_binary(query), do: URI.decode_query(query), else: query
    Map.merge(%{method: "GET", query: query, accept: nil, origin: nil}, more)
  end

  # Real credentials, as the provider coturn and the embedded one make them.
  defp mint(user_id, opts) do
    made = Credentials.generate(user_id, @secret, ttl: opts[:ttl] || 3_600)
    login = %{username: made.username, credential: made.credential}

    %{
      ice_servers: [@stun | for(url <- @urls, do: Map.put(login, :urls, url))],
      expires_at: made.expires_at
    }
  end

  defp stun_only(_user_id, _opts), do: %{ice_servers: [@stun], expires_at: nil}

  defp answer(request, verdict, opts \\ []) do
    {mint, opts} = Keyword.pop(opts, :mint, &mint/2)
    authorize = if is_function(verdict, 0), do: verdict, else: fn -> verdict end
    {status, headers, body} = RestApi.answer(request, authorize, config(opts), mint)
    for {name, value} <- headers, do: assert(name == String.downcase(name) and is_binary(value))
    assert {"cache-control", "no-store"} in headers
    {status, Map.new(headers), if(body == "", do: nil, else: decode!(body))}
  end

  defp decode!(body) do
    {:ok, value} = Json.decode(body)
    value
  end

  defp never, do: fn -> flunk("authorize was asked") end

  describe "the draft's reply" do
    test "has exactly its four members, and credentials that hold" do
      before = System.os_time(:second)
      {200, headers, reply} = answer(request("service=turn"), {:ok, "alice"})
      assert headers["content-type"] == "application/json"

      assert %{"username" => username, "password" => password, "ttl" => ttl, "uris" => uris} =
               reply

      assert map_size(reply) == 4
      assert uris == @urls
      assert ttl in 3_590..3_600
      [expiry, "alice"] = String.split(username, ":")
      assert String.to_integer(expiry) in (before + 3_600)..(before + 3_700)
      assert Credentials.verify(username, password, @secret) == :ok
    end

    test "is the same for POST and for format=rest" do
      for {method, query} <- [{"POST", "service=turn"}, {"GET", "service=turn&format=rest"}] do
        assert {200, _, %{"uris" => @urls}} =
                 answer(request(query, %{method: method}), {:ok, "alice"})
      end
    end

    test "names the user that authorize names, and nobody else" do
      query = "service=turn&username=admin&key=anything&ttl=999999"
      {200, _, reply} = answer(request(query), {:ok, "alice"})
      assert reply["username"] =~ ~r/^\d+:alice$/
      assert reply["ttl"] <= 3_600
    end

    test "has options from the plug, and from authorize above them" do
      ttl = fn verdict, opts ->
        {200, _, reply} = answer(request("service=turn"), verdict, opts)
        reply["ttl"]
      end

      assert ttl.({:ok, "alice"}, ice: [ttl: 120]) in 110..120
      assert ttl.({:ok, "alice", ttl: 60}, ice: [ttl: 120]) in 50..60
    end

    test "holds one username, with the URLs that are its own" do
      several = fn _, _ ->
        %{
          expires_at: nil,
          ice_servers: [
            @stun,
            %{urls: "turn:a.example", username: "a", credential: "1"},
            %{urls: "turn:b.example", username: "b", credential: "2"},
            %{urls: "turns:a.example", username: "a", credential: "1"}
          ]
        }
      end

      assert {200, _,
              %{
                "username" => "a",
                "password" => "1",
                "uris" => ["turn:a.example", "turns:a.example"],
                # Where nobody says how long they hold.
                "ttl" => 3_600
              }} = answer(request("service=turn"), {:ok, "alice"}, mint: several)
    end

    test "never has a negative ttl" do
      past = fn user_id, opts -> %{mint(user_id, opts) | expires_at: 1_000_000_000} end
      {200, _, reply} = answer(request("service=turn"), {:ok, "alice"}, mint: past)
      assert reply["ttl"] == 0
    end

    test "is a 503 where there are STUN servers only" do
      assert {503, %{"retry-after" => seconds}, %{"error" => "no_relay"}} =
               answer(request("service=turn"), {:ok, "alice"}, mint: &stun_only/2)

      assert String.to_integer(seconds) > 0
    end
  end

  describe "the list of ICE servers" do
    test "is what RTCPeerConnection takes, with its expiry" do
      {200, _, reply} = answer(request("service=turn&format=ice"), {:ok, "alice"})
      assert %{"iceServers" => [stun | turn], "expiresAt" => expires_at} = reply
      assert map_size(reply) == 2
      assert stun == %{"urls" => "stun:192.0.2.1:3478"}

      for {server, url} <- Enum.zip(turn, @urls) do
        assert %{"urls" => ^url, "username" => username, "credential" => credential} = server
        assert username == "#{expires_at}:alice"
        assert Credentials.verify(username, credential, @secret) == :ok
      end
    end

    test "is given by Accept too" do
      ice = RestApi.ice_type()

      for accept <- [ice, "text/html, #{String.upcase(ice)};q=0.9, */*"] do
        request = request("service=turn", %{accept: accept})
        assert {200, _, %{"iceServers" => _}} = answer(request, {:ok, "alice"})
      end

      for accept <- ["application/json", "*/*", "", ice <> "x"] do
        request = request("service=turn", %{accept: accept})
        assert {200, _, %{"uris" => _}} = answer(request, {:ok, "alice"})
      end

      both = request("service=turn&format=rest", %{accept: ice})
      assert {200, _, %{"uris" => _}} = answer(both, {:ok, "alice"})
    end

    test "is a 200 with STUN servers where there are no others" do
      assert {200, _, reply} =
               answer(request("service=turn&format=ice"), {:ok, "alice"}, mint: &stun_only/2)

      assert reply == %{
               "iceServers" => [%{"urls" => "stun:192.0.2.1:3478"}],
               "expiresAt" => nil
             }
    end
  end

  describe "a request" do
    test "that is wrong is refused before anybody is asked who it is" do
      for {query, status, code} <- [
            {"", 400, "missing_service"},
            {"username=alice", 400, "missing_service"},
            {:error, 400, "bad_query"},
            {"service=turn&format=xml", 400, "unknown_format"},
            {"service=stun", 404, "unknown_service"},
            {"service=TURN", 404, "unknown_service"},
            {%{"service" => ["turn"]}, 404, "unknown_service"},
            {%{"service" => "turn", "format" => %{"a" => "ice"}}, 400, "unknown_format"}
          ] do
        assert {^status, _, %{"error" => ^code} = error} = answer(request(query), never())
        assert map_size(error) == 1
      end
    end

    test "by another method gets a 405 that says which" do
      for method <- ~w(PUT DELETE PATCH HEAD OPTIONS get) do
        request = request("service=turn", %{method: method})

        assert {405, %{"allow" => "GET, POST"}, %{"error" => "method_not_allowed"}} =
                 answer(request, never())
      end
    end
  end

  describe "authorize" do
    test "refuses, with the status that it wants" do
      for {verdict, status, code} <- [
            {:error, 401, "unauthorized"},
            {{:error, 401}, 401, "unauthorized"},
            {{:error, 403}, 403, "forbidden"},
            {{:error, 402}, 402, "refused"},
            {{:error, 429}, 429, "too_many_requests"},
            {{:error, 503}, 503, "refused"}
          ] do
        mint = fn _, _ -> flunk("minted") end

        assert {^status, headers, %{"error" => ^code}} =
                 answer(request("service=turn"), verdict, mint: mint)

        challenge = if status == 401, do: "Bearer"
        assert headers["www-authenticate"] == challenge
      end

      assert {401, %{"www-authenticate" => "Key realm=\"a\""}, _} =
               answer(request("service=turn"), :error, challenge: "Key realm=\"a\"")
    end

    test "that is nonsense is a 500, and mints nothing" do
      for verdict <- [
            {:ok, nil},
            {:ok, ""},
            {:ok, "alice", :ttl},
            {:ok, "alice", [1]},
            {:ok, nil, ttl: 60},
            {:error, 200},
            {:error, :not_found},
            true,
            nil,
            "alice"
          ] do
        mint = fn _, _ -> flunk("minted for #{inspect(verdict)}") end

        capture_log(fn ->
          assert {500, _, %{"error" => "internal_error"}} =
                   answer(request("service=turn"), verdict, mint: mint)
        end)
      end
    end

    test "that fails is a 500 without details, and one line of the log without values" do
      for {what, fail} <- [
            {"RuntimeError", fn -> raise "the token hunter2" end},
            {"MatchError", fn -> {:ok, _} = Process.get(:nothing, {:error, "hunter2"}) end},
            {"FunctionClauseError", fn -> String.downcase("hunter2", :hunter2) end},
            {"throw", fn -> throw({:token, "hunter2"}) end},
            {"exit", fn -> exit({:token, "hunter2"}) end}
          ] do
        # A cause of its own for each round, whatever other tests logged within this minute.
        config = config(authorize: {__MODULE__, String.to_atom("#{what}_#{unique()}")})
        request = request("service=turn")

        log =
          capture_log(fn ->
            for _ <- 1..3 do
              assert {500, _, body} = RestApi.answer(request, fail, config, &mint/2)
              assert decode!(body) == %{"error" => "internal_error"}
            end
          end)

        assert length(String.split(log, "TURN REST API: authorize")) == 2
        assert log =~ what
        refute log =~ "hunter2"
      end
    end
  end

  defp unique, do: System.unique_integer([:positive])

  describe "another origin" do
    @app "https://app.example.org"
    @origins [origins: [@app, "https://app.example.org:8443"]]

    test "is not let in unless it is named" do
      {200, headers, _} = answer(request("service=turn", %{origin: @app}), {:ok, "alice"})
      refute Enum.any?(headers, fn {name, _} -> name =~ "access-control" or name == "vary" end)
    end

    test "is let in where it is named exactly, errors included" do
      for {query, verdict, status} <- [
            {"service=turn", {:ok, "alice"}, 200},
            {"service=turn", :error, 401},
            {"", :error, 400}
          ] do
        assert {^status, headers, _} = answer(request(query, %{origin: @app}), verdict, @origins)

        assert headers["access-control-allow-origin"] == @app
        assert headers["vary"] == "origin"
        refute headers["access-control-allow-credentials"]
      end

      for origin <- [nil, "null", @app <> ".evil.example", "http://app.example.org", @app <> "/"] do
        {200, headers, _} =
          answer(request("service=turn", %{origin: origin}), {:ok, "alice"}, @origins)

        refute headers["access-control-allow-origin"]
        assert headers["vary"] == "origin"
      end
    end

    test "asks first" do
      request = request("service=turn", %{method: "OPTIONS", origin: @app})
      {204, headers, nil} = answer(request, never(), @origins)
      assert headers["access-control-allow-origin"] == @app
      assert headers["access-control-allow-methods"] == "GET, POST"
      assert headers["access-control-allow-headers"] == "authorization, content-type"
      assert headers["vary"] == "origin"
      refute headers["content-type"]

      {204, headers, nil} = answer(request, never(), [allow_headers: ["x-api-key"]] ++ @origins)
      assert headers["access-control-allow-headers"] == "x-api-key"

      stranger = %{request | origin: "https://evil.example"}

      assert {403, headers, %{"error" => "origin_not_allowed"}} =
               answer(stranger, never(), @origins)

      refute headers["access-control-allow-origin"]
    end
  end

  describe "options" do
    test "need somebody who decides" do
      for opts <- [[], [authorize: nil], [origins: []]] do
        assert_raise ArgumentError, ~r/needs authorize: .*:error to everybody else/, fn ->
          RestApi.new!(opts)
        end
      end

      for authorize <- [:anonymous, true, fn -> {:ok, "alice"} end, {"Mod", :fun}] do
        assert_raise ArgumentError, ~r/for nobody in particular are not given out/, fn ->
          RestApi.new!(authorize: authorize)
        end
      end

      assert %RestApi{} = RestApi.new!(authorize: {__MODULE__, :authorize})
    end

    test "are refused when they are wrong" do
      for {option, reason} <- [
            {{:origins, "https://app.example.org"}, "origins must be"},
            {{:origins, ["*"]}, "origins must be"},
            {{:origins, ["https://*.example.org"]}, "origins must be"},
            {{:origins, ["https://app.example.org/"]}, "origins must be"},
            {{:origins, ["null"]}, "origins must be"},
            {{:allow_headers, ["X-Api-Key"]}, "allow_headers must be"},
            {{:allow_headers, ["a\r\nb"]}, "allow_headers must be"},
            {{:challenge, "Bearer\r\nx: y"}, "challenge must be"},
            {{:challenge, "Bearer\n"}, "challenge must be"},
            {{:origins, ["https://app.example.org\n"]}, "origins must be"},
            {{:challenge, nil}, "challenge must be"},
            {{:ice, %{ttl: 60}}, "ice must be"},
            {{:authorise, nil}, "there is no option authorise; there are authorize"}
          ] do
        assert_raise ArgumentError, ~r/^Cromulent.Turn.Plug #{Regex.escape(reason)}/, fn ->
          config([option])
        end
      end

      assert_raise ArgumentError, ~r/keyword list/, fn -> RestApi.new!(%{}) end
    end
  end

  test "its options do not show what providers are given" do
    refute inspect(config(ice: [secret: "hunter2"])) =~ "hunter2"
  end

  test "mints with Cromulent.Turn unless told otherwise" do
    # No relay runs here: what comes is the list of STUN servers.
    config = config(ice: [provider: :stun, stun_urls: ["stun:192.0.2.7:3478"]])

    assert {200, _, body} =
             RestApi.answer(request("service=turn&format=ice"), fn -> {:ok, "alice"} end, config)

    assert %{"iceServers" => [%{"urls" => "stun:" <> _} | _], "expiresAt" => nil} = decode!(body)
  end
end
