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
end
