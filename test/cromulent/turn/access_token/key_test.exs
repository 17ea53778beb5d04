defmodule Cromulent.Turn.AccessToken.KeyTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.AccessToken.Key

  @bytes "HGkj32KJGiuy098sdfaqbNjOiaz71923"
  @k Base.url_encode64(@bytes, padding: false)

  defp jwk(members \\ []) do
    members
    |> Enum.into(%{"kty" => "oct", "kid" => "a", "k" => @k, "alg" => "A256GCM"})
    |> Enum.reject(&match?({_, nil}, &1))
    |> Map.new()
    |> Cromulent.Turn.Json.encode()
  end

  defp refused(source) do
    assert {:error, "must " <> _ = text} = Key.read(source)
    refute text =~ @k
    refute text =~ @bytes
    text
  end

  test "a JWK is a key" do
    assert Key.read(jwk()) == {:ok, [%Key{kid: "a", key: @bytes}]}

    assert Key.read(jwk(%{"nbf" => 1, "exp" => 2})) ==
             {:ok, [%Key{kid: "a", key: @bytes, not_before: 1, not_after: 2}]}
  end

  test "16 bytes are for A128GCM" do
    short = binary_part(@bytes, 0, 16)
    k = Base.url_encode64(short, padding: false)
    want = {:ok, [%Key{kid: "a", key: short}]}
    assert Key.read(jwk(%{"k" => k, "alg" => "A128GCM"})) == want
    assert Key.read(jwk(%{"k" => k, "alg" => nil})) == want
    assert refused(jwk(%{"k" => k})) =~ ~r/^must be of 32 bytes for A256GCM.*; the key is "a"$/
  end

  test "what RFC 7635 §4.1.1 shows is taken too" do
    bytes = <<0xFB, 0xFF, 0xFE>> <> binary_part(@bytes, 0, 29)

    text =
      ~s({"k": "#{Base.encode64(bytes)}", "exp": 1300819380, "kid": "22B/xU93h", "enc": "A256GCM"})

    assert Key.read(text) ==
             {:ok, [%Key{kid: "22B/xU93h", key: bytes, not_after: 1_300_819_380}]}
  end

  test "several come as a set, as a list, or as functions" do
    set = ~s({"keys": [#{jwk()}, #{jwk(%{"kid" => "b"})}]})
    want = {:ok, [%Key{kid: "a", key: @bytes}, %Key{kid: "b", key: @bytes}]}
    assert Key.read(set) == want
    assert Key.read([jwk(), jwk(%{"kid" => "b"})]) == want
    assert Key.read([%Key{kid: "a", key: @bytes}, %Key{kid: "b", key: @bytes}]) == want
    assert Key.read(fn -> set end) == want
    assert Key.read([]) == {:ok, []}
  end

  @tag :tmp_dir
  test "files have them", %{tmp_dir: dir} do
    [one, other, none] = for name <- ["one", "other", "none"], do: Path.join(dir, name)
    File.write!(one, "\n " <> jwk())
    File.write!(other, jwk(%{"kid" => "b"}))
    assert {:ok, [%Key{kid: "a"}]} = Key.read(one)
    assert {:ok, [%Key{kid: "a"}, %Key{kid: "b"}]} = Key.read(one <> ", " <> other)
    assert {:ok, [%Key{kid: "a"}, %Key{kid: "b"}]} = Key.read([one, other])
    assert refused(none) == "must be a file that can be read: no such file or directory"
    File.write!(other, "k")
    assert refused([one, other]) =~ "must be keys as JWK"
  end

  test "the rest is refused, with what would be right" do
    for wrong <- [
          jwk(%{"kty" => "RSA"}),
          jwk(%{"k" => "?"}),
          jwk(%{"k" => nil}),
          jwk(%{"k" => 5}),
          "{",
          "[]",
          ~s({"keys": []}),
          ~s({"keys": [5]}),
          "",
          5,
          nil
        ],
        do: assert(refused(wrong) =~ "must be keys as JWK or JWK set")

    for kid <- ["", String.duplicate("k", 129), "a\"b", "a\nb", 5],
        do: assert(refused(jwk(%{"kid" => kid})) =~ "must have a kid of 1 to 128 bytes")

    assert refused(jwk(%{"k" => Base.url_encode64("short")})) =~
             ~r/^must have 32 bytes.*; the key is "a"$/

    assert refused(jwk(%{"alg" => "A256CBC-HS512"})) =~ "of no other kind"

    for times <- [%{"exp" => 0}, %{"nbf" => 5, "exp" => 5}, %{"exp" => "soon"}, %{"nbf" => -1}],
        do: assert(refused(jwk(times)) =~ "Unix seconds")

    assert refused([jwk(), jwk()]) == "must have each kid once"
    many = for n <- 1..17, do: jwk(%{"kid" => "#{n}"})
    assert refused(many) == "must be at most 16 keys"
  end

  test "its bytes are not shown" do
    refute inspect(%Key{kid: "a", key: @bytes}) =~ "HGkj"
  end
end
