defmodule Mix.Tasks.Compile.CromulentTurnNative do
  @moduledoc false
  # Builds the NIF and the relay with the Makefile, which does nothing when nothing changed.
  use Mix.Task.Compiler

  @impl true
  def run(_args) do
    link_priv()
    before = built()

    case make("build") do
      :ok -> {if(built() == before, do: :noop, else: :ok), []}
      {:error, text} -> Mix.raise("could not build cromulent_turn's NIF and relay: " <> text)
    end
  end

  @impl true
  def clean do
    case make("clean") do
      :ok -> :ok
      {:error, text} -> Mix.raise("could not clean cromulent_turn's NIF and relay: " <> text)
    end
  end

  # Mix links the build's priv to the source's where there is one, and otherwise leaves a directory.
  # Once make or rebar3 had made the source's, Mix would copy that over the directory's files, in
  # place, while programs run from them. So there is one from the start.
  defp link_priv do
    priv = Path.join(Mix.Project.app_path(), "priv")
    File.mkdir_p!("priv")
    if match?({:ok, %{type: :directory}}, File.lstat(priv)), do: File.rm_rf!(priv)
    Mix.Project.build_structure()
  end

  defp built do
    for name <- ["cromulent_turn_nif.so", "turn_relay"] do
      File.stat(Path.join([Mix.Project.app_path(), "priv", name]), time: :posix)
    end
  end

  defp make(target) do
    name = System.get_env("MAKE") || default_make()

    with {:ok, make} <- find(name), :ok <- check_path(Mix.Project.app_path()) do
      opts = [env: env(), into: IO.stream(), stderr_to_stdout: true]
      jobs = "-j#{System.schedulers_online()}"

      case System.cmd(make, ["--no-print-directory", jobs, target], opts) do
        {_, 0} -> :ok
        {_, status} -> {:error, "`#{name} #{target}` failed with status #{status} (see above)"}
      end
    end
  end

  defp default_make do
    case :os.type() do
      {:unix, os} when os in [:freebsd, :openbsd, :netbsd, :dragonfly] -> "gmake"
      _ -> "make"
    end
  end

  defp find(name) do
    case System.find_executable(name) do
      nil ->
        {:error,
         "#{name} not found: apt install make | apk add make | dnf install make | " <>
           "xcode-select --install"}

      path ->
        {:ok, path}
    end
  end

  # GNU make splits names at spaces, and nothing can stop it.
  defp check_path(path) do
    if path =~ " ", do: {:error, "the path #{inspect(path)} has a space in it"}, else: :ok
  end

  # Cross compilers (Nerves) set the three OTP paths: theirs win. The variables of a make that
  # called mix must not reach this one.
  defp env do
    ei = :code.lib_dir(:erl_interface)

    [
      {"MIX_APP_PATH", Mix.Project.app_path()},
      {"ERTS_INCLUDE_DIR", System.get_env("ERTS_INCLUDE_DIR") || erts_include()},
      {"ERL_EI_INCLUDE_DIR", System.get_env("ERL_EI_INCLUDE_DIR") || ei_dir(ei, "include")},
      {"ERL_EI_LIBDIR", System.get_env("ERL_EI_LIBDIR") || ei_dir(ei, "lib")}
    ] ++ for(name <- ~w(MAKEFLAGS MFLAGS MAKELEVEL SANITIZE UDP), do: {name, nil})
  end

  defp erts_include do
    root = to_string(:code.root_dir())
    erts = Path.join(root, "erts-#{:erlang.system_info(:version)}/include")
    if File.exists?(Path.join(erts, "erl_nif.h")), do: erts, else: Path.join(root, "usr/include")
  end

  # Without the directory make asks erl, finds nothing, and says what to install.
  defp ei_dir({:error, _}, _dir), do: nil
  defp ei_dir(ei, dir), do: Path.join(to_string(ei), dir)
end

defmodule Cromulent.Turn.MixProject do
  use Mix.Project

  @version "VERSION" |> Path.expand(__DIR__) |> File.read!() |> String.trim()

  def project do
    [
      app: :cromulent_turn,
      version: @version,
      elixir: "~> 1.14",
      compilers: [:cromulent_turn_native] ++ Mix.compilers(),
      elixirc_paths: elixirc_paths(Mix.env()),
      start_permanent: Mix.env() == :prod,
      deps: [],
      name: "cromulent_turn",
      description: "STUN and TURN inside the BEAM, for Phoenix apps with voice and video",
      aliases: ["turn.server": [&compile_aside/1, "turn.server"]],
      package: package()
    ]
  end

  # Standard output belongs to the `ready` line: what compiling says goes to standard error.
  defp compile_aside(_args) do
    leader = Process.group_leader()
    Process.group_leader(self(), Process.whereis(:standard_error))
    Mix.Task.run("compile")
    Process.group_leader(self(), leader)
  end

  # :inets serves the check page of `mix turn.demo`, and nothing else.
  def application do
    [
      mod: {Cromulent.Turn.Application, []},
      extra_applications: [
        :logger,
        :crypto,
        inets: :optional,
        ssl: :optional,
        public_key: :optional
      ]
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/support"]
  defp elixirc_paths(_), do: ["lib"]

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{},
      files: ~w(lib src c_src assets docs mk Makefile mix.exs rebar.config VERSION LICENSE
           README.md CHANGELOG.md .formatter.exs) ++ shipped_priv()
    ]
  end

  # priv/ holds build results too: those are made where the package is used.
  defp shipped_priv do
    Path.wildcard("priv/**", match_dot: false)
    |> Enum.filter(&File.regular?/1)
    |> Enum.reject(&(Path.basename(&1) in ["cromulent_turn_nif.so", "turn_relay"]))
  end
end
