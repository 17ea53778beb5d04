# The tests say themselves which provider and which secret they want.
for {name, _} <- System.get_env(), String.starts_with?(name, "TURN_"), do: System.delete_env(name)

Cromulent.Turn.HttpServer.init()

ExUnit.start(
  capture_log: true,
  formatters: [ExUnit.CLIFormatter, Cromulent.Turn.Skips]
)
