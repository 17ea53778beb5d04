defmodule CromulentWeb.UserSocket do
  @moduledoc """
  The socket of a user's voice channels. It takes a token that the LiveView signed
  (`CromulentWeb.Voice.token/2`): no token, no socket.
  """

  use Phoenix.Socket

  channel "voice:*", CromulentWeb.VoiceChannel

  # Seconds.
  @max_age 86_400

  @impl true
  def connect(%{"token" => token}, socket, _connect_info) when is_binary(token) do
    case Phoenix.Token.verify(socket, "user socket", token, max_age: @max_age) do
      {:ok, user_id} -> {:ok, assign(socket, :user_id, user_id)}
      {:error, _reason} -> :error
    end
  end

  def connect(_params, _socket, _connect_info), do: :error

  # To end all of a user's sockets, as when they are banned:
  # CromulentWeb.Endpoint.broadcast("user_socket:" <> user_id, "disconnect", %{})
  @impl true
  def id(socket), do: "user_socket:#{socket.assigns.user_id}"
end
