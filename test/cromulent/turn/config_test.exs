defmodule Cromulent.Turn.ConfigTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{AccessToken, Address, Config, Option}

  defp config(opts \\ []) do
    assert {:ok, config} = Config.new(opts)
    config
  end

  defp refused(opts) do
    assert {:error, {:config, text}} = Config.new(opts)
    text
  end

  test "has defaults for all" do
    config = config()
    assert config.realm == "cromulent_turn"
    assert {:udp, {0, 0, 0, 0}, 3478} in config.listen
    assert length(config.listen) == if(Address.family?(:inet6), do: 2, else: 1)
    assert config.relays == for(ip <- Address.primary(), do: {ip, ip})
    assert config.ports == {49_152, 65_535}
    assert config.ttl == 3600
    assert config.workers == nil
    assert {config.stun_urls, config.allow_peers, config.deny_peers} == {[], [], []}
    assert config.random_secret?
  end

  test "where members of rooms only are reached, switch is the mode unless another was chosen" do
    assert config(admission: :room).limits == %{admission: :room, mode: :switch}
    assert config(admission: :room, mode: :open).limits == %{admission: :room, mode: :open}
    assert config(admission: :presence).limits == %{admission: :presence}
    put_env([{"TURN_ADMISSION", "room"}, {"TURN_MODE", "open"}])
    assert %{admission: :room, mode: :open} = Config.to_relay(config())
    config = config(withdraw_after: 100)
    assert {:ok, %{withdraw_after: 200}} = Config.update(config, withdraw_after: 200)
    refute Map.has_key?(Config.to_relay(config), :withdraw_after)

    for opts <- [[admission: :presence], [max_grants: 5]] do
      assert {:error, {:config, text}} = Config.update(config, opts)
      assert text =~ "cannot change while the relay runs"
    end
  end

  test "is made of the whole environment" do
    put_env([
      {"TURN_SECRET", "first secret of the test,second secret of the test"},
      {"TURN_REALM", "example.org"},
      {"TURN_LISTEN", "udp:127.0.0.1:3478,udp:[::1]:3479"},
      {"TURN_RELAY_IP", "10.0.0.5,fd00::5"},
      {"TURN_EXTERNAL_IP", "203.0.113.5"},
      {"TURN_RELAY_PORTS", "20000-30000"},
      {"TURN_TTL", "600"},
      {"TURN_STUN_URLS", "stun:stun.example.org:3478, stuns:[2001:db8::1]:5349"},
      {"TURN_WORKERS", "3"},
      {"TURN_ALLOW_PEERS", "10.0.0.0/8"},
      {"TURN_DENY_PEERS", "8.8.8.8"}
    ])

    config = config()
    assert config.secrets.() == ["first secret of the test", "second secret of the test"]
    refute config.random_secret?
    assert config.stun_urls == ["stun:stun.example.org:3478", "stuns:[2001:db8::1]:5349"]
    assert config.ttl == 600

    assert Config.to_relay(config) == %{
             listen: ["udp:127.0.0.1:3478", "udp:[::1]:3479"],
             realm: "example.org",
             secrets: ["first secret of the test", "second secret of the test"],
             relays: [{"10.0.0.5", "203.0.113.5"}, {"fd00::5", "fd00::5"}],
             ports: {20_000, 30_000},
             workers: 3,
             allow_peers: ["10.0.0.0/8"],
             deny_peers: ["8.8.8.8/32"],
             proxy_from: []
           }
  end

  test "hands limits to the relay, and nothing that was not said" do
    relay = Config.to_relay(config(relay_ip: "10.0.0.1", user_quota: 4, software: ""))
    assert relay.user_quota == 4
    assert relay.software == ""
    refute Map.has_key?(relay, :workers)
    refute Map.has_key?(relay, :max_allocations)
  end

  test "hands keys of authorization servers to the relay, and does not show them" do
    key = %AccessToken.Key{kid: "a", key: String.duplicate("k", 32), not_after: 7}
    config = config(oauth_keys: [key], oauth_server_name: "turn.example.org")
    relay = Config.to_relay(config)
    assert relay.oauth_keys == [%{kid: "a", key: key.key, not_after: 7}]
    assert relay.oauth_server_name == "turn.example.org"
    refute inspect(config) =~ "kkkk"
    assert {:ok, config} = Config.update(config, ttl: 100)
    assert Config.to_relay(config).oauth_keys == relay.oauth_keys
    assert {:ok, config} = Config.update(config, oauth_keys: [])
    assert Config.to_relay(config).oauth_keys == []
    refute Map.has_key?(Config.to_relay(config()), :oauth_keys)
    assert refused(oauth_keys: "{") =~ "option oauth_keys: must be keys as JWK"
  end

  test "refuses the first thing that is wrong" do
    assert refused(ttl: 1) =~ "option ttl: 1: must be"
    assert refused(listen: []) =~ "must have at least one listener"
    assert refused(secret: "") =~ "option secret: must not be empty"
    assert refused(colour: 1) =~ "option colour: there is no such option"
    assert {:error, {:config, "--ttl \"1\": " <> _}} = Config.new([ttl: "1"], :flag)
    put_env([{"TURN_WORKERS", "many"}])
    assert refused([]) =~ "TURN_WORKERS=\"many\": must be"
  end

  describe "external addresses" do
    defp relays(opts), do: config(opts).relays

    test "stand for every relay address of their family" do
      assert relays(relay_ip: "10.0.0.1,10.0.0.2,fd00::1", external_ip: "203.0.113.5") == [
               {{10, 0, 0, 1}, {203, 0, 113, 5}},
               {{10, 0, 0, 2}, {203, 0, 113, 5}},
               {{0xFD00, 0, 0, 0, 0, 0, 0, 1}, {0xFD00, 0, 0, 0, 0, 0, 0, 1}}
             ]
    end

    test "in pairs stand for their own" do
      assert relays(relay_ip: "10.0.0.1,10.0.0.2", external_ip: "203.0.113.5/10.0.0.2") == [
               {{10, 0, 0, 1}, {10, 0, 0, 1}},
               {{10, 0, 0, 2}, {203, 0, 113, 5}}
             ]
    end

    test "in pairs name relay addresses where none are given" do
      assert {{10, 9, 8, 7}, {203, 0, 113, 5}} in relays(external_ip: "203.0.113.5/10.9.8.7")

      refute Enum.any?(
               relays(external_ip: "203.0.113.5/10.9.8.7"),
               &match?({{192, _, _, _}, _}, &1)
             )
    end

    test "that stand for nothing are refused" do
      assert refused(relay_ip: "10.0.0.1", external_ip: "203.0.113.5/10.0.0.9") =~
               "10.0.0.9 must be one of the relay addresses (10.0.0.1)"

      assert refused(relay_ip: "10.0.0.1", external_ip: "2001:db8::1") =~
               "2001:db8::1 needs a relay address of its family"

      assert refused(relay_ip: "10.0.0.1,10.0.0.2", external_ip: "203.0.113.5,203.0.113.6") =~
               "must be EXTERNAL/LOCAL pairs"
    end
  end

  describe "an update" do
    test "changes what may change" do
      config = config(relay_ip: "10.0.0.1", user_quota: 1)

      assert {:ok, updated} =
               Config.update(config,
                 realm: "new",
                 user_quota: 2,
                 secret: "a new secret, long enough"
               )

      assert updated.realm == "new"
      assert updated.limits == %{user_quota: 2}
      assert updated.secrets.() == ["a new secret", "long enough"]
      assert updated.relays == config.relays
      assert Config.update(config, []) == {:ok, config}
    end

    test "takes nothing from elsewhere" do
      config = config(ttl: 100, secret: "the secret that was given")
      put_env([{"TURN_TTL", "200"}, {"TURN_SECRET", "another secret"}])
      assert {:ok, updated} = Config.update(config, realm: "new")
      assert updated.ttl == 100
      assert updated.secrets.() == ["the secret that was given"]
    end

    test "refuses what a running relay cannot change" do
      config = config()

      for name <- [
            :listen,
            :relay_ip,
            :external_ip,
            :relay_ports,
            :workers,
            :max_allocations,
            :provider
          ] do
        assert {:error, {:config, text}} = Config.update(config, [{name, 1}])
        assert text == "option #{name}: 1: cannot change while the relay runs"
      end

      assert {:error, {:config, _}} = Config.update(config, ttl: 0)
      assert {:error, {:config, _}} = Config.update(config, colour: 0)
    end
  end

  describe "secrets" do
    test "of a boot are random, long, and the same all the time" do
      assert [secret] = Config.boot_secret().()
      assert byte_size(secret) == 64
      assert config().secrets.() == [secret]
      assert config().secrets.() == [secret]
    end

    test "that are short are warned of, without being shown" do
      assert [text] = Config.warnings(config(secret: "5hort"))
      assert text =~ "shorter than 16 bytes"
      refute text =~ "5hort"
      assert Config.warnings(config(secret: "long enough for this")) == []
      assert Config.warnings(config()) == []
    end

    test "are shown by nothing" do
      config = config(secret: "a secret nobody may see")
      sealed = Config.seal_opts(secret: "a secret nobody may see", ttl: 60)

      for term <- [config, Map.from_struct(config), sealed] do
        refute inspect(term, structs: false, limit: :infinity) =~ "nobody may see"
        refute to_string(:io_lib.format("~p", [term])) =~ "nobody may see"
      end

      assert {:ok, _} = Config.new(sealed)
      assert Config.seal_opts(ttl: 60) == [ttl: 60]
      assert Config.seal_opts(sealed) == sealed
    end
  end

  describe "TLS" do
    setup do: {:ok, made: Cromulent.Turn.Certificates.make()}

    test "needs a certificate and its key, together", %{made: made} do
      for {opts, name} <- [
            {[cert: made.cert], "cert"},
            {[key: made.key], "option key"},
            {[listen: "tls:127.0.0.1:5349"], "listen"}
          ] do
        assert {:error, {:config, text}} = Config.new([relay_ip: "127.0.0.1"] ++ opts)
        assert text =~ name
        refute text =~ "PRIVATE"
      end
    end

    test "goes to the relay as text, and is not printed", %{made: made} do
      opts = [relay_ip: "127.0.0.1", cert: made.cert, key: made.key]
      assert {:ok, config} = Config.new([listen: "tls:127.0.0.1:5349"] ++ opts)
      assert %{cert: cert, key: key, listen: ["tls:127.0.0.1:5349"]} = Config.to_relay(config)
      assert {cert, key} == {made.cert, made.key}
      refute inspect(Map.from_struct(config), limit: :infinity) =~ "PRIVATE"
      refute inspect(Config.seal_opts(opts), limit: :infinity) =~ "PRIVATE"
    end

    test "changes by its certificate alone, or by both", %{made: made} do
      {:ok, config} = Config.new(relay_ip: "127.0.0.1", cert: made.cert, key: made.key)
      other = Cromulent.Turn.Certificates.make()
      assert {:ok, next} = Config.update(config, cert: other.cert)
      assert {next.cert, next.key.()} == {other.cert, made.key}
      assert {:ok, next} = Config.update(config, cert: other.cert, key: other.key)
      assert {next.cert, next.key.()} == {other.cert, other.key}
      assert {:ok, same} = Config.update(config, ttl: 61)
      assert {same.cert, same.key.()} == {made.cert, made.key}
    end
  end

  test "listeners are written as they are read" do
    for text <- [
          "tcp:127.0.0.1:1",
          "tls:[::]:5349",
          "udp:127.0.0.1:3478",
          "udp:[::1]:3478",
          "udp:0.0.0.0:0"
        ] do
      assert {:ok, listener} = Config.parse_listener(text)
      assert Config.format_listener(listener) == text
    end

    assert Config.parse_listener("sctp:127.0.0.1:1") == :error
    assert Option.fetch(:listen, listen: ["udp:127.0.0.1:x"]) != :unset
  end

  test "listeners keep the ports that they really have" do
    wanted = [{:udp, {127, 0, 0, 1}, 0}]
    assert Config.pin(wanted, ["udp:127.0.0.1:4711"]) == [{:udp, {127, 0, 0, 1}, 4711}]
    assert Config.pin(wanted, []) == wanted
    assert Config.pin(wanted, ["what is it?"]) == wanted
  end
end
