defmodule CromulentWeb.ConnCase do
  @moduledoc "Tests of pages; what they share."

  use ExUnit.CaseTemplate

  using do
    quote do
      import CromulentWeb.ConnCase
      import Phoenix.ConnTest
      import Phoenix.LiveViewTest

      @endpoint CromulentWeb.Endpoint
    end
  end

  setup do
    {:ok, conn: Phoenix.ConnTest.build_conn()}
  end

  @doc "A connection with the session of a new user."
  def log_in(conn, name) do
    {:ok, user} = Cromulent.Users.log_in(name)

    {Phoenix.ConnTest.init_test_session(conn, user_id: user.id, user_name: user.name), user}
  end
end
