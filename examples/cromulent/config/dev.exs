import Config

config :cromulent, CromulentWeb.Endpoint,
  debug_errors: true,
  code_reloader: true,
  check_origin: false,
  secret_key_base:
    "for development only: no user's session of yours depends on this key, nor does a token",
  watchers: [node: ["build.mjs", "--watch", cd: Path.expand("../assets", __DIR__)]]

config :phoenix, :plug_init_mode, :runtime
config :phoenix, :stacktrace_depth, 20
