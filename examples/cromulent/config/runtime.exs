import Config

if System.get_env("PHX_SERVER") do
  config :cromulent, CromulentWeb.Endpoint, server: true
end

# The relay runs in this node unless TURN_PROVIDER names somebody else's. All other TURN_* variables
# are read by the library (README.md of cromulent_turn).
unless System.get_env("TURN_PROVIDER") do
  config :cromulent_turn, provider: "embedded"
end

# What a second join of the same user in the same channel meets: it is refused ("reject"), or it takes the
# place of the first ("takeover").
on_duplicate =
  case System.get_env("CROMULENT_ON_DUPLICATE", "reject") do
    "reject" -> :reject
    "takeover" -> :takeover
    other -> raise "CROMULENT_ON_DUPLICATE=#{other}: must be reject or takeover"
  end

config :cromulent, CromulentWeb.VoiceChannel, on_duplicate: on_duplicate

# To be seen from other machines, CROMULENT_LISTEN=all; without HTTPS, browsers give no microphone there.
if config_env() == :dev do
  ip = if System.get_env("CROMULENT_LISTEN") == "all", do: {0, 0, 0, 0}, else: {127, 0, 0, 1}
  port = String.to_integer(System.get_env("PORT", "4000"))
  config :cromulent, CromulentWeb.Endpoint, http: [ip: ip, port: port]
end

if port = config_env() == :test && System.get_env("PORT") do
  config :cromulent, CromulentWeb.Endpoint, http: [port: String.to_integer(port)]
end

if config_env() == :prod do
  secret_key_base =
    System.get_env("SECRET_KEY_BASE") ||
      raise "SECRET_KEY_BASE is missing: mix phx.gen.secret makes one"

  config :cromulent, CromulentWeb.Endpoint,
    url: [host: System.get_env("PHX_HOST", "example.com"), port: 443, scheme: "https"],
    http: [ip: {0, 0, 0, 0, 0, 0, 0, 0}, port: String.to_integer(System.get_env("PORT", "4000"))],
    secret_key_base: secret_key_base
end
