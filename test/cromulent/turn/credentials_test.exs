defmodule Cromulent.Turn.CredentialsTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Credentials

  doctest Credentials

  # Computed with other tools: expiry, user id, secret, SHA-1 and SHA-256 passwords.
  @vectors [
    {12_334_939, "mbzrxpgjys", "north", "Iq7YXkRon8YXJfdN1Ke9EZOw1UE=",
     "wmL8U/ZcS9La1Mp7HbQm2HrhVYB80NuXUeL0I3sXzwE="},
    {1_700_000_000, "alice", "north", "Cd/49soE35ICqcJF/bCTn8Z4OyE=",
     "EuME0Xh0HllnbpbObfs8aBsd78Vr1EMwxArqbyCrGl8="},
    {1_700_000_000, "", "logen", "87MybcFdjE+HUcpSFUKeZkiVmf8=",
     "euApEqngmAnZJQdlSmQoz3w/4kicKFfV5W7N0Eej1Fc="}
  ]

  describe "generate/3" do
    test "gives the passwords that other tools give" do
      for {expiry, user, secret, sha, sha256} <- @vectors,
          {hash, right} <- [sha: sha, sha256: sha256] do
        made = Credentials.generate(user, secret, now: expiry - 60, ttl: 60, hash: hash)
        assert made.credential == right
        assert made.expires_at == expiry
        assert made.username == if(user == "", do: "#{expiry}", else: "#{expiry}:#{user}")
      end
    end

    test "agrees with :crypto for keys and names of every length" do
      for secret_size <- [1, 19, 20, 63, 64, 65, 128, 1024],
          user_size <- [0, 1, 53, 54, 55, 200, 497] do
        secret = :binary.copy("k", secret_size)
        user = :binary.copy("u", user_size)

        for hash <- [:sha, :sha256] do
          made = Credentials.generate(user, secret, hash: hash, now: 1_700_000_000)
          assert made.credential == Base.encode64(:crypto.mac(:hmac, hash, secret, made.username))
        end
      end
    end

    test "counts from now, for an hour unless told otherwise" do
      before = System.os_time(:second)
      made = Credentials.generate("alice", "north")
      assert made.expires_at in (before + 3600)..(System.os_time(:second) + 3600)
      assert Credentials.generate("alice", "north", now: 0, ttl: 1).username == "1:alice"
    end

    test "takes integers, colons and any UTF-8 as user ids" do
      assert Credentials.generate(42, "north", now: 0).username == "3600:42"
      assert Credentials.generate(-1, "north", now: 0).username == "3600:-1"
      assert Credentials.generate("a:b", "north", now: 0).username == "3600:a:b"
      assert Credentials.generate("マトリックス😀", "north", now: 0).username == "3600:マトリックス😀"
      # Prepared by OpaqueString, where that allows it; as they are where not.
      assert Credentials.generate("e\u0301\u00A0x", "north", now: 0).username == "3600:\u00E9 x"
      assert Credentials.generate("a\u00ADb", "north", now: 0).username == "3600:a\u00ADb"
      # Up to 508 bytes of username.
      long = :binary.copy("x", 503)
      assert byte_size(Credentials.generate(long, "north", now: 0).username) == 508
    end

    test "refuses wrong arguments, and names them" do
      for {args, message} <- [
            {[:alice, "north"], "expected user_id to be a string or an integer, got: :alice"},
            {[nil, "north"], "expected user_id to be a string or an integer, got: nil"},
            {["a\nb", "north"],
             ~S(expected user_id to be without control characters, got: "a\nb")},
            {["a\0", "north"], "expected user_id to be without control characters"},
            {[<<0xC3, 0x28>>, "north"], "expected user_id to be UTF-8, got: <<195, 40>>"},
            {[<<0xC0, 0x80>>, "north"], "expected user_id to be UTF-8"},
            {[<<0xED, 0xA0, 0x80>>, "north"], "expected user_id to be UTF-8"},
            {[<<0xF4, 0x90, 0x80, 0x80>>, "north"], "expected user_id to be UTF-8"},
            {[<<0xE3, 0x83>>, "north"], "expected user_id to be UTF-8"},
            {[:binary.copy("x", 504), "north", [now: 0]], "of at most 503 bytes"},
            {["a", "north", [ttl: 0]], "expected :ttl to be 1..31536000 seconds, got: 0"},
            {["a", "north", [ttl: 31_536_001]], "1..31536000 seconds, got: 31536001"},
            {["a", "north", [ttl: "60"]], ~S(1..31536000 seconds, got: "60")},
            {["a", "north", [ttl: 60.0]], "1..31536000 seconds, got: 60.0"},
            {["a", "north", [now: -1]],
             "expected :now to be Unix seconds in 0..253402300799, got: -1"},
            {["a", "north", [hash: :md5]], "expected :hash to be :sha or :sha256, got: :md5"},
            {["a", "north", [tll: 60]],
             "unknown option :tll, expected only :ttl, :hash and :now"},
            {["a", "north", :ttl], "expected options to be a keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> apply(Credentials, :generate, args) end
        assert error.message =~ message
      end
    end

    test "refuses secrets that are none, and never shows them" do
      for secret <- ["", :binary.copy("hush", 300), :hush, ~c"hush", nil, {:hush}] do
        error = assert_raise ArgumentError, fn -> Credentials.generate("a", secret) end
        assert error.message == "expected secret to be a binary of 1 to 1024 bytes"
      end
    end
  end

  test "inspect/2 does not show the credential" do
    made = Credentials.generate("alice", "north", now: 0)
    assert inspect(made) =~ "3600:alice"
    refute inspect(made) =~ made.credential
    refute inspect([{:deep, %{in: made}}], structs: true) =~ made.credential
  end

  describe "verify/4" do
    setup do
      %{username: username, credential: password} =
        Credentials.generate("alice", "north", now: 1000, ttl: 60)

      %{username: username, password: password}
    end

    test "accepts until the expiry, from any of several secrets", %{
      username: name,
      password: password
    } do
      assert Credentials.verify(name, password, "north", now: 1059) == :ok
      assert Credentials.verify(name, password, ["a", "b", "north"], now: 0) == :ok
      assert Credentials.verify(name, password, ["north", "a"], now: 0) == :ok
      assert Credentials.verify(name, password, "north", now: 1060) == {:error, :expired}
      assert Credentials.verify(name, password, "north") == {:error, :expired}
    end

    test "knows both hashes", %{username: name, password: password} do
      other = Credentials.generate("alice", "north", now: 1000, ttl: 60, hash: :sha256)

      assert Credentials.verify(other.username, other.credential, "north", now: 0, hash: :sha256) ==
               :ok

      assert Credentials.verify(other.username, other.credential, "north", now: 0) ==
               {:error, :invalid}

      assert Credentials.verify(name, password, "north", now: 0, hash: :sha256) ==
               {:error, :invalid}
    end

    test "refuses what is not right in any one byte", %{username: name, password: password} do
      for at <- 0..(byte_size(password) - 1) do
        <<head::binary-size(at), byte, tail::binary>> = password
        wrong = <<head::binary, Bitwise.bxor(byte, 1), tail::binary>>
        assert Credentials.verify(name, wrong, "north", now: 0) == {:error, :invalid}
      end

      assert Credentials.verify(name <> "x", password, "north", now: 0) == {:error, :invalid}
      assert Credentials.verify(name, password <> "x", "north", now: 0) == {:error, :invalid}
      assert Credentials.verify(name, "", "north", now: 0) == {:error, :invalid}
      assert Credentials.verify(name, password, "south", now: 0) == {:error, :invalid}

      assert Credentials.verify(name, password, ["south", "nort", "north "], now: 0) ==
               {:error, :invalid}
    end

    test "an expired one that is wrong is wrong first", %{username: name} do
      assert Credentials.verify(name, "x", "north", now: 5000) == {:error, :invalid}
    end

    test "calls names without an expiry malformed" do
      for name <- [
            "",
            "alice",
            ":alice",
            "12x:alice",
            "-1:alice",
            " 1:a",
            "12345678901234567890:alice"
          ] do
        password = Base.encode64(:crypto.mac(:hmac, :sha, "north", name))

        assert {name, Credentials.verify(name, password, "north", now: 0)} ==
                 {name, {:error, :malformed}}
      end

      long = "99999999999:" <> :binary.copy("x", 500)
      assert Credentials.verify(long, "x", "north", now: 0) == {:error, :malformed}

      assert Credentials.verify(:binary.copy("9", 70_000), "x", "north", now: 0) ==
               {:error, :malformed}
    end

    test "raises for what nobody can have sent, and shows no secret", %{
      username: name,
      password: password
    } do
      for {secrets, message} <- [
            {[], "expected a secret, or a list of 1 to 16 secrets"},
            {List.duplicate("hush", 17), "expected a secret, or a list of 1 to 16 secrets"},
            {["hush" | "hush"], "expected a secret, or a list of 1 to 16 secrets"},
            {["hush", ""], "expected secret to be a binary of 1 to 1024 bytes"},
            {["hush", :hush], "expected secret to be a binary of 1 to 1024 bytes"},
            {~c"hush", "expected secret to be a binary of 1 to 1024 bytes"},
            {nil, "expected secret to be a binary of 1 to 1024 bytes"}
          ] do
        error = assert_raise ArgumentError, fn -> Credentials.verify(name, password, secrets) end
        assert error.message == message
      end

      assert_raise ArgumentError, ~r/username/, fn ->
        Credentials.verify(nil, password, "north")
      end

      assert_raise ArgumentError, ~r/password/, fn -> Credentials.verify(name, nil, "north") end

      assert_raise ArgumentError, "unknown option :ttl, expected only :hash and :now", fn ->
        Credentials.verify(name, password, "north", ttl: 5)
      end
    end
  end

  describe "long-term keys" do
    # Computed with other tools; the last one is that of RFC 5769 §2.4 and RFC 8489 §B.1.
    @keys [
      {"user", "realm", "pass", "8493fbc53ba582fb4c044c456bdc40eb",
       "07e934117abd40836e7c6329b54731b2b2d2a5f9a71f544922d75e0730d8251b",
       "6a3029116b47aa98bcaa325399733dc1a23cd57e26b81bef3ff6531ce624e2da"},
      {"George", "example.com", "secret-password", "29e2d6e3d0ada22704082c075703ae5e",
       "3fa78cfb20a3b20623c17102eb0d28e333df64f5ea2fc1a71e9c54c1c3ae093a",
       "95e4f02948ec9766fff4d3fa93f1a68b1f0b78c451478584963a8e8012cfb3a3"},
      {"alice", "example.org", "wonderland", "72f86f2053703faa0f521ce71cfe6f59",
       "f0c3ae808cef897043f79de49549776f1f58cb7c5364e03ab40abac620459848",
       "435b7933096a304d3c734cfb833ec9075bd47ab1c0160321aed31c06a8c7009e"},
      {"マトリックス", "example.org", "TheMatrIX", "e8ca7ad59d5eb0518e312911d2dab2a9",
       "dd295a613b9058c3c23d6dc7165bda072304d989c9d0af3a8c7e184b4f9bb4a1",
       "4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704"}
    ]

    test "key/4 and userhash/2" do
      for {user, realm, password, md5, sha256, userhash} <- @keys do
        assert hex(Credentials.key(user, realm, password, :md5)) == md5
        assert hex(Credentials.key(user, realm, password, :sha256)) == sha256
        assert hex(Credentials.userhash(user, realm)) == userhash
      end
    end

    test "the key of a time-limited password" do
      %{username: name, credential: password} =
        Credentials.generate("alice", "north", now: 1_699_996_400)

      assert hex(Credentials.key(name, "north.example", password, :md5)) ==
               "5cebc75c86fd8cad79042c3c2a799c7a"
    end

    test "surrounding quotes and trailing zeros do not count (RFC 8489 §9.2.2)" do
      assert Credentials.key("\"user\"", "\"realm\"", "pass\0", :md5) ==
               Credentials.key("user", "realm", "pass", :md5)

      assert Credentials.key("user\0\0", "realm", "pass", :sha256) ==
               Credentials.key("user", "realm", "pass", :sha256)
    end

    test "wrong arguments" do
      assert_raise ArgumentError, "expected algorithm to be :md5 or :sha256, got: :sha", fn ->
        Credentials.key("u", "r", "p", :sha)
      end

      for {args, name} <- [
            {[1, "r", "p"], "username"},
            {["u", nil, "p"], "realm"},
            {["u", "r", :hush], "password"},
            {["u", "r", :binary.copy("hush", 257)], "password"}
          ] do
        error = assert_raise ArgumentError, fn -> apply(Credentials, :key, args ++ [:md5]) end
        assert error.message == "expected #{name} to be a binary of at most 1024 bytes"
      end

      assert_raise ArgumentError, ~r/realm/, fn -> Credentials.userhash("u", :r) end
      assert_raise ArgumentError, ~r/username/, fn -> Credentials.userhash(<<1::1>>, "r") end
    end
  end

  describe "opaque_user_id/2" do
    test "is the first half of an HMAC under a key of its own" do
      # Made with hmac and hashlib of Python's standard library.
      assert Credentials.opaque_user_id("alice", "north") == "z9lWFbeJwU6-_ORUtNIcrQ"
    end

    test "is the same for a user and a secret, and else another" do
      name = Credentials.opaque_user_id("alice", "north")
      assert Credentials.opaque_user_id(:alice, "north") == name
      assert Credentials.opaque_user_id(42, "north") == Credentials.opaque_user_id("42", "north")
      refute Credentials.opaque_user_id("alice", "south") == name
      refute Credentials.opaque_user_id("alicf", "north") == name

      names = for n <- 1..1_000, do: Credentials.opaque_user_id(n, "north")
      assert length(Enum.uniq(names)) == 1_000
      assert Enum.all?(names, &(&1 =~ ~r/\A[A-Za-z0-9_-]{22}\z/))
    end

    test "takes ids of any length, and no wrong secret" do
      assert byte_size(Credentials.opaque_user_id(String.duplicate("x", 10_000), "s")) == 22

      for secret <- ["", nil, String.duplicate("s", 1_025)] do
        error = assert_raise ArgumentError, fn -> Credentials.opaque_user_id("a", secret) end
        refute error.message =~ "sss"
      end
    end
  end

  test "mint/4 takes what to_string/1 takes, and refuses the rest" do
    assert {:ok, %{username: username} = made} = Credentials.mint("alice", "north", 60, false)
    assert username == "#{made.expires_at}:alice"
    assert {:ok, %{username: hidden}} = Credentials.mint("alice", "north", 60, true)
    assert String.ends_with?(hidden, ":" <> Credentials.opaque_user_id("alice", "north"))
    assert {:ok, %{username: _}} = Credentials.mint(nil, "north", 60, false)

    for wrong <- [%{}, {}, self(), [%{}], "a\nb", String.duplicate("x", 600)],
        do: assert(Credentials.mint(wrong, "north", 60, false) == {:error, :bad_user_id})
  end

  test "equal?/2" do
    assert Credentials.equal?("", "")
    assert Credentials.equal?("abc", "abc")
    refute Credentials.equal?("abc", "abd")
    refute Credentials.equal?("abc", "abcd")
    refute Credentials.equal?("", "a")
    big = :crypto.strong_rand_bytes(65_535)
    assert Credentials.equal?(big, :binary.copy(big))
    error = assert_raise ArgumentError, fn -> Credentials.equal?("hush", big <> "x") end
    refute error.message =~ "hush"
  end

  test "many processes at once" do
    1..200
    |> Task.async_stream(
      fn n ->
        for i <- 1..50 do
          made = Credentials.generate("#{n}:#{i}", "secret #{n}", now: 1_000_000)

          assert made.credential ==
                   Base.encode64(:crypto.mac(:hmac, :sha, "secret #{n}", made.username))

          assert Credentials.verify(made.username, made.credential, "secret #{n}", now: 1_000_000) ==
                   :ok

          assert Credentials.key("u#{n}", "r", "p#{i}", :md5) ==
                   :crypto.hash(:md5, "u#{n}:r:p#{i}")
        end
      end,
      max_concurrency: 50
    )
    |> Enum.each(&assert match?({:ok, _}, &1))
  end

  defp hex(bytes), do: Base.encode16(bytes, case: :lower)
end
