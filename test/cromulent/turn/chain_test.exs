defmodule Cromulent.Turn.ChainTest do
  # The throttle and the environment are everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Chain, Embedded, Stun, Throttle}

  @server %{urls: "turn:t.example.org", username: "1900000000:alice", credential: "c"}

  defmodule One do
    @behaviour Cromulent.Turn.Provider
    @impl true
    def get_ice_servers(%{one: fun}), do: fun.()
  end

  defmodule Two do
    @behaviour Cromulent.Turn.Provider
    @impl true
    def get_ice_servers(_user_id), do: raise("never asked")
    @impl true
    def get_ice_servers(%{two: fun}, opts), do: fun.(opts)
  end

  defmodule Three do
    @behaviour Cromulent.Turn.Provider
    @impl true
    def get_ice_servers(_user_id), do: raise("never asked")
    @impl true
    def get_ice_servers(_user_id, _opts), do: raise("never asked")
    @impl true
    def offer(%{three: fun}, opts), do: fun.(opts)
  end

  setup do
    Throttle.reset()
    :telemetry.listen()
    :ok
  end

  defp failed, do: failed([])

  defp failed(found) do
    receive do
      {:telemetry, [:cromulent, :turn, :provider, :failed], %{count: 1}, metadata} ->
        failed([{metadata.provider, metadata.reason} | found])
    after
      0 -> Enum.reverse(found)
    end
  end

  test "a module is asked by the most that it has" do
    assert Chain.ask(%{one: fn -> {:ok, [@server]} end}, provider: One) ==
             {:ok, %{ice_servers: [@server], expires_at: 1_900_000_000, provider: One}}

    two = fn opts -> {:ok, [%{@server | username: opts[:name]}]} end

    assert {:ok, %{ice_servers: [%{username: "bob"}], expires_at: nil, provider: Two}} =
             Chain.ask(%{two: two}, provider: Two, name: "bob")

    three = fn _ -> {:ok, %{ice_servers: [@server], expires_at: 1_800_000_000}} end

    assert {:ok, %{ice_servers: [@server], expires_at: 1_800_000_000, provider: Three}} =
             Chain.ask(%{three: three}, provider: Three)
  end

  test "an expiry that nobody says is read from the usernames, and STUN has none" do
    for expiry <- [nil, 0, "soon"] do
      three = fn _ -> {:ok, %{ice_servers: [@server], expires_at: expiry}} end

      assert {:ok, %{expires_at: 1_900_000_000}} = Chain.ask(%{three: three}, provider: Three)
    end

    three = fn _ -> {:ok, %{ice_servers: [%{urls: "stun:s"}], expires_at: 1_900_000_000}} end
    assert {:ok, %{expires_at: nil}} = Chain.ask(%{three: three}, provider: Three)
  end

  test "every failure leads to the next, once and told" do
    for {fun, reason} <- [
          {fn -> raise "no luck" end, "RuntimeError: no luck"},
          {fn -> :erlang.error(:odd) end, "ErlangError: Erlang error: :odd"},
          {fn -> throw(:ball) end, {:throw, :ball}},
          {fn -> exit(:left) end, {:exit, :left}},
          {fn -> {:error, {:http_error, 503}} end, {:http_error, 503}},
          {fn -> {:ok, []} end, :no_servers},
          {fn -> {:ok, nil} end, :no_servers},
          {fn -> {:ok, %{ice_servers: :x, expires_at: nil}} end, :no_servers},
          {fn -> {:ok, [%{urls: "turn:a"}]} end, :no_credentials},
          {fn -> {:ok, [%{urls: "stun:a"}, %{urls: "turn:a", username: nil}]} end,
           :no_credentials},
          {fn -> nil end, {:bad_answer, nil}},
          {fn -> [@server] end, {:bad_answer, nil}}
        ] do
      Throttle.reset()
      user = %{one: fun, two: fn _ -> {:ok, [@server]} end}

      log =
        capture_log(fn ->
          assert {:ok, %{provider: Two, ice_servers: [@server]}} =
                   Chain.ask(user, provider: [One, Two])
        end)

      assert [{One, told}] = failed()

      if match?({:bad_answer, _}, reason),
        do: assert({:bad_answer, _} = told),
        else: assert(told == reason)

      assert log =~ "TURN provider #{inspect(One)} failed, asking #{inspect(Two)} instead: "
    end
  end

  test "the last one's reason is the chain's, and it alone is not told as failed" do
    user = %{one: fn -> {:error, :first} end, two: fn _ -> {:error, :second} end}

    capture_log(fn ->
      assert Chain.ask(user, provider: [One, Two]) == {:error, :second}
      assert failed() == [{One, :first}]

      assert Turn.payload(user, provider: [One, Two]) ==
               %{ice_servers: [%{urls: "stun:stun.l.google.com:19302"}], expires_at: nil}
    end)

    assert_received {:telemetry, [_, _, :provider, :fallback], %{count: 1},
                     %{provider: Two, reason: :second, user_id: ^user}}
  end

  test "one line per cause and minute" do
    user = %{one: fn -> {:error, {:http_error, 503}} end, two: fn _ -> {:ok, [@server]} end}

    log = capture_log(fn -> for _ <- 1..5, do: Chain.ask(user, provider: [One, Two]) end)
    assert length(String.split(log, "TURN provider")) == 2
    assert length(failed()) == 5
  end

  test "the environment names the chain, and the relay of this node comes first in it" do
    put_env([{"TURN_PROVIDER", "embedded,stun"}])
    assert Chain.providers([]) == {:ok, [Embedded, Stun]}

    log =
      capture_log(fn ->
        assert {:ok, %{provider: Stun, expires_at: nil}} = Chain.ask("alice")
      end)

    assert log =~ "TURN provider :embedded failed, asking :stun instead: no relay runs"
    assert failed() == [embedded: :not_running]

    start_supervised!({Turn, options()})

    assert {:ok, %{provider: Embedded, ice_servers: [_, _, turn, _]} = answer} =
             Chain.ask("alice")

    assert turn.username == "#{answer.expires_at}:alice"
    assert failed() == []
  end

  test "without a name it is the relay of this node, else STUN" do
    assert Chain.providers([]) == {:ok, [Stun]}
    start_supervised!({Turn, options()})
    assert Chain.providers([]) == {:ok, [Embedded]}
    assert Chain.providers(relay: :another) == {:ok, [Stun]}
  end

  test "a name that is none is an error" do
    assert {:error, {:config, "option provider: \"coturm\": must be one of" <> _}} =
             Chain.ask("alice", provider: "coturm")
  end

  test "no secret of a call is told" do
    put_config(metered_secret_key: "hide this key")
    fail = fn opts -> {:error, {:odd, opts[:turn_urls], "hide this key", opts}} end
    user = %{two: fail, one: fn -> {:ok, [@server]} end}
    opts = [provider: [Two, One], secret: "hide this too", turn_urls: "turn:t"]
    log = capture_log(fn -> assert {:ok, %{provider: One}} = Chain.ask(user, opts) end)
    assert log =~ "asking"
    told = log <> inspect(failed())
    refute told =~ "hide this"
  end
end
