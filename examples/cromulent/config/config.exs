import Config

config :cromulent, CromulentWeb.Endpoint,
  url: [host: "localhost"],
  adapter: Bandit.PhoenixAdapter,
  render_errors: [formats: [html: CromulentWeb.ErrorHTML], layout: false],
  pubsub_server: Cromulent.PubSub,
  live_view: [signing_salt: "x2rPqYwF"]

config :logger, :console,
  format: "$time $metadata[$level] $message\n",
  metadata: [:request_id]

config :phoenix, :json_library, Jason

import_config "#{config_env()}.exs"
