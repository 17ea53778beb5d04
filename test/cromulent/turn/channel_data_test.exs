defmodule Cromulent.Turn.ChannelDataTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.ChannelData
  alias Cromulent.Turn.Stun

  doctest ChannelData

  test "encodes for datagrams and for streams" do
    assert ChannelData.encode(0x4000, "abc") == <<0x40, 0, 0, 3, "abc">>
    assert ChannelData.encode(0x4FFF, "abc", stream?: false) == <<0x4F, 0xFF, 0, 3, "abc">>
    assert ChannelData.encode(0x4000, "abc", stream?: true) == <<0x40, 0, 0, 3, "abc", 0>>
    assert ChannelData.encode(0x4000, "abcd", stream?: true) == <<0x40, 0, 0, 4, "abcd">>
    assert ChannelData.encode(0x4000, "") == <<0x40, 0, 0, 0>>
    assert ChannelData.encode(0x4001, ["a", [?b | "c"]]) == <<0x40, 1, 0, 3, "abc">>
  end

  test "is inverse for every size" do
    for size <- [0, 1, 2, 3, 4, 63, 64, 65, 1200, 65_535], stream? <- [false, true] do
      data = :crypto.strong_rand_bytes(size)
      frame = ChannelData.encode(0x4ABC, data, stream?: stream?)
      assert ChannelData.decode(frame) == {:ok, {0x4ABC, data}}
      padded = if stream?, do: 4 + 4 * div(size + 3, 4), else: 4 + size
      assert byte_size(frame) == padded
    end
  end

  test "what stands behind the length does not count" do
    assert ChannelData.decode(<<0x40, 0, 0, 1, "abc">>) == {:ok, {0x4000, "a"}}
  end

  test "refuses broken messages" do
    assert ChannelData.decode("") == {:error, {:truncated, 0}}
    assert ChannelData.decode(<<0x40, 0>>) == {:error, {:truncated, 2}}
    assert ChannelData.decode(<<0x40, 0, 0, 16, "short">>) == {:error, {:truncated, 9}}
    assert ChannelData.decode(<<0x50, 0, 0, 3, "abc">>) == {:error, {:bad_channel, 0}}
    assert ChannelData.decode(<<0x3F, 0xFF, 0, 3, "abc">>) == {:error, {:bad_channel, 0}}
  end

  test "refuses wrong arguments" do
    for {args, message} <- [
          {[0x3FFF, ""], "expected channel in 0x4000..0x4FFF, got: 0x3FFF"},
          {[0x5000, ""], "expected channel in 0x4000..0x4FFF, got: 0x5000"},
          {[-1, ""], "expected channel in 0x4000..0x4FFF, got: -1"},
          {[:a, ""], "expected channel in 0x4000..0x4FFF, got: :a"},
          {[0x4000, :a], "expected data to be iodata"},
          {[0x4000, :binary.copy("x", 65_536)],
           "expected at most 65535 bytes of data, got: 65536"},
          {[0x4000, "", [stream: true]],
           "expected [stream?: true | false] as options, got: [stream: true]"},
          {[0x4000, "", [stream?: 1]],
           "expected [stream?: true | false] as options, got: [stream?: 1]"}
        ] do
      assert_raise ArgumentError, message, fn -> apply(ChannelData, :encode, args) end
    end

    assert_raise ArgumentError, fn -> ChannelData.decode(nil) end
    assert_raise ArgumentError, fn -> ChannelData.frame_size(<<1::7>>) end
  end

  describe "frame_size/1" do
    @stun <<0, 1, 0, 0, 0x2112A442::32, 0::96>>

    test "needs a header to tell" do
      assert ChannelData.frame_size("") == :more
      assert ChannelData.frame_size(<<0x40, 0, 0>>) == :more
      assert ChannelData.frame_size(<<0x40, 0, 0, 3>>) == {:ok, 8}
      assert ChannelData.frame_size(<<0x40, 0, 0xFF, 0xFF>>) == {:ok, 65_540}
      assert ChannelData.frame_size(<<0x7F, 0xFF, 0, 4>>) == {:ok, 8}
      assert ChannelData.frame_size(@stun) == {:ok, 20}
      assert ChannelData.frame_size(@stun <> "more") == {:ok, 20}
    end

    test "knows when a stream is beyond repair" do
      assert ChannelData.frame_size(<<0x80>>) == {:error, {:not_stun, 0}}
      assert ChannelData.frame_size(<<0x16, 3, 1, 0, 0>>) == {:error, {:not_stun, 0}}

      assert ChannelData.frame_size(<<0, 1, 0, 0, 0x2112A443::32, 0::96>>) ==
               {:error, {:bad_cookie, 4}}

      assert ChannelData.frame_size(<<0, 1, 0, 2, 0x2112A442::32, 0::96>>) ==
               {:error, {:bad_length, 2}}
    end

    test "cuts a stream into the same frames however it arrives" do
      frames = [
        Stun.encode(Stun.new(:request, :binding)),
        ChannelData.encode(0x4000, "abcde", stream?: true),
        Stun.encode(Stun.new(:request, :binding), fingerprint: true)
      ]

      assert Enum.map(frames, &byte_size/1) == [20, 12, 28]
      stream = Enum.join(frames)

      for first <- 0..byte_size(stream), second <- first..byte_size(stream) do
        pieces = [
          binary_part(stream, 0, first),
          binary_part(stream, first, second - first),
          binary_part(stream, second, byte_size(stream) - second)
        ]

        assert cut(pieces) == frames
      end
    end
  end

  # Frames out of pieces, as a reader of a TCP connection does it.
  defp cut(pieces) do
    {"", frames} =
      Enum.reduce(pieces, {"", []}, fn piece, {rest, frames} -> take(rest <> piece, frames) end)

    Enum.reverse(frames)
  end

  defp take(bytes, frames) do
    case ChannelData.frame_size(bytes) do
      {:ok, size} when byte_size(bytes) >= size ->
        <<frame::binary-size(size), rest::binary>> = bytes
        take(rest, [frame | frames])

      {:ok, _} ->
        {bytes, frames}

      :more ->
        {bytes, frames}
    end
  end
end
