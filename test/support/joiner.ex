defmodule Cromulent.Turn.Joiner do
  @moduledoc false
  # Processes that join, stay, and tell the test what they are told.

  import ExUnit.Assertions

  alias Cromulent.Turn

  @doc "A process that joins: `{pid, result}`. It ends with the test, and obeys nobody but exit signals."
  def join(topic, user, opts \\ []) do
    {presence, opts} = Keyword.pop(opts, :presence)
    pid = start(opts[:trap])
    {pid, run(pid, fn -> Turn.join(presence, topic, user, Keyword.delete(opts, :trap)) end)}
  end

  @doc "A process of the test's."
  def start(trap? \\ false) do
    test = self()

    {pid, _monitor} =
      spawn_monitor(fn ->
        Process.monitor(test)
        if trap?, do: Process.flag(:trap_exit, true)
        loop(test)
      end)

    pid
  end

  @doc "Has the process call a function."
  def run(pid, fun) do
    tag = make_ref()
    send(pid, {:run, tag, fun})
    assert_receive {^tag, result}, 10_000
    result
  end

  @doc "Ends a process, and waits for that and nothing more."
  def kill(pid, reason \\ :kill) do
    Process.exit(pid, reason)
    ended(pid)
    :ok
  end

  @doc "Waits for the end of a process: the reason."
  def ended(pid) do
    assert_receive {:DOWN, _, _, ^pid, reason}, 20_000
    reason
  end

  defp loop(test) do
    receive do
      {:run, tag, fun} ->
        send(test, {tag, fun.()})
        loop(test)

      {:DOWN, _, _, ^test, _} ->
        :ok

      message ->
        send(test, {:told, self(), message})
        loop(test)
    end
  end
end
