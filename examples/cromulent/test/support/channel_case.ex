defmodule CromulentWeb.ChannelCase do
  @moduledoc "Tests of voice channels; what they share."

  use ExUnit.CaseTemplate

  using do
    quote do
      import CromulentWeb.ChannelCase

      alias CromulentWeb.VoiceClient
    end
  end

  @doc "Asks until the answer is true; fails when it has not been for five seconds."
  def eventually(question, deadline \\ System.monotonic_time(:millisecond) + 5_000) do
    cond do
      answer = question.() ->
        answer

      System.monotonic_time(:millisecond) > deadline ->
        ExUnit.Assertions.flunk("not within five seconds")

      true ->
        Process.sleep(10)
        eventually(question, deadline)
    end
  end

  @doc "The processes of all voice channels, of joins that are being refused too."
  def channel_processes do
    for pid <- Process.list(),
        {:dictionary, dictionary} <- [Process.info(pid, :dictionary)],
        {CromulentWeb.VoiceChannel, _, _} <- [dictionary[:"$initial_call"]],
        do: pid
  end

  @doc "The id of a voice channel."
  def voice_id(name) do
    Enum.find(Cromulent.Channels.list(:voice), &(&1.name == name)).id
  end
end
