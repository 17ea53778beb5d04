defmodule Cromulent.Turn.CoturnTest do
  # The environment is everybody's. A real coturn is in coturn_server_test.exs.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn
  alias Cromulent.Turn.{Coturn, Credentials}

  @stun %{urls: "stun:stun.l.google.com:19302"}
  @secret "a secret that coturn has too"

  test "signs for every URL, with the first secret" do
    put_env([
      {"TURN_URL", "turn:t.example.org:3478, turns:t.example.org:5349"},
      {"TURN_SECRET", @secret <> ",an older one"}
    ])

    assert {:ok, %{ice_servers: [@stun, turn, turns], expires_at: expiry}} =
             Coturn.offer("al", [])

    assert (expiry - System.os_time(:second)) in 3595..3600
    assert %{urls: "turn:t.example.org:3478", username: username, credential: credential} = turn
    assert turns == %{turn | urls: "turns:t.example.org:5349"}
    assert username == "#{expiry}:al"
    assert Credentials.verify(username, credential, @secret) == :ok

    # What coturn itself computes: Base64 of HMAC-SHA1 of the username.
    assert credential == Base.encode64(:crypto.mac(:hmac, :sha, @secret, username))
    assert {:ok, [@stun, %{username: _}, %{username: _}]} = Coturn.get_ice_servers("al")
  end

  test "takes its options from a call" do
    opts = [
      turn_urls: ["turn:t"],
      secret: @secret,
      ttl: 60,
      stun_urls: "stun:s",
      opaque_usernames: true
    ]

    assert {:ok, %{ice_servers: [%{urls: "stun:s"}, turn], expires_at: expiry}} =
             Coturn.offer("alice", opts)

    assert turn.username == "#{expiry}:#{Credentials.opaque_user_id("alice", @secret)}"
    assert Credentials.verify(turn.username, turn.credential, @secret) == :ok
    assert (expiry - System.os_time(:second)) in 55..60
    assert {:ok, [_, _]} = Coturn.get_ice_servers("alice", opts)
  end

  test "is the provider of that name" do
    put_env([
      {"TURN_PROVIDER", "coturn"},
      {"TURN_URL", "turns:t,turn:t?transport=tcp,turn:t"},
      {"TURN_SECRET", @secret}
    ])

    assert %{ice_servers: servers, expires_at: expiry} = Turn.payload("alice")

    assert Enum.map(servers, & &1.urls) ==
             [@stun.urls, "turn:t", "turn:t?transport=tcp", "turns:t"]

    assert List.last(servers).username == "#{expiry}:alice"
  end

  test "says which option is missing or wrong, and never the secret" do
    assert Coturn.offer("alice", []) == {:error, {:not_configured, :turn_urls}}
    assert Coturn.offer("alice", turn_urls: []) == {:error, {:not_configured, :turn_urls}}
    assert Coturn.offer("alice", turn_urls: "turn:t") == {:error, {:not_configured, :secret}}

    for {wrong, told} <- [
          {[turn_urls: "t.example.org"],
           "option turn_urls: \"t.example.org\": must be TURN URLs"},
          {[secret: "${TURN_SECRET}"], "option secret: still reads like a variable"},
          {[ttl: 1], "option ttl: 1: must be"},
          {[stun_urls: "turn:t"], "option stun_urls: \"turn:t\": must be STUN URLs"},
          {[opaque_usernames: "?"], "option opaque_usernames: \"?\": must be true or false"}
        ] do
      opts = Keyword.merge([turn_urls: "turn:t", secret: @secret], wrong)
      assert {:error, {:config, text}} = Coturn.offer("alice", opts)
      assert text =~ told
    end

    assert Coturn.offer("a\nb", turn_urls: "turn:t", secret: @secret) == {:error, :bad_user_id}
  end

  describe "get_ice_servers/3, as the app calls it" do
    test "gives its two entries" do
      url = "turn:turn.example.org:3478"
      assert {:ok, [@stun, turn]} = Coturn.get_ice_servers("018f2f5e", url, @secret)
      assert Enum.sort(Map.keys(turn)) == [:credential, :urls, :username]
      assert turn.urls == url
      assert [expiry, "018f2f5e"] = String.split(turn.username, ":")
      assert (String.to_integer(expiry) - System.os_time(:second)) in 3595..3600
      assert Credentials.verify(turn.username, turn.credential, @secret) == :ok
    end

    test "takes several URLs, and one secret whatever is in it" do
      put_env([{"TURN_URL", "turn:not.this"}, {"TURN_SECRET", "nor this one"}])
      secret = "with,a comma"

      assert {:ok, [@stun, %{urls: "turn:a"} = one, %{urls: "turns:b"}]} =
               Coturn.get_ice_servers(7, "turn:a, turns:b", secret)

      assert Credentials.verify(one.username, one.credential, secret) == :ok
    end

    test "is not configured without URL or secret, whatever the environment has" do
      put_env([{"TURN_URL", "turn:t"}, {"TURN_SECRET", @secret}])

      for {url, secret} <- [
            {nil, @secret},
            {"", @secret},
            {" ", @secret},
            {"turn:t", nil},
            {"turn:t", ""}
          ],
          do: assert(Coturn.get_ice_servers("x", url, secret) == {:error, :not_configured})
    end

    test "never raises" do
      for id <- [
            nil,
            "",
            7,
            :a,
            "a\nb",
            <<0xFF>>,
            String.duplicate("x", 600),
            %{},
            {},
            [[], %{}],
            self()
          ],
          url <- ["turn:t", "t", "turn://t", <<0xFF>>, 7, %{}, [], [nil]],
          secret <- [@secret, "${TURN_SECRET}", <<0>>, String.duplicate("s", 300), 7, %{}] do
        case Coturn.get_ice_servers(id, url, secret) do
          {:ok, [@stun, %{urls: "turn:t", username: _, credential: _}]} -> :ok
          {:error, :bad_user_id} -> :ok
          {:error, :not_configured} when url == [] -> :ok
          {:error, {:config, text}} -> refute text =~ "sss"
          other -> flunk("#{inspect({id, url, secret})}: #{inspect(other)}")
        end
      end
    end
  end
end
