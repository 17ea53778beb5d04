defmodule Cromulent.Turn.JoinTest do
  # The tables of places are everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Joiner
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Join, Places, Relay, Renewer, Throttle}
  alias Cromulent.Turn.Places.Server

  require Places

  @refused {:error, :already_in_channel}

  defmodule Provider do
    @behaviour Cromulent.Turn.Provider

    @impl true
    def get_ice_servers("nobody"), do: {:error, :down}
    def get_ice_servers(id), do: {:ok, [%{urls: "stun:#{id}.example.org"}]}

    @impl true
    def get_ice_servers(id, opts) do
      if opts[:counter], do: :counters.add(opts[:counter], 1, 1)
      if opts[:block], do: opts[:block].()
      get_ice_servers(id)
    end
  end

  setup do
    Throttle.reset()
    :telemetry.listen()
    put_config(provider: Provider)
    {:ok, topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp empty?(topic), do: not Enum.any?(Places.all(), &(elem(Places.place(&1, :key), 0) == topic))

  test "gives the place to one, and tells the other", %{topic: topic} do
    {pid, result} = join(topic, "alice")
    assert result == {:ok, %{ice_servers: [%{urls: "stun:alice.example.org"}], expires_at: nil}}
    assert {_, @refused} = join(topic, "alice")
    assert run(pid, fn -> Turn.join(nil, topic, "alice") end) == @refused

    assert_received {:telemetry, [:cromulent, :turn, :place, :taken], %{duration_us: us},
                     %{topic: ^topic, user_id: "alice"}}

    assert us in 1..10_000_000

    assert_received {:telemetry, [:cromulent, :turn, :place, :refused], %{duration_us: _},
                     %{topic: ^topic, user_id: "alice", by: :place}}
  end

  test "of many at the same instant one gets it, and only for that one are credentials made", %{
    topic: topic
  } do
    counter = :counters.new(1, [])

    for user <- 1..50 do
      pids = for _ <- 1..8, do: start()
      test = self()

      for pid <- pids do
        send(pid, {:run, :raced, fn -> {test, Turn.join(nil, topic, user, counter: counter)} end})
      end

      results = for _ <- pids, do: receive(do: ({:raced, {_, result}} -> result))
      assert Enum.count(results, &match?({:ok, _}, &1)) == 1
      assert Enum.count(results, &(&1 == @refused)) == 7
    end

    assert :counters.get(counter, 1) == 50
  end

  test "a place is free the moment its holder ends, however it does", %{topic: topic} do
    for reason <- [:kill, :shutdown, {:shutdown, :left}], _ <- 1..50 do
      {pid, {:ok, _}} = join(topic, "alice")
      kill(pid, reason)
      # Nobody is waited for: the server's monitor may not have told yet.
      {next, {:ok, _}} = join(topic, "alice")
      kill(next)
    end

    eventually(fn -> empty?(topic) end)
  end

  test "also while nobody watches, and with a server that comes back", %{topic: topic} do
    {gone, {:ok, _}} = join(topic, "gone")
    {stays, {:ok, _}} = join(topic, "stays")

    capture_log(fn ->
      server = Process.whereis(Server)
      :sys.suspend(server)
      kill(gone)
      assert {again, {:ok, _}} = join(topic, "gone")
      kill(again)
      Process.exit(server, :kill)
      eventually(fn -> Process.whereis(Server) not in [nil, server] end)
    end)

    eventually(fn -> Turn.members(topic) == ["stays"] end)
    eventually(fn -> length(Places.holders(topic, "gone")) == 0 end)
    eventually(fn -> :ets.lookup(Places, {topic, "gone", 0}) == [] end)
    assert {_, @refused} = join(topic, "stays")
    kill(stays)
    eventually(fn -> empty?(topic) end)
  end

  test "topics and users are apart, whatever a user is", %{topic: topic} do
    users = [
      "alice",
      :alice,
      1,
      1.0,
      "1",
      nil,
      :_,
      :"$1",
      {:_, "x"},
      %{id: 1},
      [1],
      <<0xFF>>,
      -0.5
    ]

    for user <- users, there <- [topic, topic <> "0"] do
      assert {_, {:ok, _}} = join(there, user)
      assert {_, @refused} = join(there, user)
    end

    for there <- [topic, topic <> "0"] do
      assert Enum.sort(Turn.members(there)) === Enum.sort(users)
    end

    assert Turn.members(topic <> "1") == []
  end

  test "leave/2 gives back what the caller holds, and nothing else", %{topic: topic} do
    assert Turn.leave(topic, "alice") == {:error, :not_in_channel}
    {pid, {:ok, _}} = join(topic, "alice")
    assert Turn.leave(topic, "alice") == {:error, :not_in_channel}
    refute Turn.holds?(topic, "alice")
    assert run(pid, fn -> Turn.holds?(topic, "alice") end)
    refute run(pid, fn -> Turn.holds?(topic, "bob") end)
    assert run(pid, fn -> Turn.leave(topic, "alice") end) == :ok
    refute run(pid, fn -> Turn.holds?(topic, "alice") end)

    assert_received {:telemetry, [:cromulent, :turn, :place, :freed], %{held_ms: _},
                     %{topic: ^topic, user_id: "alice", reason: :left}}

    assert {_, {:ok, _}} = join(topic, "alice")
    # One that left and lives on frees nothing of the next one when it ends.
    kill(pid)
    _ = :sys.get_state(Server)
    assert {_, @refused} = join(topic, "alice")
  end

  test "the end of a holder is told once", %{topic: topic} do
    {pid, {:ok, _}} = join(topic, "alice")
    kill(pid)

    assert_receive {:telemetry, [:cromulent, :turn, :place, :freed], %{held_ms: ms},
                    %{topic: ^topic, reason: :ended}},
                   5_000

    assert ms in 0..10_000
    _ = :sys.get_state(Server)
    refute_received {:telemetry, [:cromulent, :turn, :place, :freed], _, %{topic: ^topic}}
  end

  describe "on_duplicate: {:max, n}" do
    test "lets n in", %{topic: topic} do
      held = for _ <- 1..3, do: join(topic, "alice", on_duplicate: {:max, 3})
      assert Enum.all?(held, &match?({_, {:ok, _}}, &1))
      assert {_, @refused} = join(topic, "alice", on_duplicate: {:max, 3})
      assert {_, @refused} = join(topic, "alice", on_duplicate: {:max, 2})
      assert {_, @refused} = join(topic, "alice")
      assert Turn.members(topic) == ["alice"]
      {pid, _} = Enum.at(held, 1)
      kill(pid)
      assert {_, {:ok, _}} = join(topic, "alice", on_duplicate: {:max, 3})
      assert {_, @refused} = join(topic, "alice", on_duplicate: {:max, 3})
    end

    test "a process may hold several, and gives all of them back", %{topic: topic} do
      pid = start()
      join = fn -> Turn.join(nil, topic, "alice", on_duplicate: {:max, 2}) end
      assert {:ok, _} = run(pid, join)
      assert {:ok, _} = run(pid, join)
      assert run(pid, join) == @refused
      assert run(pid, fn -> Turn.leave(topic, "alice") end) == :ok
      assert empty?(topic)
    end
  end

  describe "on_duplicate: :takeover" do
    test "passes the place on, tells the old holder and ends it", %{topic: topic} do
      {old, {:ok, _}} = join(topic, "alice")
      {new, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 200)
      refute run(old, fn -> Turn.holds?(topic, "alice") end)
      assert run(new, fn -> Turn.holds?(topic, "alice") end)
      assert_receive {:told, ^old, {:cromulent_turn, :taken_over, ^topic}}, 5_000
      assert ended(old) == {:shutdown, :taken_over}
      assert Process.alive?(new)
      refute_received {:told, ^new, _}

      assert_received {:telemetry, [:cromulent, :turn, :place, :taken_over], %{count: 1},
                       %{topic: ^topic, user_id: "alice", pid: ^old, reason: :takeover}}
    end

    test "waits for one that ends by itself", %{topic: topic} do
      {old, {:ok, _}} = join(topic, "alice")
      {_, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 60_000)
      assert_receive {:told, ^old, {:cromulent_turn, :taken_over, ^topic}}, 5_000
      assert run(old, fn -> :alive end) == :alive
    end

    test "kills one that will not go", %{topic: topic} do
      {old, {:ok, _}} = join(topic, "alice", trap: true)
      {_, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 0)
      assert_receive {:told, ^old, {:EXIT, _, {:shutdown, :taken_over}}}, 5_000
      assert ended(old) == :killed
    end

    test "takes a free place, and one's own again", %{topic: topic} do
      {pid, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover)
      again = fn -> Turn.join(nil, topic, "alice", on_duplicate: :takeover, grace: 0) end
      assert {:ok, _} = run(pid, again)
      assert length(Places.holders(topic, "alice")) == 1
      _ = :sys.get_state(Server)
      assert run(pid, fn -> Turn.holds?(topic, "alice") end)
      refute_received {:told, ^pid, _}
    end

    test "of all slots leaves one", %{topic: topic} do
      held = for _ <- 1..3, do: join(topic, "alice", on_duplicate: {:max, 3})
      {new, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 0)
      for {pid, _} <- held, do: assert(ended(pid) == {:shutdown, :taken_over})
      assert [place] = Places.holders(topic, "alice")
      assert Places.place(place, :pid) == new
    end

    test "tells Phoenix that the channel closes, lest its client takes it for a crash", %{
      topic: topic
    } do
      # As Phoenix.Channel.Server leaves it in a channel's process.
      test = self()
      old = start()

      run(old, fn ->
        Process.put(:"$initial_call", {MyAppWeb.VoiceChannel, :join, 3})
        Process.put(:"$callers", [test])
        {:ok, _} = Turn.join(nil, topic, "alice")
      end)

      {_, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 0)
      assert_receive {:socket_close, ^old, {:shutdown, :taken_over}}, 5_000
      assert ended(old) == {:shutdown, :taken_over}
    end

    test "a join that is overtaken while it waits for its provider is refused", %{topic: topic} do
      test = self()
      slow = start()
      block = fn -> send(test, :minting) && receive(do: (:go -> :ok)) end
      send(slow, {:run, :slow, fn -> Turn.join(nil, topic, "alice", block: block) end})
      assert_receive :minting, 5_000
      {_, {:ok, _}} = join(topic, "alice", on_duplicate: :takeover, grace: 60_000)
      send(slow, :go)
      assert_receive {:slow, @refused}, 5_000
    end
  end

  describe "presence" do
    setup do
      :ets.new(:some_presence, [:named_table, :public, :bag])
      :ok
    end

    # A module, and the name of what runs: so is an application's Presence.
    defmodule :some_presence do
    end

    defp track(topic, key, pid), do: :ets.insert(:some_presence, {{topic, key}, pid, %{}})

    test "a living process that it knows refuses a join", %{topic: topic} do
      stranger = start()
      track(topic, "7", stranger)
      counter = :counters.new(1, [])
      opts = [presence: :some_presence, counter: counter]
      assert {_, @refused} = join(topic, 7, opts)
      assert :counters.get(counter, 1) == 0
      assert empty?(topic)

      assert_received {:telemetry, [:cromulent, :turn, :place, :refused], _,
                       %{topic: ^topic, by: :presence}}

      assert {_, {:ok, _}} = join(topic, 8, opts)
      assert {_, {:ok, _}} = join(topic <> "0", 7, opts)
      # Presence is late: the one it knows has ended.
      kill(stranger)
      assert {_, {:ok, _}} = join(topic, 7, opts)
    end

    test "neither the caller nor who holds a place counts twice", %{topic: topic} do
      pid = start()
      track(topic, "alice", pid)
      opts = [on_duplicate: {:max, 2}]
      join = fn -> Turn.join(:some_presence, topic, "alice", opts) end
      assert {:ok, _} = run(pid, join)
      assert {_, {:ok, _}} = join(topic, "alice", [presence: :some_presence] ++ opts)
      assert {_, @refused} = join(topic, "alice", [presence: :some_presence] ++ opts)
    end

    test "a takeover ends it, and Phoenix is told", %{topic: topic} do
      test = self()
      stranger = start()

      run(stranger, fn ->
        Process.put(:"$initial_call", {MyAppWeb.VoiceChannel, :join, 3})
        Process.put(:"$callers", [test])
      end)

      track(topic, "alice", stranger)
      opts = [presence: :some_presence, on_duplicate: :takeover]
      assert {_, {:ok, _}} = join(topic, "alice", opts)
      assert ended(stranger) == {:shutdown, :taken_over}
      assert_received {:socket_close, ^stranger, {:shutdown, :taken_over}}
      # It does not know of places.
      refute_received {:told, ^stranger, _}
    end

    test "one that does not run is logged, and joins go on", %{topic: topic} do
      :ets.delete(:some_presence)

      log =
        capture_log(fn ->
          assert {_, {:ok, _}} = join(topic, "alice", presence: :some_presence)
          assert {_, @refused} = join(topic, "alice", presence: :some_presence)
        end)

      assert [_, _] = String.split(log, ":some_presence did not answer")
    end
  end

  test "a join that fails gives its place back", %{topic: topic} do
    pid = start()
    # What is not a keyword list to a provider's option.
    fail = fn -> Turn.join(nil, topic, "alice", block: fn -> exit(:provider) end) end
    # A provider's exit is a fallback, not an exit.
    capture_log(fn -> assert {:ok, %{expires_at: nil}} = run(pid, fail) end)
    assert run(pid, fn -> Turn.leave(topic, "alice") end) == :ok

    # What gets past that, such as an exit signal of a linked process, ends the holder.
    doomed = start()
    block = fn -> Process.exit(self(), :kill) end
    send(doomed, {:run, :doomed, fn -> Turn.join(nil, topic, "alice", block: block) end})
    assert ended(doomed) == :killed
    assert {_, {:ok, _}} = join(topic, "alice")
  end

  test "says what is right when something is wrong", %{topic: topic} do
    for {args, text} <- [
          {[nil, "", "alice", []], ~s(topic: "": must be a string that is not empty)},
          {[nil, :voice, "alice", []], "topic: :voice: must be a string"},
          {[nil, topic, "alice", [on_duplicate: :replace]],
           "must be :reject, :takeover or {:max,"},
          {[nil, topic, "alice", [on_duplicate: {:max, 0}]],
           "option on_duplicate: {:max, 0}: must"},
          {[nil, topic, "alice", [grace: -1]],
           "option grace: -1: must be milliseconds, 0 to 60000"},
          {[nil, topic, "alice", [timeout: 0]], "option timeout: 0: must be milliseconds, 1 to"},
          {[nil, topic, "alice", [renew: nil]], "option renew: nil: must be true or false"},
          {[nil, topic, "alice", [on_duplicates: :takeover]], "did you mean on_duplicate?"},
          {[nil, topic, "alice", :takeover], "options: :takeover: must be a keyword list"},
          {["Presence", topic, "alice", []], "must be the application's Phoenix.Presence module"},
          {[NoSuchPresence, topic, "alice", []], "presence: NoSuchPresence: must be"}
        ] do
      assert_raise ArgumentError, ~r/#{Regex.escape(text)}/, fn -> apply(Turn, :join, args) end
    end

    for fun <- [&Turn.leave/2, &Turn.holds?/2] do
      assert_raise ArgumentError, ~r/topic/, fn -> fun.("", "alice") end
    end

    assert_raise ArgumentError, ~r/topic/, fn -> Turn.members(nil) end
    assert empty?(topic)
  end

  test "credentials are the embedded relay's, and are looked after", %{topic: topic} do
    start_supervised!({Turn, options(ttl: 600)})
    relay(Relay)
    {pid, {:ok, payload}} = join(topic, "alice", provider: :embedded)
    assert Enum.any?(payload.ice_servers, &match?(%{credential: _}, &1))
    assert (payload.expires_at - System.os_time(:second)) in 590..600
    [place] = Places.holders(topic, "alice")
    _ = :sys.get_state(Renewer)
    assert [_] = :ets.lookup(Renewer, Places.place(place, :ref))
    assert run(pid, fn -> Join.leave(topic, "alice") end) == :ok
    eventually(fn -> :ets.lookup(Renewer, Places.place(place, :ref)) == [] end)
  end
end
