defmodule Mix.Tasks.Turn.Install do
  @shortdoc "Puts voice channels into a Phoenix application"

  @moduledoc """
  Puts the voice channel, its LiveView parts and the browser's hook into the Phoenix application that it
  is run in, and prints the lines to add by hand.

      mix turn.install [--dry-run] [--yes] [--web MyAppWeb]

  | file | |
  |---|---|
  | `channels/voice_channel.ex`, `voice_signal.ex` | the channel with its guarded join, and what clients may say in it |
  | `channels/voice_policy.ex` | who may join which channel: nobody, until you say who |
  | `channels/presence.ex`, `channels/user_socket.ex` | kept as they are where the application has its own |
  | `live/voice.ex`, `components/voice_bar.ex` | the voice of a LiveView, and the bar that shows it |
  | `assets/js/voice.js`, `assets/css/voice_bar.css` | the hook of the bar, and its looks |

  The first four lines are below `lib/my_app_web`. A file that differs from what would be written is
  replaced only after asking; `voice_policy.ex`, once there, is never.

  `--yes` replaces without asking, `--dry-run` says what would be done and does nothing. The web module is found
  from the application's name, else in `lib/*_web.ex`; `--web` names another.

  The exit status is 0, and 2 for unknown flags and where there is no Phoenix application.
  """

  use Mix.Task

  @task "turn.install"
  @switches [yes: :boolean, dry_run: :boolean, web: :string]

  # {template, where it goes, what happens to another file that is there}. Places without a slash at their
  # beginning are below the web module's directory.
  @files [
    {"voice_channel.ex", "channels/voice_channel.ex", :ask},
    {"voice_signal.ex", "channels/voice_signal.ex", :ask},
    {"voice_policy.ex", "channels/voice_policy.ex", :keep},
    {"presence.ex", "channels/presence.ex", :keep},
    {"user_socket.ex", "channels/user_socket.ex", :keep},
    {"voice.ex", "live/voice.ex", :ask},
    {"voice_bar.ex", "components/voice_bar.ex", :ask},
    {"voice.js", "/assets/js/voice.js", :ask},
    {"voice_bar.css", "/assets/css/voice_bar.css", :ask}
  ]

  @typedoc "What the templates need to know of an application; names are text, as they stand in its source."
  @type names :: %{app: String.t(), web: String.t(), pubsub: String.t(), directory: Path.t()}

  @impl true
  def run(argv) do
    flags = Mix.Turn.parse(@task, argv, @switches)
    names = names(flags[:web])
    done = for file <- files(names), do: {file.template, install(file, flags)}
    Mix.shell().info(instructions(names, Map.new(done), Mix.Project.deps_paths()))
  end

  @doc "What would be written: each file's template, its path in the application, its text, and its fate."
  @spec files(names()) :: [
          %{template: String.t(), path: Path.t(), text: String.t(), if_other: :ask | :keep}
        ]
  def files(names) do
    for {template, place, if_other} <- @files do
      %{
        template: template,
        path: path(place, names.directory),
        text: render(template, names),
        if_other: if_other
      }
    end
  end

  defp path("/" <> path, _directory), do: path
  defp path(path, directory), do: Path.join(directory, path)

  # EEx's marks, for editors; nothing in a template is evaluated.
  defp render(template, names) do
    text =
      :cromulent_turn
      |> Application.app_dir(["priv", "templates", @task, template <> ".eex"])
      |> File.read!()

    for {name, value} <- names, reduce: text do
      text -> String.replace(text, "<%= @#{name} %>", value)
    end
  end

  # ---- writing ----

  defp install(%{path: path, text: text} = file, flags) do
    case File.read(path) do
      {:ok, ^text} -> say(:blue, :identical, path)
      {:ok, _other} when file.if_other == :keep -> say(:yellow, :kept, path)
      {:ok, _other} -> replace(file, flags)
      {:error, :enoent} -> write(:created, file, flags)
      {:error, reason} -> fail("#{path}: #{:file.format_error(reason)}")
    end
  end

  defp replace(%{path: path} = file, flags) do
    if flags[:yes] || flags[:dry_run] || Mix.shell().yes?("#{path} is another file. Replace it?"),
      do: write(:replaced, file, flags),
      else: say(:yellow, :kept, path)
  end

  defp write(how, %{path: path, text: text}, flags) do
    unless flags[:dry_run] do
      File.mkdir_p!(Path.dirname(path))
      File.write!(path, text)
    end

    say(:green, how, path, flags[:dry_run])
  end

  defp say(colour, how, path, dry? \\ false) do
    text = if dry?, do: "would be #{how}", else: to_string(how)
    Mix.shell().info([colour, "* #{text} ", :reset, path])
    how
  end

  # ---- the application's names ----

  defp names(flag) do
    app = Mix.Project.config()[:app] || fail("run it in the application, not in the umbrella")
    {web, directory} = if flag, do: named(flag), else: found(app)
    %{app: to_string(app), web: web, pubsub: pubsub(app, web), directory: directory}
  end

  defp named(web) do
    if web =~ ~r/^[A-Z]\w*(\.[A-Z]\w*)*$/,
      do: {web, "lib/" <> Macro.underscore(web)},
      else: fail("--web #{inspect(web)}: must be a module's name, such as MyAppWeb")
  end

  defp found(app) do
    file = Enum.find(["lib/#{app}_web.ex" | Path.wildcard("lib/*_web.ex")], &File.regular?/1)
    {found_web(file), Path.rootname(file)}
  end

  defp found_web(nil) do
    fail(
      "no web module found: there is no lib/*_web.ex; in a Phoenix application, --web names it"
    )
  end

  defp found_web(file) do
    case Regex.run(~r/^defmodule ([\w.]+) do/m, File.read!(file)) do
      [_, web] -> web
      nil -> fail("#{file} defines no module; --web names the web module")
    end
  end

  defp pubsub(app, web) do
    endpoint = Application.get_env(app, Module.concat(web, "Endpoint"), [])

    server =
      endpoint[:pubsub_server] || Module.concat(String.replace_suffix(web, "Web", ""), "PubSub")

    inspect(server)
  end

  @spec fail(String.t()) :: no_return()
  defp fail(text), do: Mix.Turn.fail(@task, 2, text)

  # ---- what is left to do ----

  defp instructions(names, done, deps) do
    """

    Four lines are left to you:

    #{socket_line(names, done)}

    2. lib/#{names.app}/application.ex, before #{names.web}.Endpoint
       (and TURN_PROVIDER=embedded in the environment, for a relay in this node):

           #{names.web}.Presence,

    3. assets/js/app.js: the hook; and in assets/css/app.css: @import "./voice_bar.css";

           import { Voice } from "./voice"  // and hooks: { Voice } for the LiveSocket#{npm(deps)}

    4. a LiveView whose mount/3 has #{names.web}.Voice.attach(socket, user_id, channels), and whose
       events call #{names.web}.Voice.join(socket, channel):

           <#{names.web}.VoiceBar.voice_bar voice={@voice} />

    Nobody may join a channel until #{names.directory}/channels/voice_policy.ex says who.
    """
  end

  defp socket_line(names, %{"user_socket.ex" => :kept}) do
    """
    1. #{names.directory}/channels/user_socket.ex, which is yours: it must assign :user_id, and verify tokens
       that Phoenix.Token signed with the salt "user socket":

           channel "voice:*", #{names.web}.VoiceChannel\
    """
  end

  defp socket_line(names, _done) do
    """
    1. #{names.directory}/endpoint.ex, beside the socket of LiveView:

           socket "/socket", #{names.web}.UserSocket, websocket: true\
    """
  end

  # Phoenix lets esbuild find packages in deps, where a dependency given by its path is not.
  defp npm(deps) do
    case deps[:cromulent_turn] do
      nil ->
        ""

      path ->
        if Path.dirname(path) == Path.expand(Mix.Project.deps_path()) and
             Path.basename(path) == "cromulent_turn",
           do: "",
           else:
             "\n       (once: npm install --prefix assets #{Path.relative_to_cwd(path)}/assets)"
    end
  end
end
