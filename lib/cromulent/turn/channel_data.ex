defmodule Cromulent.Turn.ChannelData do
  @moduledoc """
  ChannelData messages (RFC 8656 §12.4): a channel number, a length, and the data of one datagram.

      iex> Cromulent.Turn.ChannelData.encode(0x4000, "abc")
      <<0x40, 0x00, 0, 3, "abc">>
      iex> Cromulent.Turn.ChannelData.decode(<<0x40, 0x00, 0, 3, "abc">>)
      {:ok, {0x4000, "abc"}}

  On TCP and TLS a message is padded to a multiple of 4 bytes, and STUN and ChannelData messages follow
  each other without any other framing; `frame_size/1` tells where the first one ends.
  """

  alias :cromulent_turn_nif, as: Nif

  @channels 0x4000..0x4FFF
  @max 65_535

  @typedoc "A channel number that a client may bind: `0x4000..0x4FFF` (RFC 8656 §12)."
  @type channel :: 0x4000..0x4FFF

  @doc """
  A ChannelData message with at most 65,535 bytes of data.

  Options: `stream?: true` pads the message to a multiple of 4 bytes, as TCP and TLS want it
  (RFC 8656 §12.5); `false` is the default.

  Raises `ArgumentError` for a channel outside `0x4000..0x4FFF` and for data that is too long.
  """
  @spec encode(channel(), iodata(), stream?: boolean()) :: binary()
  def encode(channel, data, opts \\ []) do
    Nif.channel_data_encode(channel, to_binary(data), stream?(opts))
  rescue
    error in ArgumentError -> reraise explain(channel, data, error), __STACKTRACE__
  end

  @doc """
  The channel and the data of one message. Bytes behind it, such as padding, do not count.

  `:truncated` when there are fewer than 4 bytes or fewer than the length says, at the offset where they
  end; `:bad_channel`, at offset 0, for a channel outside `0x4000..0x4FFF` (RFC 8656 §12).
  """
  @spec decode(binary()) ::
          {:ok, {channel(), binary()}} | {:error, {:truncated | :bad_channel, non_neg_integer()}}
  def decode(frame), do: Nif.channel_data_decode(frame)

  @doc """
  The size in bytes of the first frame in what a stream has brought so far, STUN or ChannelData, padding
  included. `:more` when there are too few bytes to tell; the size may be larger than what is there.

  On an error the stream cannot be brought back into step (RFC 8489 §6.2.2): `:not_stun` when the first
  byte starts neither kind of frame, `:bad_cookie` and `:bad_length` for a STUN header that cannot be one.
  Channels in `0x5000..0x7FFF` are sized too, though `decode/1` refuses them.
  """
  @spec frame_size(binary()) ::
          {:ok, pos_integer()}
          | :more
          | {:error, {:not_stun | :bad_cookie | :bad_length, non_neg_integer()}}
  def frame_size(bytes), do: Nif.frame_size(bytes)

  defp to_binary(data) when is_binary(data), do: data
  defp to_binary(data), do: IO.iodata_to_binary(data)

  defp stream?([]), do: false
  defp stream?(stream?: stream) when is_boolean(stream), do: stream

  defp stream?(opts) do
    raise ArgumentError, "expected [stream?: true | false] as options, got: #{inspect(opts)}"
  end

  defp explain(channel, _data, _error) when channel not in @channels do
    %ArgumentError{message: "expected channel in 0x4000..0x4FFF, got: #{hex(channel)}"}
  end

  defp explain(_channel, data, error) do
    case iodata_size(data) do
      :error ->
        %ArgumentError{message: "expected data to be iodata"}

      size when size > @max ->
        %ArgumentError{message: "expected at most #{@max} bytes of data, got: #{size}"}

      _ ->
        error
    end
  end

  defp iodata_size(data) do
    IO.iodata_length(data)
  rescue
    ArgumentError -> :error
  end

  defp hex(channel) when is_integer(channel) and channel >= 0,
    do: "0x" <> Integer.to_string(channel, 16)

  defp hex(other), do: inspect(other)
end
