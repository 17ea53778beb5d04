defmodule Cromulent.Turn.Program do
  @moduledoc false
  # The relay program as a port: where it is, how it is opened, written to and closed.

  alias Cromulent.Turn.OsProcess

  @name "turn_relay"
  # The relay faces the network: of the BEAM's environment, with its passwords and tokens, it gets
  # what a program needs to run and no more.
  @environment ~r/^(PATH|HOME|LANG|TMPDIR|TZ|(LC|LD|DYLD|ASAN|LSAN|TSAN|UBSAN|MALLOC)_.*)$/

  @doc "The relay's path: of `CROMULENT_TURN_PRIV` where that is set, else of this application."
  @spec path() :: String.t()
  def path do
    case System.get_env("CROMULENT_TURN_PRIV", "") do
      "" -> Application.app_dir(:cromulent_turn, Path.join("priv", @name))
      priv -> Path.join(priv, @name)
    end
  end

  @doc "Starts the program; the caller owns the port."
  @spec open(Path.t()) ::
          {:ok, port(), os_pid :: pos_integer() | nil} | {:error, {:system, String.t()}}
  def open(path) do
    options = [:binary, :nouse_stdio, :exit_status, packet: 4, env: cleared_environment()]
    port = Port.open({:spawn_executable, path}, options)

    case Port.info(port, :os_pid) do
      {:os_pid, os_pid} -> {:ok, port, os_pid}
      nil -> {:ok, port, nil}
    end
  rescue
    error in ErlangError -> {:error, {:system, "#{path}: #{reason(error.original)}"}}
    ArgumentError -> {:error, {:system, "#{path}: cannot be started"}}
  end

  # The write never waits: a relay that does not read must not hold up its owner. What is written
  # may hold secrets, so no exception with it may leave here.
  @doc "Writes one frame."
  @spec write(port(), binary()) :: :ok | {:error, :busy | :down}
  def write(port, frame) do
    if Port.command(port, frame, [:nosuspend]), do: :ok, else: {:error, :busy}
  rescue
    ArgumentError -> {:error, :down}
  end

  @doc """
  Closes the port, which tells the relay to end, and forgets what it had still sent. Whether it does
  end is for the caller to see to.
  """
  @spec close(port()) :: :ok
  def close(port) do
    try do
      Port.close(port)
    rescue
      # It had ended first.
      ArgumentError -> :ok
    end

    flush(port)
  end

  @doc "Closes the port and makes sure that the process is gone, after `grace_ms` by force."
  @spec stop(port(), pos_integer() | nil, non_neg_integer()) :: :ok
  def stop(port, os_pid, grace_ms) do
    close(port)
    if os_pid, do: OsProcess.reap(os_pid, grace_ms)
    :ok
  end

  defp flush(port) do
    receive do
      {^port, _} -> flush(port)
      {:EXIT, ^port, _} -> flush(port)
    after
      0 -> :ok
    end
  end

  @doc "Why it could not start, or what became of it, in words for the operator."
  @spec describe(term()) :: String.t()
  def describe({:listen, listener, errno}), do: "cannot listen on #{listener}: #{explain(errno)}"
  def describe({:relay_ip, ip, errno}), do: "cannot relay from #{ip}: #{explain(errno)}"

  def describe({:exit, status}), do: "it ended by itself, #{describe_exit(status)}"
  def describe({_kind, text}) when is_binary(text), do: text
  def describe(reason), do: inspect(reason)

  @doc "An exit status as a shell has it: above 128, a signal."
  @spec describe_exit(non_neg_integer()) :: String.t()
  def describe_exit(status) when status > 128, do: "killed by signal #{status - 128}"
  def describe_exit(status), do: "exit status #{status}"

  defp explain(:eaddrinuse), do: "the port is in use (eaddrinuse)"
  defp explain(:eaddrnotavail), do: "this host does not have that address (eaddrnotavail)"
  defp explain(:eacces), do: "no permission (eacces)"
  defp explain(errno), do: to_string(errno)

  defp cleared_environment do
    for {name, _value} <- System.get_env(), not (name =~ @environment) do
      {String.to_charlist(name), false}
    end
  end

  defp reason(:enoent), do: "there is no such program; `mix compile` builds it"
  defp reason(:eacces), do: "may not be run"
  defp reason(other), do: inspect(other)
end
