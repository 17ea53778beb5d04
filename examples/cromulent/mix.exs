defmodule Cromulent.MixProject do
  use Mix.Project

  def project do
    [
      app: :cromulent,
      version: "0.1.0",
      elixir: "~> 1.14",
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      aliases: aliases(),
      deps: deps()
    ]
  end

  def application do
    [mod: {Cromulent.Application, []}, extra_applications: [:logger, :runtime_tools]]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp deps do
    [
      {:phoenix, "~> 1.7.21 or ~> 1.8"},
      {:phoenix_html, "~> 4.1"},
      {:phoenix_live_view, "~> 1.0"},
      {:bandit, "~> 1.6"},
      {:jason, "~> 1.4"},
      {:cromulent_turn, path: "../.."},
      # What LiveView's test helpers parse HTML with: floki for 1.0, lazy_html for 1.1.
      {:floki, ">= 0.37.0", only: :test},
      {:lazy_html, ">= 0.1.0", only: :test}
    ]
  end

  defp aliases do
    [
      setup: ["deps.get", "assets.setup", "assets.build"],
      "assets.setup": ["cmd npm install --prefix assets --no-audit --no-fund"],
      "assets.build": ["cmd npm run --prefix assets build"],
      "assets.deploy": ["cmd npm run --prefix assets deploy", "phx.digest"]
    ]
  end
end
