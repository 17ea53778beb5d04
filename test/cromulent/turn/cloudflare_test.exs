defmodule Cromulent.Turn.CloudflareTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Cloudflare, HttpServer, Json, ProviderApi}

  @key_id "0123456789abcdef"
  @token "MARKED-token"

  defp start(reply) do
    server = HttpServer.start(reply)

    Map.put(server, :opts,
      cloudflare_url: server.url,
      cloudflare_key_id: @key_id,
      cloudflare_api_token: @token,
      http_timeout: 30_000
    )
  end

  defp api(opts \\ []), do: ProviderApi.cloudflare(@key_id, @token, opts)
  defp now, do: System.os_time(:second)

  defp got do
    assert_receive {:http, _url, request}, 10_000
    request
  end

  # Without port 53.
  @turn [
    "turn:turn.cloudflare.com:3478?transport=udp",
    "turn:turn.cloudflare.com:443?transport=udp",
    "turn:turn.cloudflare.com:3478?transport=tcp",
    "turn:turn.cloudflare.com:80?transport=tcp",
    "turns:turn.cloudflare.com:5349?transport=tcp",
    "turns:turn.cloudflare.com:443?transport=tcp"
  ]

  defp servers(n) do
    [
      %{urls: "stun:stun.cloudflare.com:3478"}
      | for(url <- @turn, do: %{urls: url, username: "user-#{n}", credential: "password-#{n}"})
    ]
  end

  test "makes a credential for a user, and knows when it expires" do
    server = start(api())
    assert {:ok, offer} = Cloudflare.offer("alice", [ttl: 600] ++ server.opts)
    assert offer.ice_servers == servers(1)
    assert_in_delta offer.expires_at, now() + 600, 5

    assert %{method: "POST", path: path, query: query, headers: headers, body: body} = got()
    assert path == "/v1/turn/keys/#{@key_id}/credentials/generate-ice-servers"
    assert query == %{}
    assert headers["authorization"] == "Bearer " <> @token
    assert headers["content-type"] == "application/json"
    assert Json.decode(body) == {:ok, %{"ttl" => 600}}
  end

  test "asks for two days at most" do
    server = start(api())

    assert {:ok, %{expires_at: expires_at}} =
             Cloudflare.offer("alice", [ttl: 2_592_000] ++ server.opts)

    assert_in_delta expires_at, now() + 172_800, 5
    assert Json.decode(got().body) == {:ok, %{"ttl" => 172_800}}
  end

  test "understands 200 and 201, arrays and objects" do
    for status <- [200, 201],
        shape <- [&ProviderApi.cloudflare_array/1, &ProviderApi.cloudflare_object/1] do
      server = start(api(status: status, shape: shape))
      assert Cloudflare.get_ice_servers("alice", server.opts) == {:ok, servers(1)}
    end
  end

  test "keeps a credential for each user" do
    server = start(api())

    for _ <- 1..3,
        do: assert(Cloudflare.get_ice_servers("alice", server.opts) == {:ok, servers(1)})

    assert Cloudflare.get_ice_servers("bob", server.opts) == {:ok, servers(2)}
    assert HttpServer.requests(server) == 2
  end

  test "has one for all users of a node, if told so" do
    server = start(api())
    opts = [cloudflare_shared: true] ++ server.opts

    tasks =
      for n <- 1..100, do: Task.async(fn -> Cloudflare.get_ice_servers("user #{n}", opts) end)

    assert tasks |> Task.await_many(30_000) |> Enum.uniq() == [{:ok, servers(1)}]
    assert HttpServer.requests(server) == 1
  end

  test "tells what is not configured" do
    assert Cloudflare.offer("alice", []) == {:error, {:not_configured, :cloudflare_key_id}}

    assert Cloudflare.offer("alice", cloudflare_key_id: "k") ==
             {:error, {:not_configured, :cloudflare_api_token}}

    opts = [cloudflare_key_id: "k", cloudflare_api_token: "MARKED token"]
    assert {:error, {:config, text}} = Cloudflare.offer("alice", opts)
    assert text =~ "cloudflare_api_token"
    refute text =~ "MARKED"
  end

  test "tells the status of a refusal" do
    server = start(api())
    wrong = Keyword.put(server.opts, :cloudflare_api_token, "wrong")
    assert Cloudflare.offer("alice", wrong) == {:error, {:http_error, 401}}
    wrong = Keyword.put(server.opts, :cloudflare_key_id, "../other?key")
    assert Cloudflare.offer("alice", wrong) == {:error, {:http_error, 404}}

    assert %{path: "/v1/turn/keys/..%2Fother%3Fkey/credentials/generate-ice-servers"} =
             List.last([got(), got()])
  end

  test "revokes a credential, and forgets it" do
    server = start(api())
    assert Cloudflare.get_ice_servers("alice", server.opts) == {:ok, servers(1)}
    assert Cloudflare.revoke("user-1", server.opts) == :ok
    assert %{method: "POST", path: path, body: ""} = List.last([got(), got()])
    assert path == "/v1/turn/keys/#{@key_id}/credentials/user-1/revoke"
    assert Cloudflare.get_ice_servers("alice", server.opts) == {:ok, servers(2)}
    assert Cloudflare.revoke("nobody", server.opts) == {:error, :not_found}
    wrong = Keyword.put(server.opts, :cloudflare_api_token, "wrong")
    assert Cloudflare.revoke("user-1", wrong) == {:error, {:http_error, 401}}
    assert Cloudflare.revoke("user-1", []) == {:error, {:not_configured, :cloudflare_key_id}}
  end
end
