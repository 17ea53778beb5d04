defmodule Cromulent.Turn.Command do
  @moduledoc false
  # Programs of the operating system as the tests run them: standard output line by line, standard
  # error in a file, the exit status, signals. They end with the test.

  import ExUnit.Assertions
  import ExUnit.Callbacks

  alias Cromulent.Turn.OsProcess

  @doc "Starts a command. `env` is a list of `{name, value}`, nil to unset one."
  def start(name, args, opts \\ []) do
    unique = "#{System.pid()}_#{System.unique_integer([:positive])}"
    errors = Path.join(System.tmp_dir!(), "turn_command_#{unique}")

    # mix takes this build, and does not, from Elixir 1.18 on, wait for another's and say so.
    mix = [{"MIX_ENV", "#{Mix.env()}"}, {"MIX_OS_CONCURRENCY_LOCK", "0"}]

    env =
      for {key, value} <- mix ++ (opts[:env] || []),
          do: {to_charlist(key), if(value, do: to_charlist(value), else: false)}

    # exec: the process that is seen is the program itself, and gets the signals.
    script = ["-c", "exec \"$@\" 2>\"#{errors}\"", "sh", System.find_executable(name) | args]
    options = [:binary, :exit_status, line: 65_536, args: script, env: env]
    port = Port.open({:spawn_executable, System.find_executable("sh")}, options)
    {:os_pid, os_pid} = Port.info(port, :os_pid)

    on_exit(fn ->
      OsProcess.reap(os_pid, 0)
      File.rm(errors)
    end)

    %{port: port, os_pid: os_pid, errors: errors}
  end

  @doc "The first line of standard output that starts so, and the lines before it."
  def await_line(%{port: port} = command, start, before \\ []) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        line = plain(line)

        if String.starts_with?(line, start),
          do: {line, Enum.reverse(before)},
          else: await_line(command, start, [line | before])

      {^port, {:exit_status, status}} ->
        flunk(
          "ended with status #{status} before it said #{start}:\n#{Enum.join(before, "\n")}\n#{stderr(command)}"
        )
    after
      60_000 ->
        said = before |> Enum.reverse() |> Enum.join("\n")
        flunk("did not say #{start} within a minute:\n#{said}\n#{stderr(command)}")
    end
  end

  # Without what a terminal adds: colours and carriage returns.
  defp plain(line), do: String.replace(line, ~r/\e\[[0-9;]*m|\r/, "")

  @doc "Waits for the end: `{status, lines of standard output}`."
  def await_exit(%{port: port} = command, lines \\ []) do
    receive do
      {^port, {:data, {_, line}}} -> await_exit(command, [line | lines])
      {^port, {:exit_status, status}} -> {status, Enum.reverse(lines)}
    after
      60_000 -> flunk("did not end within a minute:\n#{stderr(command)}")
    end
  end

  @doc "Runs a command to its end: `{status, lines of standard output, standard error}`."
  def run(name, args, opts \\ []) do
    command = start(name, args, opts)
    {status, lines} = await_exit(command)
    {status, lines, stderr(command)}
  end

  def stderr(command), do: File.read!(command.errors)

  @doc "Sends a signal, such as TERM."
  def signal(command, name), do: {_, 0} = System.cmd("kill", ["-#{name}", "#{command.os_pid}"])

  @doc "Types into its standard input."
  def type(command, text), do: Port.command(command.port, text)
end
