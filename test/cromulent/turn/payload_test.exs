defmodule Cromulent.Turn.PayloadTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Json, Payload, Url}

  defp turn(url, username \\ "u", credential \\ "c"),
    do: %{urls: url, username: username, credential: credential}

  defp urls(servers), do: Enum.map(servers, & &1.urls)

  describe "build/2 understands" do
    test "text and lists, strings and atoms, old names" do
      for server <- [
            %{urls: "turn:a", username: "u", credential: "c"},
            %{urls: ["turn:a"], username: "u", credential: "c"},
            %{"urls" => "turn:a", "username" => "u", "credential" => "c"},
            %{"url" => "turn:a", "username" => "u", "password" => "c"},
            %{url: "turn:a", username: "u", password: "c", label: "x"},
            %{urls: " turn:a ", username: "u", credential: "c", credentialType: "password"}
          ],
          do: assert(Payload.build([server]) == [turn("turn:a")], inspect(server))
    end

    test "what Metered answers" do
      answer = [
        %{"urls" => "stun:stun.relay.metered.ca:80"},
        %{"urls" => "turn:global.relay.metered.ca:80", "username" => "u", "credential" => "c"},
        %{
          "urls" => "turn:global.relay.metered.ca:80?transport=tcp",
          "username" => "u",
          "credential" => "c"
        },
        %{"urls" => "turn:global.relay.metered.ca:443", "username" => "u", "credential" => "c"},
        %{
          "urls" => "turns:global.relay.metered.ca:443?transport=tcp",
          "username" => "u",
          "credential" => "c"
        }
      ]

      assert urls(Payload.build(answer)) == [
               "stun:stun.relay.metered.ca:80",
               "turn:global.relay.metered.ca:80",
               "turn:global.relay.metered.ca:443",
               "turn:global.relay.metered.ca:80?transport=tcp",
               "turns:global.relay.metered.ca:443?transport=tcp"
             ]
    end

    test "what Cloudflare answers, as a list or as one object" do
      object = %{
        "urls" => [
          "stun:stun.cloudflare.com:3478",
          "turn:turn.cloudflare.com:3478?transport=udp",
          "turn:turn.cloudflare.com:3478?transport=tcp",
          "turns:turn.cloudflare.com:5349?transport=tcp"
        ],
        "username" => "u",
        "credential" => "c"
      }

      built = Payload.build(object)
      assert built == Payload.build([object])
      assert urls(built) == object["urls"]
      assert hd(built) == %{urls: "stun:stun.cloudflare.com:3478"}
      assert List.last(built) == turn("turns:turn.cloudflare.com:5349?transport=tcp")
    end
  end

  describe "build/2 leaves out" do
    test "relays without credentials, and what belongs to none" do
      for username <- [nil, "", 7, <<0xFF>>, String.duplicate("u", 509)],
          do: assert(Payload.build([turn("turn:a", username)]) == [])

      for credential <- [nil, "", %{}, <<0xFF>>, String.duplicate("c", 1025)],
          do: assert(Payload.build([turn("turn:a", "u", credential)]) == [])

      assert Payload.build([turn("stun:a"), turn("stun:b", nil, nil)]) ==
               [%{urls: "stun:a"}, %{urls: "stun:b"}]
    end

    test "what is no URL" do
      for url <- [nil, "", "a", "http://a", "turn:", 7, %{}, ["a", nil, [["turn:a"]]], ~c"turn:a"],
          do: assert(Payload.build([turn(url)]) == [], inspect(url))

      assert urls(Payload.build([turn(["turn:a", nil, "b", "turn:c" | :improper])])) ==
               ["turn:a", "turn:c"]
    end

    test "what is no entry" do
      for servers <- [nil, 7, "turn:a", :ok, {}, [nil], [[]], [%{}], [[turn("turn:a")]], [1 | 2]],
          do: assert(Payload.build(servers) == [], inspect(servers))

      assert urls(Payload.build([nil, turn("turn:a"), "x" | :improper])) == ["turn:a"]
    end

    test "the same URL for the same user, however it is written" do
      servers = [
        turn("turn:a.example.org"),
        turn("turn:A.example.org:3478"),
        turn("turn:a.example.org?transport=udp", "u", "other"),
        turn("turn:a.example.org", "another"),
        turn("turn:a.example.org?transport=tcp"),
        turn("stun:a.example.org"),
        %{urls: "stun:a.example.org:3478"}
      ]

      assert Payload.build(servers) == [
               %{urls: "stun:a.example.org"},
               turn("turn:a.example.org"),
               turn("turn:a.example.org", "another"),
               turn("turn:a.example.org?transport=tcp")
             ]
    end
  end

  test "writes URLs in lower case: Chromium knows no ?TRANSPORT=UDP" do
    assert urls(Payload.build(turn("TURN:A.Example.ORG?Transport=TCP"))) ==
             ["turn:a.example.org?transport=tcp"]
  end

  test "orders STUN, UDP, TCP, TLS, and keeps the given order within" do
    given = ~w(turns:a turn:b?transport=tcp turn:c stun:d turns:e?transport=udp turn:f stuns:g)

    assert given |> turn() |> Payload.build() |> urls() ==
             ~w(stun:d stuns:g turn:c turn:f turn:b?transport=tcp turns:a turns:e?transport=udp)
  end

  test "adds the application's STUN servers, once and after the provider's" do
    servers = [%{urls: "stun:a"}, turn("turn:a")]
    own = ["stun:b", "stun:a:3478", "stun:c"]

    assert Payload.build(servers, stun_urls: own) ==
             [%{urls: "stun:a"}, %{urls: "stun:b"}, %{urls: "stun:c"}, turn("turn:a")]

    assert Payload.build([], stun_urls: own) ==
             [%{urls: "stun:b"}, %{urls: "stun:a:3478"}, %{urls: "stun:c"}]
  end

  describe "max_ice_servers" do
    @many for(n <- 1..4, do: "stun:s#{n}") ++
            for(n <- 1..4, do: "turn:u#{n}") ++
            for(n <- 1..4, do: "turn:t#{n}?transport=tcp") ++ for(n <- 1..4, do: "turns:x#{n}")

    test "keeps one of each kind before a second of any" do
      for {most, kept} <- [
            {1, ~w(turn:u1)},
            {2, ~w(turn:u1 turns:x1)},
            {3, ~w(turn:u1 turn:t1?transport=tcp turns:x1)},
            {4, ~w(stun:s1 turn:u1 turn:t1?transport=tcp turns:x1)},
            {5, ~w(stun:s1 turn:u1 turn:u2 turn:t1?transport=tcp turns:x1)},
            {8,
             ~w(stun:s1 stun:s2 turn:u1 turn:u2 turn:t1?transport=tcp turn:t2?transport=tcp turns:x1 turns:x2)}
          ],
          do: assert(urls(Payload.build(turn(@many), max_ice_servers: most)) == kept)
    end

    test "is 8, and fills up with what there is" do
      assert length(Payload.build(turn(@many))) == 8
      assert length(Payload.build(turn(@many), max_ice_servers: 32)) == 16
      stun = for n <- 1..9, do: "stun:s#{n}"

      assert urls(Payload.build(turn("turn:a"), stun_urls: stun)) ==
               Enum.take(stun, 7) ++ ["turn:a"]
    end
  end

  test "read/1 tells what a browser could not use" do
    assert {:ok, [%{kind: :udp}]} = Payload.read([turn("turn:a")])
    assert {:ok, [%{kind: :stun}]} = Payload.read(%{urls: "stun:a"})
    assert Payload.read([]) == {:error, :no_servers}
    assert Payload.read([turn("x")]) == {:error, :no_servers}
    assert Payload.read(:odd) == {:error, :no_servers}
    assert Payload.read([%{urls: ["stun:a", "turn:a"]}]) == {:error, :no_credentials}
    assert {:ok, [_, _]} = Payload.read([%{urls: "turn:a"}, %{urls: "stun:a"}, turn("turn:b")])
  end

  test "expires_at/1 is the soonest expiry that usernames tell" do
    expires_at = fn names -> Payload.expires_at(Enum.map(names, &turn("turn:a", &1))) end
    assert expires_at.(["1900000000:alice"]) == 1_900_000_000
    assert expires_at.(["1900000000"]) == 1_900_000_000
    assert expires_at.(["1900000000:b", "1800000000:a", "alice"]) == 1_800_000_000

    for none <- ["alice", "42:alice", "1900000000x", "19000000000000:a", "-1900000000", ""],
        do: assert(expires_at.([none]) == nil)

    assert Payload.expires_at([%{urls: "stun:a"}]) == nil
  end

  describe "from anything at all" do
    test "comes what a browser takes, at most as much as is wanted, in order" do
      # A fixed seed: a failure comes again.
      :rand.seed(:exsss, {3, 1, 4})

      for n <- 1..3_000 do
        servers = garbage(4)
        most = :rand.uniform(12)
        own = Enum.take_random(["stun:a", "stun:own", "stun:[::1]"], :rand.uniform(4) - 1)
        built = Payload.build(servers, stun_urls: own, max_ice_servers: most)
        assert length(built) <= most, "#{n}: #{inspect(servers)}"
        Enum.each(built, &assert_right/1)
        assert_order(built)
        assert built == Payload.build(built, max_ice_servers: most)
        assert is_binary(Json.encode(built)) and String.valid?(Json.encode(built))

        case Payload.read(servers) do
          {:ok, entries} -> assert Payload.arrange(entries, max_ice_servers: most) != []
          {:error, reason} -> assert reason in [:no_servers, :no_credentials]
        end
      end
    end

    # The rules of assets/js/ice_servers.js, by which the browser modules check the same list; in lower
    # case, since Chromium takes no other.
    @url ~S"^(stuns?|turns?):(\[[0-9a-f:.]+\]|[^\s:/?#[\]@]+)(?::(\d{1,5}))?(?:\?transport=(udp|tcp))?$"

    defp assert_right(server) do
      assert server.urls =~ Regex.compile!(@url)

      if server.urls =~ ~r/^turns?:/i do
        assert Enum.sort(Map.keys(server)) == [:credential, :urls, :username]

        for text <- [server.username, server.credential],
            do: assert(text != "" and String.valid?(text))
      else
        assert Map.keys(server) == [:urls]
        refute server.urls =~ "?"
      end
    end

    defp assert_order(built) do
      places =
        for %{urls: text} <- built do
          {:ok, url} = Url.parse(text)
          Enum.find_index([:stun, :udp, :tcp, :tls], &(&1 == Url.kind(url)))
        end

      assert places == Enum.sort(places)
    end

    defp garbage(0), do: scalar()

    defp garbage(depth) do
      case :rand.uniform(10) do
        1 -> scalar()
        2 -> {garbage(depth - 1), scalar()}
        3 -> [garbage(depth - 1) | scalar()]
        n when n in 4..6 -> for _ <- 1..:rand.uniform(5), do: garbage(depth - 1)
        _ -> Map.new(1..:rand.uniform(4), fn _ -> {key(), value(depth - 1)} end)
      end
    end

    defp value(depth) do
      case :rand.uniform(6) do
        1 -> garbage(depth)
        2 -> for _ <- 1..3, do: scalar()
        _ -> scalar()
      end
    end

    defp key do
      keys = [:urls, "urls", :url, "url", :username, "username", :credential, "credential"]
      Enum.random(keys ++ ["password", :password, nil, 7, "x"])
    end

    defp scalar do
      Enum.random([
        nil,
        "",
        "alice",
        "1900000000:alice",
        "c",
        "a\n\"b",
        "é",
        <<0xFF, 0xFE>>,
        7,
        1.5,
        :a,
        self(),
        ~c"turn:a",
        "turn:a",
        "turn:a:0",
        "TURN:A:3478?TRANSPORT=UDP",
        "turn:b?transport=tcp",
        "turns:c",
        "turns:c:443?transport=udp",
        "stun:a",
        "stun:[::1]:3478",
        "stuns:a",
        "turn:[::g]",
        "turn://x",
        "http://x",
        "stun:a?transport=udp",
        %URI{},
        fn -> :x end
      ])
    end
  end
end
