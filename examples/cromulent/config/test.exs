import Config

config :cromulent, CromulentWeb.Endpoint,
  http: [ip: {127, 0, 0, 1}, port: 0],
  server: false,
  secret_key_base:
    "for tests only: no user's session of yours depends on this key, nor does a token here"

# The relay of the tests: on loopback, on a port that is free.
config :cromulent_turn, listen: "udp:127.0.0.1:0", relay_ip: "127.0.0.1", workers: 1

config :logger, level: :warning
config :phoenix, :plug_init_mode, :runtime
