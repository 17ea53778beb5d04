defmodule Cromulent.Turn.ThrottleTest do
  use ExUnit.Case, async: false

  alias Cromulent.Turn.Throttle

  setup do
    Throttle.reset()
    on_exit(&Throttle.reset/0)
  end

  test "lets a cause through once a minute" do
    assert Throttle.allow?(:cause, 1_000)
    refute Throttle.allow?(:cause, 1_000)
    refute Throttle.allow?(:cause, 1_059)
    assert Throttle.allow?(:cause, 1_060)
    refute Throttle.allow?(:cause, 1_119)
  end

  test "tells causes apart" do
    assert Throttle.allow?({:fallback, :embedded, :not_running})
    assert Throttle.allow?({:fallback, :coturn, RuntimeError})
    refute Throttle.allow?({:fallback, :coturn, RuntimeError})
  end

  test "silences no cause for another's sake" do
    for n <- 1..200, do: assert(Throttle.allow?({:cause, n}, 7_000), "#{n}")
    for n <- 1..200, do: refute(Throttle.allow?({:cause, n}, 7_000), "#{n}")
    # More than there is room for: the oldest are forgotten.
    for n <- 1..5_000, do: assert(Throttle.allow?({:other, n}, 7_001), "#{n}")
  end

  test "lets one of many through at the same time" do
    allowed =
      1..100
      |> Enum.map(fn _ -> Task.async(fn -> Throttle.allow?(:same, 5_000) end) end)
      |> Task.await_many()
      |> Enum.count(& &1)

    assert allowed == 1
  end

  test "is made once" do
    assert Throttle.allow?(:kept, 9_000)
    assert Throttle.init() == :ok
    refute Throttle.allow?(:kept, 9_000)
  end
end
