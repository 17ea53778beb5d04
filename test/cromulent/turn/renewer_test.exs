defmodule Cromulent.Turn.RenewerTest do
  # The one renewer, and topics of its own. Each cause that is logged is made in one test only, as it is
  # logged once a minute.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Joiner, only: [run: 2, kill: 1]
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Joiner, Places, Renewer}

  require Places

  defmodule Script do
    @moduledoc false
    # A provider that answers what it is told to, one after the other, and the last for ever.
    @behaviour Cromulent.Turn.Provider

    def start(answers) do
      {:ok, agent} = Agent.start_link(fn -> {answers, 0} end)
      agent
    end

    def asked(agent), do: Agent.get(agent, &elem(&1, 1))

    @impl true
    def offer(_user_id, opts) do
      answer =
        Agent.get_and_update(opts[:script], fn
          {[last], count} -> {last, {[last], count + 1}}
          {[next | more], count} -> {next, {more, count + 1}}
        end)

      case answer do
        seconds when is_integer(seconds) -> {:ok, offered(seconds, asked(opts[:script]))}
        :stun -> {:ok, %{ice_servers: [%{urls: "stun:example.org"}], expires_at: nil}}
        :raise -> raise "https://example.org/v1?apiKey=hunter2 is wrong"
        error -> {:error, error}
      end
    end

    @impl true
    def get_ice_servers(_user_id), do: {:error, :not_asked}

    defp offered(seconds, count) do
      turn = %{urls: "turn:192.0.2.1", username: "n#{count}", credential: "c"}
      %{ice_servers: [turn], expires_at: System.os_time(:second) + seconds}
    end
  end

  setup do
    :telemetry.listen()
    {:ok, topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp join(answers, topic, opts \\ []) do
    script = Script.start(answers)

    {pid, result} = Joiner.join(topic, "alice", [provider: Script, script: script] ++ opts)

    {script, pid, result}
  end

  defp sent(pid) do
    assert_receive {:told, ^pid, {:cromulent_turn, :ice_servers, payload}}, 15_000
    payload
  end

  defp names(payload), do: Enum.map(payload.ice_servers, & &1[:username])
  defp rows(topic), do: for(row <- :ets.tab2list(Renewer), topic(row) == topic, do: row)
  defp topic(row), do: row |> elem(1) |> Places.place(:key) |> elem(0)
  defp due?(topic), do: rows(topic) == []

  test "the holder is sent new credentials before the old expire, again and again", %{
    topic: topic
  } do
    {_, pid, {:ok, first}} = join([2, 4, 3600], topic)
    second = sent(pid)
    assert Enum.sort(Map.keys(second)) == [:expires_at, :ice_servers]
    assert second.expires_at > first.expires_at
    assert System.os_time(:second) <= first.expires_at
    refute names(second) == names(first)
    third = sent(pid)
    assert third.expires_at > second.expires_at + 3000

    assert_received {:telemetry, [:cromulent, :turn, :place, :renewed], %{count: 1},
                     %{topic: ^topic, user_id: "alice", expires_at: _}}

    assert [{_, _, due, _, 0, _}] = rows(topic)
    assert due in ((third.expires_at - 500) * 1000)..((third.expires_at - 300) * 1000)
  end

  test "a provider that fails is asked again, and told of", %{topic: topic} do
    log =
      capture_log(fn ->
        {script, pid, {:ok, first}} = join([2, {:http_error, 503}, :raise, 3600], topic)
        second = sent(pid)
        assert second.expires_at > first.expires_at
        assert Script.asked(script) == 4
      end)

    for reason <- [{:http_error, 503}, nil] do
      assert_received {:telemetry, [:cromulent, :turn, :place, :renewal_failed], %{count: 1},
                       %{topic: ^topic, user_id: "alice", reason: told}}

      if reason, do: assert(told == reason), else: assert(told =~ "is wrong")
      refute inspect(told) =~ "hunter2"
    end

    assert log =~ "no new credentials for a user in #{topic}, trying again"
    refute log =~ "hunter2"
  end

  test "a list without a relay never replaces one with", %{topic: topic} do
    {script, pid, {:ok, _}} = join([2, :stun, :stun, 3600], topic)
    payload = sent(pid)
    assert Enum.any?(payload.ice_servers, &is_map_key(&1, :credential))
    assert Script.asked(script) == 4
    refute_received {:told, ^pid, _}
  end

  test "the same credentials again are not worth a message", %{topic: topic} do
    # One second more than now: no later than the first, whose two seconds began before.
    {script, pid, {:ok, first}} = join([2, 0, 3600], topic)
    assert sent(pid).expires_at > first.expires_at + 3000
    assert Script.asked(script) == 3
    refute_received {:telemetry, [:cromulent, :turn, :place, :renewal_failed], _, _}
  end

  test "who got STUN only, because the provider was down, is sent the rest", %{topic: topic} do
    capture_log(fn ->
      {_, pid, {:ok, first}} = join([:down, :down, 3600], topic)
      assert first.expires_at == nil
      assert %{expires_at: at} = payload = sent(pid)
      assert is_integer(at)
      assert Enum.any?(payload.ice_servers, &is_map_key(&1, :credential))
    end)
  end

  test "who got STUN only, because there is no more, is left alone", %{topic: topic} do
    {script, pid, {:ok, %{expires_at: nil}}} = join([:stun], topic)
    eventually(fn -> Script.asked(script) == 2 and due?(topic) end, 10_000)
    refute_received {:told, ^pid, _}

    {_, {:ok, _}} = Joiner.join(topic, "bob", provider: :stun)
    _ = :sys.get_state(Renewer)
    assert rows(topic) == []
  end

  test "nothing is sent to who left, was overtaken or died, nor asked for", %{topic: topic} do
    {left, leaver, {:ok, _}} = join([6, 3600], topic <> "left")
    {over, overtaken, {:ok, _}} = join([6, 3600], topic <> "over")
    {dead, dying, {:ok, _}} = join([6, 3600], topic <> "dead")
    {_, last, {:ok, _}} = join([8, 3600], topic)
    :ok = run(leaver, fn -> Turn.leave(topic <> "left", "alice") end)

    {_, {:ok, _}} =
      Joiner.join(topic <> "over", "alice",
        on_duplicate: :takeover,
        grace: 60_000,
        provider: :stun
      )

    kill(dying)
    # By then all of them would have been sent theirs.
    sent(last)
    for pid <- [leaver, overtaken], do: refute_received({:told, ^pid, {_, :ice_servers, _}})
    assert Enum.map([left, over, dead], &Script.asked/1) == [1, 1, 1]
    for end_ <- ~w(left over dead), do: assert(rows(topic <> end_) == [])
  end

  test "renew: false leaves it to the holder", %{topic: topic} do
    {script, _, {:ok, _}} = join([1], topic, renew: false)
    _ = :sys.get_state(Renewer)
    assert rows(topic) == []
    assert Script.asked(script) == 1
  end

  test "a renewer that crashed goes on where it was, and shows no options", %{topic: topic} do
    {_, pid, {:ok, _}} = join([4, 3600], topic, api_key: "hunter2hunter2")
    renewer = Process.whereis(Renewer)
    _ = :sys.get_state(Renewer)

    refute inspect({:ets.tab2list(Renewer), :sys.get_status(Renewer)}, limit: :infinity) =~
             "hunter2"

    log =
      capture_log(fn ->
        Process.exit(renewer, :kill)
        eventually(fn -> Process.whereis(Renewer) not in [nil, renewer] end)
        sent(pid)
      end)

    refute log =~ "hunter2"
  end

  test "a row of somebody who was killed on the way is swept out", %{topic: topic} do
    place = Places.new(topic, "gone", 1)
    :ets.insert(Renewer, {Places.place(place, :ref), place, 0, nil, 0, fn -> [] end})
    assert [_] = rows(topic)
    Renewer.sweep()
    eventually(fn -> rows(topic) == [] end)
  end

  test "due/3: a tenth of the lifetime before, within half a minute and five, never beyond half" do
    now = 1_763_712_000_000
    at = fn lifetime -> div(now, 1000) + lifetime end

    before = fn lifetime, random ->
      at.(lifetime) - Renewer.due(at.(lifetime), now, random) / 1000
    end

    for {lifetime, margin} <- [
          {86_400, 300},
          {3_600, 300},
          {1_200, 120},
          {600, 60},
          {200, 30},
          {60, 30},
          {40, 20},
          {2, 1},
          {0, 0},
          {-60, -60}
        ] do
      assert before.(lifetime, 0.0) == margin
    end

    # Spread by up to a fifth more.
    assert before.(3_600, 1.0) == 360
    assert before.(40, 1.0) == 20
  end
end
