defmodule Cromulent.ChannelsTest do
  use ExUnit.Case, async: true

  alias Cromulent.Channels

  test "there are text channels and voice channels, each with an id of its own" do
    assert [_ | _] = Channels.list(:text)
    assert [_ | _] = Channels.list(:voice)
    ids = Enum.map(Channels.list(), & &1.id)
    assert ids == Enum.uniq(ids)
    for channel <- Channels.list(), do: assert({:ok, channel} == Channels.fetch(channel.id))
  end

  test "an id that is none finds nothing, whatever it is" do
    for id <- ["", "nobody", nil, 1, %{}, <<255>>], do: assert(:error == Channels.fetch(id))
  end

  test "members are told by their names" do
    room = Enum.find(Channels.list(:voice), &(&1.members != :everybody))
    assert Channels.member?(room, %{id: "1", name: hd(room.members)})
    refute Channels.member?(room, %{id: "1", name: "Mallory"})
    assert Channels.member?(hd(Channels.list(:text)), %{id: "1", name: "Mallory"})
  end

  test "nothing is not said, nor is too much" do
    channel = hd(Channels.list(:text))
    user = %{id: "1", name: "Ada"}
    assert {:error, :empty} == Channels.say(channel, user, " \n ")
    assert {:error, :too_long} == Channels.say(channel, user, String.duplicate("x", 2_001))
  end
end
