defmodule CromulentWeb.UserAuth do
  @moduledoc "Whose request, or whose LiveView, it is: the session says."

  use CromulentWeb, :verified_routes

  import Plug.Conn

  alias Cromulent.Users

  @doc "Logs a user in, with a session of its own."
  @spec log_in(Plug.Conn.t(), Users.t()) :: Plug.Conn.t()
  def log_in(conn, user) do
    conn
    |> configure_session(renew: true)
    |> clear_session()
    |> put_session(:user_id, user.id)
    |> put_session(:user_name, user.name)
  end

  @doc "A plug: without a user, the page to log in."
  @spec require_user(Plug.Conn.t(), term()) :: Plug.Conn.t()
  def require_user(conn, _opts) do
    case user(get_session(conn)) do
      {:ok, user} -> assign(conn, :current_user, user)
      :error -> conn |> Phoenix.Controller.redirect(to: ~p"/login") |> halt()
    end
  end

  @doc false
  def on_mount(:default, _params, session, socket) do
    case user(session) do
      {:ok, user} ->
        :ok = Users.put(user)
        {:cont, Phoenix.Component.assign(socket, :current_user, user)}

      :error ->
        {:halt, Phoenix.LiveView.redirect(socket, to: ~p"/login")}
    end
  end

  defp user(%{"user_id" => id, "user_name" => name}), do: {:ok, %{id: id, name: name}}
  defp user(_session), do: :error
end
