defmodule Cromulent.Turn.BreakerTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Breaker

  defp fail(breaker, times, now),
    do: Enum.reduce(1..times//1, breaker, fn _, breaker -> Breaker.failed(breaker, now) end)

  test "opens after five failures in a row, for thirty seconds" do
    breaker = fail(Breaker.new(), 4, 0)
    assert {:ok, _} = Breaker.ask(breaker, 0)
    breaker = fail(breaker, 1, 0)
    assert Breaker.ask(breaker, 0) == :open
    assert Breaker.ask(breaker, 29_999) == :open
    assert {:ok, _trial} = Breaker.ask(breaker, 30_000)
  end

  test "stays closed when an answer is between the failures" do
    breaker = Breaker.new() |> fail(4, 0) |> Breaker.answered() |> fail(4, 0)
    assert {:ok, _} = Breaker.ask(breaker, 0)
  end

  test "lets one trial through, which closes or reopens it" do
    {:ok, trial} = Breaker.new() |> fail(5, 0) |> Breaker.ask(30_000)
    assert Breaker.ask(trial, 30_000) == :open
    assert Breaker.ask(trial, 90_000) == :open
    assert {:ok, _} = trial |> Breaker.answered() |> Breaker.ask(30_000)

    again = Breaker.failed(trial, 31_000)
    assert Breaker.ask(again, 60_999) == :open
    assert {:ok, _} = Breaker.ask(again, 61_000)
  end

  test "opens at once for as long as the provider wants, within reason" do
    breaker = Breaker.failed(Breaker.new(), 0, 120_000)
    assert Breaker.ask(breaker, 119_999) == :open
    assert {:ok, _} = Breaker.ask(breaker, 120_000)

    for_ever = Breaker.failed(Breaker.new(), 0, 1_000_000_000)
    assert {:ok, _} = Breaker.ask(for_ever, 600_000)
  end

  test "is not opened for longer by failures of what was sent before, but for what they ask" do
    breaker = fail(Breaker.new(), 5, 0)
    assert {:ok, _} = breaker |> Breaker.failed(29_000) |> Breaker.ask(30_000)
    assert Breaker.failed(breaker, 29_000, 60_000) |> Breaker.ask(88_999) == :open
  end

  test "says when there is nothing to remember" do
    assert Breaker.idle?(Breaker.new(), 0)
    refute Breaker.idle?(fail(Breaker.new(), 1, 0), 0)
    open = fail(Breaker.new(), 5, 0)
    refute Breaker.idle?(open, 30_000)
    assert Breaker.idle?(open, 700_000)
  end
end
