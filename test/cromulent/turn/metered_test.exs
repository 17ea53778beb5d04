defmodule Cromulent.Turn.MeteredTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Credentials, HttpServer, Json, Metered, ProviderApi}

  @secret "MARKED-secret"

  # A server of its own is an account of its own: nothing of other tests is kept for it.
  defp start(reply) do
    server = HttpServer.start(reply)
    opts = [metered_url: server.url, metered_secret_key: @secret, http_timeout: 30_000]
    Map.put(server, :opts, opts)
  end

  defp now, do: System.os_time(:second)

  defp got do
    assert_receive {:http, _url, request}, 10_000
    request
  end

  @turn [
    "turn:standard.relay.metered.ca:80",
    "turn:standard.relay.metered.ca:443",
    "turn:standard.relay.metered.ca:80?transport=tcp",
    "turns:standard.relay.metered.ca:443?transport=tcp"
  ]

  defp servers(n, turn \\ @turn) do
    [
      %{urls: "stun:stun.relay.metered.ca:80"}
      | for(url <- turn, do: %{urls: url, username: "user-#{n}", credential: "password-#{n}"})
    ]
  end

  describe "with the secret key" do
    test "a credential is made for the user, and its servers are fetched" do
      server = start(ProviderApi.metered(@secret))
      assert {:ok, offer} = Metered.offer("alice", [ttl: 600] ++ server.opts)
      assert offer.ice_servers == servers(1)
      assert_in_delta offer.expires_at, now() + 600, 5

      assert %{method: "POST", path: "/api/v1/turn/credential", query: query, body: body} = got()
      assert query == %{"secretKey" => @secret}
      assert Json.decode(body) == {:ok, %{"expiryInSeconds" => 600, "label" => "alice"}}
      assert %{method: "GET", path: "/api/v1/turn/credentials", query: query, body: ""} = got()
      assert query == %{"apiKey" => "key-1"}
    end

    test "it is kept for the user, and for nobody else" do
      server = start(ProviderApi.metered(@secret))

      for _ <- 1..3,
          do: assert(Metered.get_ice_servers("alice", server.opts) == {:ok, servers(1)})

      assert Metered.get_ice_servers("bob", server.opts) == {:ok, servers(2)}
      assert Metered.get_ice_servers(42, server.opts) == {:ok, servers(3)}
      assert Metered.get_ice_servers("42", server.opts) == {:ok, servers(3)}
      assert HttpServer.requests(server) == 6
      # Other credentials are wanted.
      assert Metered.get_ice_servers("bob", [ttl: 60] ++ server.opts) == {:ok, servers(4)}
    end

    test "a thousand who ask at once make one request each way" do
      server = start(ProviderApi.metered(@secret))
      opts = Keyword.put(server.opts, :http_timeout, 60_000)
      tasks = for _ <- 1..1000, do: Task.async(fn -> Metered.get_ice_servers("alice", opts) end)
      assert tasks |> Task.await_many(60_000) |> Enum.uniq() == [{:ok, servers(1)}]
      assert HttpServer.requests(server) == 2
    end

    test "the region is passed on, and the user id is not when it must be opaque" do
      server = start(ProviderApi.metered(@secret))
      opts = [metered_region: "europe", opaque_usernames: true] ++ server.opts
      assert {:ok, [_ | _]} = Metered.get_ice_servers("alice", opts)
      assert {:ok, %{"label" => label}} = Json.decode(got().body)
      assert label == Credentials.opaque_user_id("alice", @secret)
      assert got().query == %{"apiKey" => "key-1", "region" => "europe"}
    end

    test "every shape of an answer is understood" do
      global = [
        "turn:global.relay.metered.ca:80",
        "turn:global.relay.metered.ca:443",
        "turn:global.relay.metered.ca:80?transport=tcp",
        "turns:global.relay.metered.ca:443?transport=tcp"
      ]

      data = fn key -> fn n -> Json.encode(%{key => ProviderApi.metered_servers(n)}) end end

      password = fn n ->
        for(server <- ProviderApi.metered_servers(n), do: server)
        |> Json.encode()
        |> String.replace("credential", "password")
      end

      nulls = fn n ->
        String.replace(
          ProviderApi.metered_array(n),
          "[{",
          ~s([null, {"urls": null}, {"credential": null, "username": null, )
        )
      end

      for {shape, turn} <- [
            {data.("data"), @turn},
            {data.("iceServers"), @turn},
            {password, @turn},
            {nulls, @turn},
            {&ProviderApi.metered_list/1, global}
          ] do
        server = start(ProviderApi.metered(@secret, shape: shape))
        assert Metered.get_ice_servers("alice", server.opts) == {:ok, servers(1, turn)}
      end
    end

    test "a credential without an API key of its own gets Metered's hosts" do
      reply = fn _ -> {200, ~s({"username":"user-1","password":"password-1"})} end
      server = start(reply)
      assert {:ok, servers} = Metered.get_ice_servers("alice", server.opts)

      assert %{
               urls: "turn:global.relay.metered.ca:80",
               username: "user-1",
               credential: "password-1"
             } in servers

      assert HttpServer.requests(server) == 1
    end

    test "a shorter life than asked for counts" do
      api = ProviderApi.metered(@secret)

      server =
        start(fn request ->
          with {200, body} <- api.(request), do: {200, String.replace(body, "3600", "120")}
        end)

      assert {:ok, %{expires_at: expires_at}} = Metered.offer("alice", server.opts)
      assert_in_delta expires_at, now() + 120, 5
    end
  end

  describe "with an API key alone" do
    test "its servers are fetched, and shared" do
      server = HttpServer.start(ProviderApi.metered(@secret))
      opts = [metered_url: server.url, metered_api_key: "key-9"]
      assert Metered.offer("alice", opts) == {:ok, %{ice_servers: servers(9), expires_at: nil}}
      assert Metered.get_ice_servers("bob", opts) == {:ok, servers(9)}
      assert HttpServer.requests(server) == 1
    end
  end

  describe "Cromulent's call" do
    test "takes a secret key" do
      server = start(ProviderApi.metered(@secret))
      assert Metered.get_ice_servers("alice", server.url, @secret) == {:ok, servers(1)}
      assert Metered.get_ice_servers("alice", server.url <> "/", @secret) == {:ok, servers(1)}
      assert HttpServer.requests(server) == 2
    end

    test "takes a credential's API key" do
      server = start(ProviderApi.metered(@secret))
      assert Metered.get_ice_servers("alice", server.url, "key-7") == {:ok, servers(7)}
      assert %{method: "POST"} = got()
      assert %{method: "GET", query: %{"apiKey" => "key-7"}} = got()
    end

    test "tells the status of a refusal" do
      server = start(ProviderApi.metered(@secret))
      assert Metered.get_ice_servers("alice", server.url, "wrong") == {:error, {:http_error, 401}}
      server = start(fn _ -> {400, ~s({"message":"api not available under free plan"})} end)
      assert Metered.get_ice_servers("alice", server.url, @secret) == {:error, {:http_error, 400}}
      server = start(fn _ -> {500, ""} end)
      assert Metered.get_ice_servers("alice", server.url, @secret) == {:error, {:http_error, 500}}
      assert HttpServer.requests(server) == 1
    end

    test "gives an exception for all else" do
      assert {:error, exception} = Metered.get_ice_servers("alice", HttpServer.nowhere(), @secret)
      assert Exception.message(exception) =~ "{:connect, :econnrefused}"
      server = start(fn _ -> {200, "<html>"} end)
      assert {:error, exception} = Metered.get_ice_servers("alice", server.url, @secret)
      assert Exception.message(exception) =~ "not_json"

      assert {:error, exception} =
               Metered.get_ice_servers("alice", "http://app.metered.live", @secret)

      assert Exception.message(exception) =~ "must be https"

      assert {:error, exception} =
               Metered.get_ice_servers("alice", "https://app.metered.live", "MARKED key")

      assert Exception.message(exception) =~ "metered_secret_key"
      refute Exception.message(exception) =~ "MARKED"
      assert {:error, exception} = Metered.get_ice_servers(%{}, server.url, @secret)
      assert Exception.message(exception) =~ "bad_user_id"
    end

    test "tells when it is not configured" do
      for {url, key} <- [
            {nil, "k"},
            {"", "k"},
            {"https://a.metered.live", nil},
            {"https://a.metered.live", " "},
            {nil, nil}
          ] do
        assert Metered.get_ice_servers("alice", url, key) == {:error, :not_configured}
      end
    end
  end

  test "tells what is not configured" do
    assert Metered.offer("alice", metered_secret_key: @secret) ==
             {:error, {:not_configured, :metered_url}}

    assert Metered.offer("alice", metered_url: "https://app.metered.live") ==
             {:error, {:not_configured, :metered_secret_key}}

    assert {:error, {:config, text}} =
             Metered.get_ice_servers("alice", metered_url: "ftp://MARKED")

    assert text =~ "metered_url"
    opts = [metered_url: "https://app.metered.live", metered_secret_key: @secret]
    assert {:error, {:config, _}} = Metered.offer("alice", [ttl: "soon"] ++ opts)
    assert Metered.offer("a\0b", opts) == {:error, :bad_user_id}
    assert Metered.offer(String.duplicate("a", 500), opts) == {:error, :bad_user_id}
  end

  describe "revoking" do
    test "deletes the credential, and forgets it" do
      server = start(ProviderApi.metered(@secret))
      assert Metered.get_ice_servers("alice", server.opts) == {:ok, servers(1)}
      assert Metered.revoke("user-1", server.opts) == :ok
      requests = [got(), got(), got()]

      assert %{method: "DELETE", query: %{"secretKey" => @secret}, body: body} =
               List.last(requests)

      assert Json.decode(body) == {:ok, %{"username" => "user-1"}}

      eventually(
        fn -> Metered.get_ice_servers("alice", server.opts) == {:ok, servers(2)} end,
        10_000
      )
    end

    test "tells why it could not" do
      server = start(ProviderApi.metered(@secret))
      assert Metered.revoke("nobody", server.opts) == {:error, :not_found}
      wrong = Keyword.put(server.opts, :metered_secret_key, "wrong")
      assert Metered.revoke("user-1", wrong) == {:error, {:http_error, 401}}

      assert Metered.revoke("user-1", metered_url: server.url) ==
               {:error, {:not_configured, :metered_secret_key}}

      server = start(fn _ -> {200, "[]"} end)
      assert Metered.revoke("user-1", server.opts) == {:error, :bad_answer}
    end
  end
end
