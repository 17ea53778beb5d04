defmodule Cromulent.TurnTest do
  # The relay with the default name, the environment and the throttle are everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Client, Credentials, OsProcess, Relay, Throttle}

  @public [%{urls: "stun:stun.l.google.com:19302"}]

  defmodule Custom do
    @behaviour Cromulent.Turn.Provider

    @impl true
    def get_ice_servers("raise"), do: raise("no luck")
    def get_ice_servers("throw"), do: throw(:ball)
    def get_ice_servers("exit"), do: exit(:left)
    def get_ice_servers("empty"), do: {:ok, []}
    def get_ice_servers("odd"), do: :odd
    def get_ice_servers("error"), do: {:error, {:http_error, 503}}
    def get_ice_servers("no credentials"), do: {:ok, [%{urls: "turn:a", username: nil}]}
    def get_ice_servers("key"), do: raise("cannot reach https://x.example.org/v1?apiKey=hide-me")
    def get_ice_servers(id), do: {:ok, [server(id)]}

    def server(id),
      do: %{urls: "turn:t.example.org", username: "1900000000:#{id}", credential: "c"}
  end

  setup do
    Throttle.reset()
    :ok
  end

  defp fallback(user_id, opts) do
    {result, log} = with_log(fn -> Turn.ice_servers(user_id, opts) end)
    assert result == {:ok, @public}
    log
  end

  describe "ice_servers/2 of the embedded provider" do
    setup do
      start_supervised!({Turn, options(ttl: 600)})
      {:ok, relay: relay(Relay)}
    end

    test "gives a STUN and a TURN server per listener, with credentials that hold", %{
      relay: relay
    } do
      assert {:ok, [stun4, stun6, turn4, turn6]} = Turn.ice_servers("alice", provider: :embedded)
      {_, port4} = relay.address
      {_, port6} = relay.address6
      assert stun4 == %{urls: "stun:127.0.0.1:#{port4}"}
      assert stun6 == %{urls: "stun:[::1]:#{port6}"}
      assert %{urls: "turn:127.0.0.1:" <> _, username: username, credential: credential} = turn4
      assert turn4.urls == "turn:127.0.0.1:#{port4}?transport=udp"
      assert turn6 == %{turn4 | urls: "turn:[::1]:#{port6}?transport=udp"}
      assert [expiry, "alice"] = String.split(username, ":")
      assert (String.to_integer(expiry) - System.os_time(:second)) in 595..600
      assert Credentials.verify(username, credential, secret()) == :ok

      {:ok, client} = Client.open(relay.address, username: username, password: credential)
      assert {:ok, %{relayed: _}, _} = Client.allocate(client)
    end

    test "is chosen by the environment, and by a relay that runs", %{relay: _} do
      assert {:ok, [_, _, %{username: _}, _]} = Turn.ice_servers("alice")
      put_env([{"TURN_PROVIDER", "stun"}])
      assert {:ok, @public} = Turn.ice_servers("alice")
      System.put_env("TURN_PROVIDER", "embedded")
      assert {:ok, [_, _, %{username: _}, _]} = Turn.ice_servers("alice")
    end

    test "takes ids of every kind, and refuses what can be no username", %{relay: _} do
      for id <- ["018f2f5e-0000-7000-8000-000000000000", 42, :atom, "ünï"] do
        assert {:ok, [_, _, %{username: username}, _]} = Turn.ice_servers(id)
        assert String.ends_with?(username, ":#{id}")
      end

      for id <- ["new\nline", String.duplicate("x", 600), %{}, {1, 2}, <<0xFF>>] do
        Throttle.reset()
        assert fallback(id, provider: :embedded) =~ "bad_user_id", inspect(id)
      end
    end

    test "takes a ttl", %{relay: _} do
      assert {:ok, [_, _, %{username: username}, _]} = Turn.ice_servers("alice", ttl: 60)

      assert (String.to_integer(hd(String.split(username, ":"))) - System.os_time(:second)) in 55..60
    end

    test "follows secrets and options that change", %{relay: relay} do
      new = "a newer secret for the tests"
      assert Relay.configure(secret: [new, secret()], host: "turn.example.org", ttl: 60) == :ok
      {_, port} = relay.address
      assert {:ok, servers} = Turn.ice_servers("alice")
      assert "turn:turn.example.org:#{port}?transport=udp" in Enum.map(servers, & &1.urls)
      %{username: username, credential: credential} = List.last(servers)
      assert Credentials.verify(username, credential, new) == :ok
      {:ok, client} = Client.open(relay.address, username: username, password: credential)
      assert {:ok, _, _} = Client.allocate(client)
    end

    test "holds out while a lost relay is replaced", %{relay: relay} do
      OsProcess.kill(relay.os_pid)
      assert {:ok, [_, _, %{username: _}, _]} = Turn.ice_servers("alice")
      eventually(fn -> match?({:ok, %{restarts: 1, status: :up}}, Relay.info()) end)
      assert {:ok, [_, _, %{username: _} = turn, _]} = Turn.ice_servers("alice")

      {:ok, client} =
        Client.open(relay.address, username: turn.username, password: turn.credential)

      assert {:ok, _, _} = Client.allocate(client)
    end

    test "takes microseconds", %{relay: _} do
      for _ <- 1..1_000, do: Turn.ice_servers("warm")
      {us, _} = :timer.tc(fn -> for _ <- 1..10_000, do: Turn.ice_servers("alice") end)
      # A few in truth; the bound leaves room for a busy machine and a sanitized NIF.
      assert us / 10_000 < 200
    end
  end

  describe "ice_servers/2 without a relay" do
    test "gives public STUN servers by default, and those of TURN_STUN_URLS" do
      assert Turn.ice_servers("alice") == {:ok, @public}

      for name <- ["stun", "disabled", "none", ""] do
        put_env([{"TURN_PROVIDER", name}])
        assert Turn.ice_servers("alice") == {:ok, @public}
      end

      put_env([{"TURN_STUN_URLS", "stun:a.example.org,stun:b.example.org:19302"}])

      assert Turn.ice_servers("alice") ==
               {:ok, [%{urls: "stun:a.example.org"}, %{urls: "stun:b.example.org:19302"}]}
    end

    test "falls back when the embedded relay is not there" do
      :telemetry.listen()
      log = fallback("alice", provider: :embedded)
      assert log =~ "TURN provider embedded failed, clients get STUN servers only: no relay runs"

      assert_received {:telemetry, [:cromulent, :turn, :provider, :fallback], %{count: 1},
                       %{provider: :embedded, reason: :not_running, user_id: "alice"}}
    end

    test "falls back when the provider is not configured, and says what is missing" do
      put_env([{"TURN_PROVIDER", "coturn"}])
      log = fallback("alice", [])

      assert log =~
               "TURN provider coturn failed, clients get STUN servers only: TURN_URL is not set"

      put_env([{"TURN_URL", "turn:turn.example.org"}])
      Throttle.reset()
      assert fallback("alice", []) =~ "TURN_SECRET is not set"
    end

    test "falls back when there is no such provider" do
      put_env([{"TURN_PROVIDER", "coturm"}])
      assert fallback("alice", []) =~ "TURN_PROVIDER=\"coturm\": must be one of"
    end

    test "falls back to the configured STUN servers, and to public ones when those are wrong" do
      put_env([{"TURN_STUN_URLS", "stun:a.example.org"}])

      with_log(fn ->
        assert Turn.ice_servers("x", provider: :embedded) ==
                 {:ok, [%{urls: "stun:a.example.org"}]}
      end)

      put_env([{"TURN_STUN_URLS", "nonsense"}])
      with_log(fn -> assert Turn.ice_servers("x", provider: :stun) == {:ok, @public} end)
    end

    test "asks a module of the application" do
      assert Turn.ice_servers("x", provider: Custom) == {:ok, [Custom.server("x")]}
      put_config(provider: Custom)
      assert Turn.ice_servers("y") == {:ok, [Custom.server("y")]}
      assert Turn.payload("y") == %{ice_servers: [Custom.server("y")], expires_at: 1_900_000_000}
    end

    test "adds the STUN servers of the application, and takes as many as are wanted" do
      put_env([{"TURN_STUN_URLS", "stun:a.example.org,stun:b.example.org"}])
      stun = [%{urls: "stun:a.example.org"}, %{urls: "stun:b.example.org"}]
      assert Turn.ice_servers("x", provider: Custom) == {:ok, stun ++ [Custom.server("x")]}
      put_env([{"TURN_MAX_ICE_SERVERS", "2"}])
      assert Turn.ice_servers("x", provider: Custom) == {:ok, [hd(stun), Custom.server("x")]}

      assert Turn.ice_servers("x", provider: Custom, max_ice_servers: 1) ==
               {:ok, [Custom.server("x")]}
    end

    test "goes on without a setting that is wrong, and says so" do
      put_env([{"TURN_MAX_ICE_SERVERS", "many"}])
      {result, log} = with_log(fn -> Turn.ice_servers("x", provider: Custom) end)
      assert result == {:ok, [Custom.server("x")]}
      assert log =~ "TURN_MAX_ICE_SERVERS=\"many\": must be a number of servers from 1 to 32"
    end

    test "gives a list for options that are none" do
      assert Turn.ice_servers("x", relay: "no name") == {:ok, @public}

      for opts <- [nil, %{}, :x, [:ttl], [{:ttl, 60} | :improper]] do
        Throttle.reset()
        assert fallback("x", opts) =~ "must be a keyword list"
      end

      Throttle.reset()
      assert fallback("x", provider: [:stun | :improper]) =~ "must be a proper list"
    end

    test "survives whatever a provider does" do
      for {id, told} <- [
            {"raise", "no luck"},
            {"throw", ":ball"},
            {"exit", ":left"},
            {"empty", "no_servers"},
            {"odd", "bad_answer"},
            {"error", "503"},
            {"no credentials", "no_credentials"}
          ] do
        Throttle.reset()
        assert fallback(id, provider: Custom) =~ told
      end
    end

    test "logs one line per cause and minute, and tells telemetry every time" do
      :telemetry.listen()

      log =
        capture_log(fn ->
          for _ <- 1..10, do: Turn.ice_servers("raise", provider: Custom)
          for _ <- 1..10, do: Turn.ice_servers("error", provider: Custom)
        end)

      assert length(String.split(log, "TURN provider")) == 3

      for _ <- 1..20,
          do: assert_received({:telemetry, [:cromulent, :turn, :provider, :fallback], _, _})
    end
  end

  test "no key that a provider knows is told" do
    :telemetry.listen()
    log = fallback("key", provider: Custom)
    assert log =~ "RuntimeError: cannot reach https://x.example.org/v1?[hidden]"
    assert_received {:telemetry, [_, _, :provider, :fallback], _, metadata}
    refute inspect(metadata) =~ "hide-me"
  end

  describe "stun_servers/0" do
    test "is what clients get, for those who need no relay" do
      assert Turn.stun_servers() == @public
      put_env([{"TURN_STUN_URLS", "stun:a.example.org"}])
      assert Turn.stun_servers() == [%{urls: "stun:a.example.org"}]
      put_env([{"TURN_STUN_URLS", "nonsense"}])
      {servers, log} = with_log(&Turn.stun_servers/0)
      assert servers == @public
      assert log =~ "TURN_STUN_URLS=\"nonsense\": must be STUN URLs"
    end

    test "has the relay of this node" do
      start_supervised!({Turn, options(stun_urls: "stun:a.example.org")})
      {_, port4} = relay(Relay).address
      {:ok, servers} = Turn.ice_servers("alice")
      assert %{urls: "stun:127.0.0.1:#{port4}"} in Turn.stun_servers()
      assert Turn.stun_servers() == Enum.reject(servers, & &1[:username])
    end
  end

  describe "start_link/1" do
    test "tells what is wrong" do
      Process.flag(:trap_exit, true)
      assert {:error, {:config, "option ttl: 1: must be" <> _}} = Turn.start_link(ttl: 1)
      {_socket, {_, port}} = peer()
      listener = "udp:127.0.0.1:#{port}"

      with_log(fn ->
        assert Turn.start_link(options(listen: listener)) ==
                 {:error, {:listen, listener, :eaddrinuse}}
      end)
    end

    test "does not start a second one, and says what to do" do
      start_supervised!({Turn, options()})
      assert {:error, {:already_running, text}} = Turn.start_link(options())
      assert text =~ "config :cromulent_turn, start: false"
    end
  end

  test "child_spec/1 hides the secret, from supervisors too" do
    spec = Turn.child_spec(options(secret: "hide me, please, from reports"))
    refute inspect(spec, limit: :infinity) =~ "hide me"
    assert %{id: Turn, type: :supervisor} = spec

    {_socket, {_, port}} = peer()
    opts = options(secret: "hide me, please, from reports", listen: "udp:127.0.0.1:#{port}")

    log =
      capture_log(fn ->
        Process.flag(:trap_exit, true)
        assert {:error, _} = Supervisor.start_link([{Turn, opts}], strategy: :one_for_one)
      end)

    refute log =~ "hide me"

    # Not even those that have no place there.
    refute inspect(Turn.child_spec(metered_secret_key: "hide me")) =~ "hide me"
  end
end
