defmodule Cromulent.Turn.AdmissionTest do
  # Other tests sweep, too.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Joiner, only: [start: 0, kill: 1, run: 2]

  alias Cromulent.Turn.{Admission, Config, Credentials, Places}
  alias Cromulent.Turn.Places.Server

  require Places

  @secret "a secret of the test of admission"

  # In the place of a relay's owner: the test is told what that is.
  setup c do
    relay = :"#{__MODULE__}.#{c.line}"
    test = self()

    owner =
      spawn_link(fn ->
        Process.register(self(), relay)
        send(test, :registered)
        hear(test)
      end)

    assert_receive :registered, 5_000
    {:ok, relay: relay, owner: owner, topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp hear(test) do
    receive do
      {:"$gen_cast", {:grants, pairs}} ->
        send(test, {:grants, pairs})

      {:"$gen_call", from, {:grants, pairs}} ->
        send(test, {:grants, pairs})
        GenServer.reply(from, :ok)

      {:heard, tag} ->
        send(test, tag)
    end

    hear(test)
  end

  defp serve(relay, opts \\ []) do
    {:ok, config} =
      Config.new(
        Keyword.merge([relay_ip: "127.0.0.1", secret: @secret, admission: :presence], opts)
      )

    Admission.serve(relay, config)
  end

  defp state(grant), do: Admission.state(grant, Admission.now())

  defp told(c) do
    tag = make_ref()
    send(c.owner, {:heard, tag})
    assert_receive ^tag, 5_000
    heard()
  end

  defp heard do
    receive do
      {:grants, pairs} -> pairs ++ heard()
    after
      0 -> []
    end
  end

  test "a grant is for a relay with admission, and has the name of usernames", c do
    assert Admission.grant(c.topic, "alice", relay: c.relay) == nil
    serve(c.relay)
    assert Admission.grant(c.topic, "alice", relay: c.relay) == {c.relay, "alice", c.topic}
    assert {_, "17", _} = Admission.grant(c.topic, 17, relay: c.relay)
    # As OpaqueString has it: what the credentials have.
    assert {_, user, _} = Admission.grant(c.topic, "zoe\u0308", relay: c.relay)
    assert Credentials.generate("zoe\u0308", @secret).username =~ ":" <> user

    for wrong <- ["", String.duplicate("u", 509), {1}],
        do: assert(Admission.grant(c.topic, wrong, relay: c.relay) == nil)

    hidden = Credentials.opaque_user_id("alice", @secret)
    opts = [relay: c.relay, opaque_usernames: true]
    assert {_, ^hidden, _} = Admission.grant(c.topic, "alice", opts)
    serve(c.relay, opaque_usernames: true)
    assert {_, ^hidden, _} = Admission.grant(c.topic, "alice", relay: c.relay)

    assert {_, "alice", _} =
             Admission.grant(c.topic, "alice", Keyword.put(opts, :opaque_usernames, false))

    assert Admission.grant(c.topic, "alice", Keyword.put(opts, :opaque_usernames, "?")) == nil

    serve(c.relay, admission: :off)
    assert Admission.grant(c.topic, "alice", relay: c.relay) == nil
  end

  test "room/1 is the topic, or what is as good and short enough" do
    assert Admission.room(String.duplicate("t", 255)) == String.duplicate("t", 255)
    long = for letter <- ~w(a b), do: Admission.room(String.duplicate("t", 255) <> letter)
    assert length(Enum.uniq(long)) == 2
    assert Enum.all?(long, &(byte_size(&1) <= 255))
  end

  test "is in force while it has a holder, and its relay is told of every change", c do
    serve(c.relay)
    grant = {c.relay, "alice", c.topic}
    [a, b] = [make_ref(), make_ref()]
    assert state(grant) == :none
    Admission.hold(a, {c.topic, "alice", 0}, grant)
    Admission.hold(b, {c.topic, "alice", 1}, grant)
    assert state(grant) == :held
    assert Admission.pairs(c.relay) == [{"alice", c.topic}]
    assert Admission.held?(a, grant)
    refute Admission.held?(a, put_elem(grant, 1, "bob"))
    Admission.release(a)
    refute Admission.held?(a, grant)
    assert state(grant) == :held
    Admission.release(b)
    assert state(grant) == :none
    Admission.release(b)
    assert Admission.pairs(c.relay) == []
    assert told(c) == List.duplicate({"alice", c.topic}, 4)
  end

  test "users and rooms whose names are parts of others' are others", c do
    for {user, room} <- [{"a", "b"}, {"a", "bb"}, {"aa", "b"}] do
      Admission.hold(make_ref(), {room, user, 0}, {c.relay, user, room})
      other = {c.relay, user <> "a", room}
      assert state({c.relay, user, room}) == :held
      if user == "a", do: assert(state({c.relay, user, room <> "x"}) == :none)
      if user == "aa", do: assert(state(other) == :none)
    end

    assert Admission.pairs(c.relay) == [{"a", "b"}, {"a", "bb"}, {"aa", "b"}]

    for [holder] <- :ets.match(Admission.Holders, {:"$1", :_, c.relay, :_, :_}),
        do: Admission.release(holder)
  end

  test "with withdraw_after it lingers, and a new holder keeps it", c do
    serve(c.relay, withdraw_after: 60_000)
    grant = {c.relay, "alice", c.topic}
    [a, b] = [make_ref(), make_ref()]
    Admission.hold(a, {c.topic, "alice", 0}, grant)
    now = Admission.now()
    Admission.release(a)
    assert {:until, at} = Admission.state(grant, now)
    assert (at - now) in 60_000..70_000
    Admission.hold(b, {c.topic, "alice", 0}, grant)
    assert Admission.state(grant, at + 1) == :held
    Admission.release(b)
    assert {:until, later} = Admission.state(grant, now)
    assert later >= at
    assert Admission.state(grant, later) == :none
    # Looked at when it was over, it is gone.
    assert Admission.state(grant, now) == :none
  end

  test "a place takes its grant along, whatever way it goes", c do
    serve(c.relay)
    grant = {c.relay, "alice", c.topic}
    [first, second, third] = for _ <- 1..3, do: start()
    new = fn -> Places.new(c.topic, "alice", 1, nil, grant) end
    {:ok, place} = run(first, fn -> Places.claim(new.()) end)
    assert state(grant) == :held
    assert Places.remove(place)
    assert state(grant) == :none

    {:ok, _} = run(first, fn -> Places.claim(new.()) end)
    # The next one finds it before anybody has heard that its holder died.
    kill(first)
    {:ok, held} = run(second, fn -> Places.claim(new.()) end)
    assert Admission.held?(Places.place(held, :ref), grant)
    {:ok, taken, [^held]} = run(third, fn -> Places.take_over(new.()) end)
    assert Admission.pairs(c.relay) == [{"alice", c.topic}]
    refute Admission.held?(Places.place(held, :ref), grant)
    Server.watch(taken)
    kill(third)
    Cromulent.Turn.Helpers.eventually(fn -> state(grant) == :none end)
    assert :ets.match(Admission.Holders, {:_, :_, c.relay, :_, :_}) == []
  end

  test "one that comes too late for a place that was taken away does not stay", c do
    grant = {c.relay, "alice", c.topic}
    place = Places.new(c.topic, "alice", 1)
    Places.admit(place, grant)
    assert state(grant) == :none
    {:ok, place} = Places.claim(place)
    Places.admit(place, grant)
    Places.admit(place, grant)
    assert state(grant) == :held
    assert told(c) |> length() == 3
    assert Places.remove(place)
    assert state(grant) == :none
  end

  test "a sweep ends what killed processes left", c do
    grant = {c.relay, "alice", c.topic}
    app = start()

    # A holder without place, as of who was killed before he found that it was taken; and one that released by half.
    Admission.hold(make_ref(), {c.topic, "alice", 0}, grant)
    half = make_ref()
    Admission.hold(half, {c.topic, "bob", 0}, {c.relay, "bob", c.topic})
    :ets.delete(Admission, {c.relay, "bob", c.topic, half})
    Admission.hold({:app, app, "carol", c.topic}, nil, {c.relay, "carol", c.topic})
    _ = told(c)
    Admission.sweep()
    assert Admission.pairs(c.relay) == [{"carol", c.topic}]
    assert Enum.sort(told(c)) == [{"alice", c.topic}, {"bob", c.topic}]
    kill(app)
    assert state({c.relay, "carol", c.topic}) == :none
    Admission.sweep()
    assert told(c) == [{"carol", c.topic}]
    assert :ets.match(Admission.Holders, {:_, :_, c.relay, :_, :_}) == []
    :ets.insert(Admission, {{c.relay, "dave", c.topic, half}, Admission.now() - 1})
    Admission.sweep()
    assert told(c) == [{"dave", c.topic}]
    assert :ets.match(Admission, {{c.relay, :_, :_, :_}, :_}) == []
  end
end
