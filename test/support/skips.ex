defmodule Cromulent.Turn.Skips do
  @moduledoc false
  # An ExUnit formatter that says at the end what did not run, and why: the usual one only counts.

  use GenServer

  @impl true
  def init(_opts), do: {:ok, %{}}

  @impl true
  def handle_cast({:test_finished, %{state: {:skipped, reason}} = test}, skipped) do
    {:noreply, Map.update(skipped, reason, [test.module], &[test.module | &1])}
  end

  def handle_cast({:suite_finished, _times}, skipped) do
    for {reason, modules} <- skipped do
      names = modules |> Enum.uniq() |> Enum.map_join(", ", &inspect/1)
      IO.puts("SKIPPED #{length(modules)} tests of #{names}: #{reason}")
    end

    {:noreply, %{}}
  end

  def handle_cast(_event, skipped), do: {:noreply, skipped}
end
