defmodule Cromulent.Turn.JsonTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Json

  test "writes every kind of value" do
    assert Json.encode(nil) == "null"
    assert Json.encode(true) == "true"
    assert Json.encode(false) == "false"
    assert Json.encode(-42) == "-42"
    assert Json.encode(1.5) == "1.5"
    assert Json.encode(:up) == ~s("up")
    assert Json.encode("text") == ~s("text")
    assert Json.encode([]) == "[]"
    assert Json.encode([1, "a", [true]]) == ~s([1, "a", [true]])
    assert Json.encode(%{}) == "{}"
    assert Json.encode(%{b: 1, a: %{"c" => nil}}) == ~s({"a": {"c": null}, "b": 1})
    assert Json.encode(pid: 1, listen: ["x"]) == ~s({"pid": 1, "listen": ["x"]})
  end

  test "escapes what must be" do
    assert Json.encode(~s(a"b\\c)) == ~S("a\"b\\c")
    assert Json.encode("a\nb\tc\0") == ~S("a\nb\u0009c\u0000")
    assert Json.encode("é☃") == ~s("é☃")
    assert Json.encode("</script>") == ~S("\u003c/script>")
    assert Json.encode("\u2028") == ~S("\u2028")
    assert Json.encode(<<"a", 0xFF, "b">>) == ~s("a\uFFFDb")
  end

  test "is JSON to another reader" do
    value = [text: "a\"\\\n\u2028<é" <> <<0xFE>>, list: [1, 2.5, true, nil], map: %{x: %{}}]
    path = Path.join(System.tmp_dir!(), "turn_json_#{System.pid()}")
    File.write!(path, Json.encode(value))

    read =
      "import json,sys; d=json.load(open(sys.argv[1])); print(sorted(d), d['list'], ascii(d['text']))"

    {out, 0} = System.cmd("python3", ["-c", read, path])
    File.rm!(path)

    assert out ==
             ~S(['list', 'map', 'text'] [1, 2.5, True, None] '"a"\\\n\u2028<\xe9\ufffd')
             |> String.replace(~s('"a"), ~s('a"))
             |> Kernel.<>("\n")
  end

  describe "reads" do
    test "every kind of value" do
      for {text, value} <- [
            {"null", nil},
            {"true", true},
            {" false\r\n", false},
            {"0", 0},
            {"-42", -42},
            {"12345678901234567890", 12_345_678_901_234_567_890},
            {"1.5", 1.5},
            {"-0.25e2", -25.0},
            {"1E3", 1000.0},
            {"1e-2", 0.01},
            {~s(""), ""},
            {~s("é☃"), "é☃"},
            {"[]", []},
            {"[ 1 ,[ ], {}]", [1, [], %{}]},
            {~s({"a" : {"b":[null]}, "c":""}), %{"a" => %{"b" => [nil]}, "c" => ""}},
            {~s({"a":1,"a":2}), %{"a" => 2}}
          ] do
        assert Json.decode(text) == {:ok, value}
      end
    end

    test "escapes, and pairs of surrogates" do
      assert Json.decode(~S("\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\u0000")) ==
               {:ok, "\"\\/\b\f\n\r\tAé€\0"}

      assert Json.decode(~S("\uD83D\uDE00\ud83d\ude00")) == {:ok, "😀😀"}
      assert Json.decode(~S("\uFFFF")) == {:ok, <<0xFFFF::utf8>>}
    end

    test "nothing that is not JSON, and says where" do
      for {text, offset} <- [
            {"", 0},
            {"  ", 2},
            {"nul", 0},
            {"True", 0},
            {"NaN", 0},
            {"-", 0},
            {"+1", 0},
            {"01", 1},
            {"1.", 1},
            {".5", 0},
            {"1e", 1},
            {"1e999", 0},
            {"0x10", 1},
            {"'a'", 0},
            {~s("a), 2},
            {"\"a\nb\"", 2},
            {~S("\x"), 2},
            {~S("\u12G4"), 3},
            {~S("\u12"), 3},
            {"[1,]", 3},
            {"[1 2]", 3},
            {"[", 1},
            {"[1", 2},
            {"{", 1},
            {"{a:1}", 1},
            {~s({"a"}), 4},
            {~s({"a":1,}), 7},
            {~s({"a":1 "b":2}), 7},
            {"1 2", 2},
            {"[] x", 3},
            {"\uFEFF[]", 0},
            {"// a\n1", 0},
            {"<html>", 0},
            {String.duplicate("9", 65), 0}
          ] do
        assert {text, Json.decode(text)} == {text, {:error, {:syntax, offset}}}
      end
    end

    test "no half of a surrogate pair and no bytes that are not UTF-8" do
      for text <- [
            ~S("\uD83D"),
            ~S("\uDE00"),
            ~S("\uD83Dx"),
            ~S("\uD83D\n"),
            ~S("\uD83D\u0041"),
            ~S("\uDE00\uD83D"),
            <<?", 0xFF, ?">>,
            <<?", 0xC0, 0x80, ?">>,
            <<?", 0xED, 0xA0, 0x80, ?">>,
            <<?", 0xF4, 0x90, 0x80, 0x80, ?">>,
            <<?", 0xC3, ?">>
          ] do
        assert {:error, {:syntax, _}} = Json.decode(text)
      end
    end

    test "no deeper than 32 and no longer than a mebibyte" do
      nested = &(String.duplicate("[", &1) <> String.duplicate("]", &1))
      assert {:ok, [[_ | _]]} = Json.decode(nested.(32))
      assert Json.decode(nested.(33)) == {:error, :too_deep}
      assert Json.decode(String.duplicate("[", 1_000_000)) == {:error, :too_deep}

      assert Json.decode(String.duplicate(~s({"a":), 100_000)) == {:error, :too_deep}
      full = ~s(") <> String.duplicate("a", 1_048_574) <> ~s(")
      assert {:ok, <<"a", _::binary>>} = Json.decode(full)
      assert Json.decode(full <> " ") == {:error, :too_big}
    end

    test "what it wrote" do
      value = %{"text" => "a\"\\\n\u2028<é😀", "list" => [1, 2.5, true, nil, %{}]}
      assert value |> Json.encode() |> Json.decode() == {:ok, value}
    end
  end
end
