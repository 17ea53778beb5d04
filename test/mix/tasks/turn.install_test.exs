defmodule Mix.Tasks.Turn.InstallTest do
  # The shell of Mix and the current directory are everybody's.
  use ExUnit.Case, async: false

  alias Mix.Tasks.Turn.Install

  @example Path.expand("../../../examples/cromulent", __DIR__)

  setup do
    shell = Mix.shell()
    Mix.shell(Mix.Shell.Process)
    directory = Path.join(System.tmp_dir!(), "turn_install_#{System.unique_integer([:positive])}")
    File.mkdir_p!(Path.join(directory, "lib"))

    on_exit(fn ->
      Mix.shell(shell)
      File.rm_rf!(directory)
    end)

    %{directory: directory}
  end

  # An application as Phoenix's generator leaves it, as far as the task looks.
  defp skeleton(directory, app, web) do
    File.write!(Path.join(directory, "mix.exs"), """
    defmodule Skeleton#{System.unique_integer([:positive])}.MixProject do
      use Mix.Project
      def project, do: [app: :#{app}, version: "0.1.0"]
    end
    """)

    if web do
      File.write!(Path.join(directory, "lib/#{app}_web.ex"), "defmodule #{web} do\nend\n")
    end
  end

  defp install(directory, app, argv) do
    Mix.Project.in_project(app, directory, fn _ -> Install.run(argv) end)
    said()
  end

  defp said(lines \\ []) do
    receive do
      {:mix_shell, :info, [text]} -> said([text | lines])
    after
      0 -> lines |> Enum.reverse() |> Enum.join("\n")
    end
  end

  defp tree(directory) do
    for file <- Path.wildcard(directory <> "/{lib,assets}/**/*.*"), into: %{} do
      {Path.relative_to(file, directory), File.read!(file)}
    end
  end

  test "the example's files are what the templates make for its names" do
    names = %{
      app: "cromulent",
      web: "CromulentWeb",
      pubsub: "Cromulent.PubSub",
      directory: "lib/cromulent_web"
    }

    files = Install.files(names)
    assert length(files) == 9

    # Whom the policy admits is each application's own affair.
    for file <- files, file.template != "voice_policy.ex" do
      assert file.text == File.read!(Path.join(@example, file.path)), file.path
    end

    assert Enum.any?(files, &(&1.path == "lib/cromulent_web/channels/voice_policy.ex"))
    templates = Path.wildcard(Path.expand("../../../priv/templates/turn.install/*", __DIR__))
    assert length(templates) == length(files)
  end

  test "files get the application's names, and can be read", %{directory: directory} do
    skeleton(directory, :my_app, "MyAppWeb")
    said = install(directory, :my_app, [])

    files = tree(directory)
    assert map_size(files) == 10

    for {path, text} <- files do
      refute text =~ "<%"
      refute text =~ "CromulentWeb"
      if Path.extname(path) == ".ex", do: assert({:ok, _} = Code.string_to_quoted(text))
      if path != "lib/my_app_web.ex", do: assert(said =~ "created #{path}")
    end

    channel = files["lib/my_app_web/channels/voice_channel.ex"]
    assert channel =~ "defmodule MyAppWeb.VoiceChannel do"
    assert channel =~ "Application.get_env(:my_app, __MODULE__, [])"
    assert files["lib/my_app_web/channels/presence.ex"] =~ "pubsub_server: MyApp.PubSub"
  end

  test "four lines are left to add, and a policy to write", %{directory: directory} do
    skeleton(directory, :my_app, "MyAppWeb")
    said = install(directory, :my_app, [])

    for line <- [
          ~s(socket "/socket", MyAppWeb.UserSocket, websocket: true),
          "MyAppWeb.Presence,",
          "TURN_PROVIDER=embedded",
          ~s(import { Voice } from "./voice"),
          "<MyAppWeb.VoiceBar.voice_bar voice={@voice} />",
          "until lib/my_app_web/channels/voice_policy.ex says who"
        ] do
      assert said =~ line
    end
  end

  test "a dry run writes nothing", %{directory: directory} do
    skeleton(directory, :my_app, "MyAppWeb")
    said = install(directory, :my_app, ["--dry-run"])
    assert said =~ "would be created lib/my_app_web/channels/voice_channel.ex"
    assert Map.keys(tree(directory)) == ["lib/my_app_web.ex"]
  end

  test "a second run finds all as it should be", %{directory: directory} do
    skeleton(directory, :my_app, "MyAppWeb")
    install(directory, :my_app, [])
    before = tree(directory)
    said = install(directory, :my_app, [])
    assert said =~ "identical lib/my_app_web/live/voice.ex"
    refute said =~ "created"
    assert tree(directory) == before
  end

  describe "a file that is there and differs" do
    setup %{directory: directory} do
      skeleton(directory, :my_app, "MyAppWeb")
      channels = Path.join(directory, "lib/my_app_web/channels")
      File.mkdir_p!(channels)

      for name <- ["voice_channel", "voice_policy", "presence", "user_socket"] do
        File.write!(Path.join(channels, name <> ".ex"), "# mine\n")
      end

      %{mine: fn name -> File.read!(Path.join(channels, name <> ".ex")) == "# mine\n" end}
    end

    test "is kept when the answer is no", %{directory: directory, mine: mine?} do
      send(self(), {:mix_shell_input, :yes?, false})
      install(directory, :my_app, [])
      assert_received {:mix_shell, :yes?, ["lib/my_app_web/channels/voice_channel.ex is" <> _]}
      refute_received {:mix_shell, :yes?, _}
      assert mine?.("voice_channel")
    end

    test "is replaced when it is yes", %{directory: directory, mine: mine?} do
      send(self(), {:mix_shell_input, :yes?, true})
      install(directory, :my_app, [])
      refute mine?.("voice_channel")
    end

    test "is replaced unasked with --yes, but not what is the application's own",
         %{directory: directory, mine: mine?} do
      said = install(directory, :my_app, ["--yes"])
      refute_received {:mix_shell, :yes?, _}
      refute mine?.("voice_channel")
      for name <- ["voice_policy", "presence", "user_socket"], do: assert(mine?.(name))
      assert said =~ ~s(channel "voice:*", MyAppWeb.VoiceChannel)
      refute said =~ "endpoint.ex, beside"
    end

    test "is asked about by nobody in a dry run", %{directory: directory, mine: mine?} do
      assert install(directory, :my_app, ["--dry-run"]) =~ "would be replaced"
      refute_received {:mix_shell, :yes?, _}
      assert mine?.("voice_channel")
    end
  end

  test "the web module is the one of lib/*_web.ex, or the one that is named", c do
    skeleton(c.directory, :other, nil)
    File.write!(Path.join(c.directory, "lib/shop_web.ex"), "defmodule Acme.ShopWeb do\nend\n")
    assert install(c.directory, :other, []) =~ "created lib/shop_web/channels/voice_channel.ex"
    files = tree(c.directory)
    assert files["lib/shop_web/channels/presence.ex"] =~ "defmodule Acme.ShopWeb.Presence do"
    assert files["lib/shop_web/channels/presence.ex"] =~ "pubsub_server: Acme.Shop.PubSub"

    assert install(c.directory, :other, ["--web", "Acme.ToolsWeb", "--yes"]) =~
             "Acme.ToolsWeb.VoiceBar"
  end

  test "where there is no Phoenix application, it says so", %{directory: directory} do
    skeleton(directory, :plain, nil)

    for {argv, text} <- [
          {[], "no web module found"},
          {["--web", "lower"], "must be a module's name"},
          {["--frobnicate"], "unknown flag --frobnicate"}
        ] do
      error =
        ExUnit.CaptureIO.capture_io(:stderr, fn ->
          assert catch_exit(install(directory, :plain, argv)) == {:shutdown, 2}
        end)

      assert error =~ "mix turn.install: "
      assert error =~ text
    end

    assert tree(directory) == %{}
  end
end
