defmodule Cromulent.Turn.AnnouncedTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Announced

  defp told(announced) do
    case Announced.next(announced) do
      {[], ^announced} -> []
      {usernames, announced} -> usernames ++ told(announced)
    end
  end

  test "what is owed is told once, in order" do
    announced = Announced.new() |> Announced.owe(["5:a"], 10) |> Announced.owe(["5:b", "5:c"], 10)
    assert {["5:a", "5:b", "5:c"], announced} = Announced.next(announced)
    assert {[], _} = Announced.next(announced)
  end

  test "what is only remembered is told to the next relay, unless its time is over" do
    announced =
      Announced.new()
      |> Announced.remember(["5:a", "7:b", "no expiry", "9"], 10)
      |> Announced.owe(["8:c"], 10)

    assert told(announced) == ["8:c"]
    assert announced |> Announced.owe_all(5) |> told() == ["7:b", "9", "8:c"]
    assert announced |> Announced.owe_all(9) |> told() == []
  end

  test "the newest are kept, as many as there is room for" do
    announced = Announced.new() |> Announced.owe(["9:a", "9:b"], 2) |> Announced.owe(["9:c"], 2)
    assert told(announced) == ["9:b", "9:c"]
    assert announced |> Announced.owe_all(0) |> told() == ["9:b", "9:c"]
    assert Announced.new() |> Announced.owe(["9:a"], 0) |> told() == []
  end

  test "in a table of somebody else's it outlives who told it, and stays in order" do
    table = Announced.table()
    {pid, ref} = spawn_monitor(fn -> Announced.owe(Announced.new(table), ["7:a", "8:b"], 3) end)
    assert_receive {:DOWN, ^ref, :process, ^pid, :normal}
    announced = Announced.new(table) |> Announced.remember(["7:c", "9:d"], 3)
    assert told(announced) == []
    assert announced |> Announced.owe_all(0) |> told() == ["8:b", "7:c", "9:d"]
  end

  test "one frame holds a thousand" do
    usernames = for n <- 1..2001, do: "9:#{n}"
    assert usernames |> Announced.portions() |> Enum.map(&length/1) == [1000, 1000, 1]
    announced = Announced.owe(Announced.new(), usernames, 5000)
    assert {first, rest} = Announced.next(announced)
    assert first == Enum.take(usernames, 1000)
    assert first ++ told(rest) == usernames
  end
end
