defmodule Cromulent.Turn.OpaqueStringTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{OpaqueString, Vectors}

  test "the vectors come out byte by byte" do
    lines = Vectors.lines("opaque_string.txt")
    assert length(lines) == 14

    for ["opaque_string", input, outcome] <- lines do
      right = if outcome == "rejected", do: :error, else: {:ok, Vectors.hex(outcome)}
      assert OpaqueString.prepare(Vectors.hex(input)) == right, input
    end
  end

  test "what is prepared stays as it is" do
    for text <- ["1763712000:alice", "a b", "マトリックス😀", "é", "한글", "می\u200cخواهم", "Ａⅸª"] do
      assert {:ok, prepared} = OpaqueString.prepare(text)
      assert OpaqueString.prepare(prepared) == {:ok, prepared}
    end
  end

  test "every space is a plain one, and Korean is put together" do
    for space <- [0xA0, 0x1680, 0x2000, 0x200A, 0x202F, 0x205F, 0x3000],
        do: assert(OpaqueString.prepare(<<"a", space::utf8, "b">>) == {:ok, "a b"})

    assert OpaqueString.prepare(<<0x1112::utf8, 0x1161::utf8, 0x11AB::utf8>>) == {:ok, "한"}
    assert OpaqueString.prepare(<<0x1112::utf8>>) == :error
  end

  test "controls, what nobody sees and what is no character are refused" do
    for c <-
          [0, 0x1F, 0x7F, 0x80, 0x9F, 0xAD, 0x200B, 0x2028, 0x202E, 0x2060, 0xFE0F, 0xFEFF] ++
            [0xE000, 0xFDD0, 0xFFFE, 0x1FFFF, 0xE0020, 0x10FFFD],
        do: assert(OpaqueString.prepare(<<"a", c::utf8, "b">>) == :error)
  end

  test "prepared/1 leaves alone what it cannot prepare" do
    assert OpaqueString.prepared("e\u0301") == "é"
    assert OpaqueString.prepared("a\u00ADb") == "a\u00ADb"
    assert OpaqueString.prepared(<<0xFF>>) == <<0xFF>>
    assert OpaqueString.prepared("") == ""
  end
end
