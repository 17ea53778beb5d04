defmodule Cromulent.Turn.AccessTokenTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{AccessToken, Vectors}
  alias Cromulent.Turn.AccessToken.Key

  @vectors Vectors.lines("keys.txt")
  @key %Key{kid: "north", key: "12345678901234567890123456789012"}

  describe "RFC 7635's appendix" do
    for ["token", cipher, key, name, plaintext, token] <- @vectors do
      test "has what comes out, with #{cipher}" do
        token = Vectors.hex(unquote(token))
        <<12::16, nonce::binary-size(12), _::binary>> = token
        plain = Vectors.hex(unquote(plaintext))
        <<20::16, mac_key::binary-size(20), timestamp::64, lifetime::32>> = plain

        made =
          AccessToken.encode(
            %Key{kid: "k", key: Vectors.hex(unquote(key))},
            unquote(name),
            nonce: nonce,
            mac_key: mac_key,
            now: Bitwise.bsr(timestamp, 16),
            lifetime: lifetime
          )

        assert made.token == token
        assert made.mac_key == "ZksjpweoixXmvn67534m"
        assert made.expires_at == 1_410_984_813 + 3600
        assert {made.kid, made.lifetime} == {"k", 3600}
      end
    end
  end

  test "no two tokens are alike, and each has a key of 160 bits" do
    [one, other] = for _ <- 1..2, do: AccessToken.encode(@key, "turn.example.org")
    assert one.token != other.token
    assert one.mac_key != other.mac_key
    assert byte_size(one.mac_key) == 20
    assert_in_delta one.expires_at, System.os_time(:second) + 3600, 60
  end

  test "nothing that is secret is shown" do
    token = AccessToken.encode(@key, "turn.example.org", mac_key: "the key of a session")
    refute inspect(token) =~ "the key"
    refute inspect(token, structs: true) =~ inspect(token.token)
    assert inspect(token) =~ "north"
    refute inspect(@key) =~ "1234567890"
  end

  test "misuse is told without the key" do
    for {opts, text} <- [
          {[lifetime: 0], ":lifetime"},
          {[lifetime: 31_536_001], ":lifetime"},
          {[now: -1], ":now"},
          {[mac_key: "too short a key"], ":mac_key"},
          {[mac_key: String.duplicate("k", 65)], ":mac_key"},
          {[nonce: "11 bytes on"], ":nonce"},
          {[ttl: 5], "only the options"}
        ] do
      error = assert_raise ArgumentError, fn -> AccessToken.encode(@key, "name", opts) end
      assert error.message =~ text
      refute error.message =~ "too short"
    end

    for name <- ["", String.duplicate("n", 128), nil],
        do: assert_raise(ArgumentError, fn -> AccessToken.encode(@key, name) end)

    assert_raise ArgumentError, ~r/32 or 16 bytes/, fn ->
      AccessToken.encode(%{@key | key: "short"}, "name")
    end
  end
end
