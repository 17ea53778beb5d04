defmodule CromulentWeb.UserSocketTest do
  use ExUnit.Case, async: true

  import Phoenix.ChannelTest

  alias CromulentWeb.{UserSocket, Voice}

  @endpoint CromulentWeb.Endpoint

  test "a token that the LiveView signed opens it" do
    assert {:ok, socket} = connect(UserSocket, %{"token" => Voice.token(@endpoint, "u-1")})
    assert socket.assigns.user_id == "u-1"
    assert socket.id == "user_socket:u-1"
  end

  test "nothing else does" do
    old = Phoenix.Token.sign(@endpoint, "user socket", "u-1", signed_at: 0)
    other = Phoenix.Token.sign(@endpoint, "other salt", "u-1")

    for params <- [
          %{},
          %{"token" => ""},
          %{"token" => old},
          %{"token" => other},
          %{"token" => %{}}
        ] do
      assert :error = connect(UserSocket, params)
    end
  end
end
