defmodule CromulentWeb.Endpoint do
  use Phoenix.Endpoint, otp_app: :cromulent

  @session_options [
    store: :cookie,
    key: "_cromulent_key",
    signing_salt: "Yr0mq2Gd",
    same_site: "Lax"
  ]

  socket "/live", Phoenix.LiveView.Socket, websocket: [connect_info: [session: @session_options]]
  socket "/socket", CromulentWeb.UserSocket, websocket: true

  plug Plug.Static,
    at: "/",
    from: :cromulent,
    gzip: not code_reloading?,
    only: CromulentWeb.static_paths()

  if code_reloading? do
    plug Phoenix.CodeReloader
  end

  plug Plug.RequestId
  plug Plug.Telemetry, event_prefix: [:phoenix, :endpoint]

  plug Plug.Parsers,
    parsers: [:urlencoded],
    pass: ["*/*"]

  plug Plug.MethodOverride
  plug Plug.Head
  plug Plug.Session, @session_options
  plug CromulentWeb.Router
end
