defmodule CromulentWeb.Router do
  use CromulentWeb, :router

  import CromulentWeb.UserAuth, only: [require_user: 2]

  pipeline :browser do
    plug :accepts, ["html"]
    plug :fetch_session
    plug :fetch_live_flash
    plug :put_root_layout, html: {CromulentWeb.Layouts, :root}
    plug :protect_from_forgery

    plug :put_secure_browser_headers, %{
      "content-security-policy" =>
        "default-src 'self'; connect-src 'self' ws: wss:; base-uri 'self'; frame-ancestors 'self'"
    }
  end

  scope "/", CromulentWeb do
    pipe_through :browser

    get "/login", SessionController, :new
    post "/login", SessionController, :create
    delete "/logout", SessionController, :delete
  end

  scope "/", CromulentWeb do
    pipe_through [:browser, :require_user]

    live_session :users, on_mount: CromulentWeb.UserAuth do
      live "/", ChannelLive, :index
      live "/channels/:id", ChannelLive, :show
    end
  end
end
