defmodule CromulentWeb.VoicePolicy do
  @moduledoc "Who may join which voice channel, and what the others there see of them."

  alias Cromulent.{Channels, Users}

  @doc """
  Whether a user may join a channel. The id comes from the client: it may be anything.

  The map becomes a part of the user's Presence: everybody in the channel can read it.
  """
  @spec authorize(user_id :: String.t(), channel_id :: String.t()) ::
          {:ok, %{name: String.t()}} | {:error, :not_found | :unauthorized | :voice_disabled}
  def authorize(user_id, channel_id) do
    with {:channel, {:ok, %{type: :voice} = channel}} <- {:channel, Channels.fetch(channel_id)},
         {:ok, user} <- Users.fetch(user_id),
         true <- Channels.member?(channel, user) do
      {:ok, %{name: user.name}}
    else
      {:channel, _none_or_text} -> {:error, :not_found}
      _unknown_user_or_no_member -> {:error, :unauthorized}
    end
  end
end
