defmodule CromulentWeb.SessionController do
  use CromulentWeb, :controller

  alias Cromulent.Users
  alias CromulentWeb.UserAuth

  plug :put_layout, false

  def new(conn, _params), do: render(conn, :new, name: "", error: nil)

  def create(conn, params) do
    case Users.log_in(params["name"]) do
      {:ok, user} ->
        conn |> UserAuth.log_in(user) |> redirect(to: ~p"/")

      {:error, :bad_name} ->
        name = if is_binary(params["name"]), do: params["name"], else: ""

        conn
        |> put_status(:unprocessable_entity)
        |> render(:new, name: name, error: "A name has 1 to 32 characters.")
    end
  end

  def delete(conn, _params) do
    conn |> configure_session(drop: true) |> redirect(to: ~p"/login")
  end
end
