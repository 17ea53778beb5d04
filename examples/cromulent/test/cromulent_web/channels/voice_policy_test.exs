defmodule CromulentWeb.VoicePolicyTest do
  use ExUnit.Case, async: true

  alias Cromulent.{Channels, Users}
  alias CromulentWeb.VoicePolicy

  defp user(name) do
    {:ok, user} = Users.log_in(name)
    user.id
  end

  defp channel(name), do: Enum.find(Channels.list(), &(&1.name == name)).id

  test "a voice channel is for its members, who are seen with their names" do
    assert {:ok, %{name: "Bob"}} == VoicePolicy.authorize(user("Bob"), channel("Lounge"))
    assert {:ok, %{name: "Ada"}} == VoicePolicy.authorize(user("Ada"), channel("Back room"))

    assert {:error, :unauthorized} ==
             VoicePolicy.authorize(user("Bob"), channel("Back room"))

    assert {:error, :unauthorized} == VoicePolicy.authorize("nobody", channel("Lounge"))
  end

  test "a text channel, or none, is not found" do
    for id <- [channel("general"), "", "garbage", <<255>>] do
      assert {:error, :not_found} == VoicePolicy.authorize(user("Ada"), id)
    end
  end
end
