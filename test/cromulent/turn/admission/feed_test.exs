defmodule Cromulent.Turn.Admission.FeedTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Admission
  alias Cromulent.Turn.Admission.Feed

  # No owner has this name: nobody is told of the changes here.
  setup c, do: {:ok, relay: :"#{__MODULE__}.#{c.line}"}

  defp hold(relay, user, room \\ "r") do
    # With a place's reference it would have to have one, or be swept away by whoever sweeps meanwhile.
    holder = {:app, self(), user, room}
    Admission.hold(holder, nil, {relay, user, room})
    holder
  end

  # All that there is to be told, each command answered at once.
  defp all(feed) do
    case Feed.next(feed, Admission.now()) do
      :wait -> []
      {commands, _ends, feed} -> commands ++ all(feed)
    end
  end

  test "a relay that was started is told all grants, then that these are all, then what changed",
       c do
    gone = hold(c.relay, "gone")
    for n <- 1..1500, do: hold(c.relay, "u#{n}")
    feed = c.relay |> Feed.new(true) |> Feed.changed([{"forgotten", "r"}]) |> Feed.start()
    Admission.release(gone)
    feed = Feed.changed(feed, [{"gone", "r"}, {"u1", "r"}])

    assert [
             admit: [one],
             admit: [two],
             open: [],
             withdraw: [[{"gone", "r"}]],
             admit: [[{"u1", "r"}]]
           ] = all(feed)

    assert length(one) + length(two) == 1500
    assert Enum.sort(one ++ two) == Admission.pairs(c.relay)
    assert all(Feed.start(Feed.new(c.relay, false))) == []
    assert c.relay |> Feed.new(false) |> Feed.changed([{"u1", "r"}]) |> all() == []
  end

  test "what is told is what is true then, each once, withdrawals first", c do
    [a, _b] = [hold(c.relay, "a"), hold(c.relay, "b")]
    feed = Feed.changed(Feed.new(c.relay, true), [{"b", "r"}, {"a", "r"}, {"b", "r"}])
    Admission.release(a)
    assert all(feed) == [withdraw: [[{"a", "r"}]], admit: [[{"b", "r"}]]]
  end

  test "grants that were told of first are told first, 1,000 in one command", c do
    pairs = for n <- 1..2001, do: {"u#{n}", "r"}
    feed = Enum.reduce(pairs, Feed.new(c.relay, true), &Feed.changed(&2, [&1]))
    commands = all(feed)
    assert for({:withdraw, [pairs]} <- commands, do: length(pairs)) == [1000, 1000, 1]
    assert Enum.flat_map(commands, fn {:withdraw, [pairs]} -> pairs end) == pairs
  end

  test "it waits while four are unanswered, and collects", c do
    feed =
      Enum.reduce(1..4, Feed.new(c.relay, true), fn _, feed -> Feed.sent(feed, {:open, []}) end)

    feed = Feed.changed(feed, [{"a", "r"}, {"b", "r"}])
    assert Feed.next(feed, 0) == :wait

    assert {[withdraw: [[{"a", "r"}, {"b", "r"}]]], [], _} =
             feed |> Feed.answered() |> Feed.next(0)
  end

  test "what did not get through is told again, also that these are all", c do
    hold(c.relay, "a")
    feed = Feed.start(Feed.new(c.relay, true))
    {[admit: [[{"a", "r"}]]] = commands, [], feed} = Feed.next(feed, 0)
    feed = Feed.unsent(feed, commands)
    {^commands, [], feed} = Feed.next(feed, 0)
    {[open: []] = commands, [], feed} = Feed.next(feed, 0)
    assert feed |> Feed.unsent(commands) |> all() == [open: []]
  end

  test "a grant that was held again when it was withdrawn is looked at once more", c do
    feed = Feed.changed(Feed.new(c.relay, true), [{"a", "r"}, {"b", "r"}])
    {[withdraw: [[{"a", "r"}, {"b", "r"}]]] = [command], [], feed} = Feed.next(feed, 0)
    hold(c.relay, "b")
    assert feed |> Feed.sent(command) |> all() == [admit: [[{"b", "r"}]]]
    assert feed |> Feed.sent({:admit, [[{"b", "r"}]]}) |> all() == []
  end

  test "of a grant that lingers it says until when", c do
    until = Admission.now() + 60_000
    :ets.insert(Admission, {{c.relay, "a", "r", {:app, self(), "a", "r"}}, until})
    feed = Feed.changed(Feed.new(c.relay, true), [{"a", "r"}])
    assert {[admit: [[{"a", "r"}]]], [{{"a", "r"}, ^until}], _} = Feed.next(feed, until - 1)
    assert {[withdraw: [[{"a", "r"}]]], [], _} = Feed.next(feed, until)
  end

  test "those that were refused are tried again when asked for", c do
    hold(c.relay, "a")
    feed = Feed.answered(Feed.new(c.relay, true), [{"a", "r", :too_many_rooms}])
    assert Feed.next(feed, 0) == :wait
    assert feed |> Feed.retry() |> all() == [admit: [[{"a", "r"}]]]
    assert feed |> Feed.retry() |> Map.fetch!(:refused) |> Enum.empty?()
  end
end
