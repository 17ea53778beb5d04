defmodule Cromulent.Turn.LogWatch do
  @moduledoc false
  # A handler of OTP's logger that gives the test every event in full, the crash and supervisor reports too
  # that Logger leaves out: what is nowhere in them is in no log.

  @doc "Sends `{:log, level, text}` to the calling process for each event until the test ends."
  def start do
    id = :"log_watch_#{System.unique_integer([:positive])}"
    :ok = :logger.add_handler(id, __MODULE__, %{config: self(), level: :all})
    ExUnit.Callbacks.on_exit(fn -> :logger.remove_handler(id) end)
  end

  @doc "The texts that came so far."
  def texts do
    receive do
      {:log, level, text} -> [{level, text} | texts()]
    after
      0 -> []
    end
  end

  @doc false
  def log(%{level: level} = event, %{config: test}) do
    send(
      test,
      {:log, level, inspect(event, limit: :infinity, printable_limit: :infinity, structs: false)}
    )
  end
end
