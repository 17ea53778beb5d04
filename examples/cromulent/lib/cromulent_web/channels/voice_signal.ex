defmodule CromulentWeb.VoiceSignal do
  @moduledoc """
  What clients may say to one another through the voice channel: session descriptions and ICE candidates.

  Pure functions: a message is read, with only its known fields, or refused; and a client that sends too
  many is stopped.
  """

  # Bytes. A description with audio alone has about 2 KiB, one with video about 8.
  @longest_sdp 65_536
  @longest_candidate 4_096

  # Messages in a window of milliseconds. Somebody who joins 20 others makes 20 offers with about 10
  # candidates each, at once.
  @most 600
  @window 10_000

  @typedoc "The start of the window, and the messages in it."
  @type budget :: {integer(), non_neg_integer()}

  @doc "Reads a message: whom it is for, and what of it is passed on."
  @spec parse(event :: String.t(), payload :: term()) :: {:ok, String.t(), map()} | :error
  def parse(event, %{"to" => to, "sdp" => sdp})
      when event in ["sdp_offer", "sdp_answer"] and is_binary(to) do
    with {:ok, sdp} <- description(sdp), do: {:ok, to, %{"sdp" => sdp}}
  end

  def parse("ice_candidate", %{"to" => to, "candidate" => candidate}) when is_binary(to) do
    with {:ok, candidate} <- candidate(candidate), do: {:ok, to, %{"candidate" => candidate}}
  end

  def parse(_event, _payload), do: :error

  # RTCSessionDescription, or its text alone.
  defp description(%{"type" => type, "sdp" => sdp}) when type in ["offer", "answer"] do
    with {:ok, sdp} <- description(sdp), do: {:ok, %{"type" => type, "sdp" => sdp}}
  end

  defp description(sdp) when is_binary(sdp) and byte_size(sdp) in 1..@longest_sdp, do: {:ok, sdp}
  defp description(_other), do: :error

  # RTCIceCandidate, or nil: the end of candidates.
  defp candidate(nil), do: {:ok, nil}

  defp candidate(%{"candidate" => text} = candidate)
       when is_binary(text) and byte_size(text) <= @longest_candidate do
    known = Map.take(candidate, ["candidate", "sdpMid", "sdpMLineIndex", "usernameFragment"])
    if Enum.all?(known, &field?/1), do: {:ok, known}, else: :error
  end

  defp candidate(_other), do: :error

  defp field?({"candidate", _text}), do: true
  defp field?({_name, nil}), do: true
  defp field?({"sdpMLineIndex", index}), do: is_integer(index) and index in 0..65_535
  defp field?({_name, text}), do: is_binary(text) and byte_size(text) <= 256

  @doc "A new budget; `now` in milliseconds, from any clock that never goes back."
  @spec budget(now :: integer()) :: budget()
  def budget(now), do: {now, 0}

  @doc "Takes one message out of the budget."
  @spec spend(budget(), now :: integer()) :: {:ok, budget()} | :error
  def spend({start, _count}, now) when now - start >= @window, do: {:ok, {now, 1}}
  def spend({start, count}, _now) when count < @most, do: {:ok, {start, count + 1}}
  def spend(_budget, _now), do: :error
end
