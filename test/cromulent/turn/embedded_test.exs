defmodule Cromulent.Turn.EmbeddedTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Config, Credentials, Embedded, Relay}

  defp urls(opts, listen) do
    {:ok, config} = Config.new([secret: secret()] ++ opts)
    offer = Embedded.offer(config, listen)
    {Enum.map(offer.stun, & &1.urls), offer.turn}
  end

  describe "the addresses" do
    test "of a listener on one address are that address" do
      assert urls([relay_ip: "127.0.0.1"], ["udp:127.0.0.1:3478", "udp:[::1]:3479"]) ==
               {["stun:127.0.0.1:3478", "stun:[::1]:3479"],
                ["turn:127.0.0.1:3478?transport=udp", "turn:[::1]:3479?transport=udp"]}

      assert {_, ["turn:192.0.2.9:3478?transport=udp"]} =
               urls([relay_ip: "192.0.2.8"], ["udp:192.0.2.9:3478"])
    end

    test "of a listener on every address are those of the relay, by family" do
      opts = [relay_ip: "192.0.2.8,2001:db8::8"]

      assert {_, ["turn:192.0.2.8:3478?transport=udp", "turn:[2001:db8::8]:3478?transport=udp"]} =
               urls(opts, ["udp:0.0.0.0:3478", "udp:[::]:3478"])

      assert {_, ["turn:192.0.2.8:3478?transport=udp"]} = urls(opts, ["udp:0.0.0.0:3478"])
    end

    test "name the transport of their listener" do
      listen = ["tcp:127.0.0.1:3478", "udp:127.0.0.1:3479"]

      assert urls([relay_ip: "127.0.0.1"], listen) ==
               {["stun:127.0.0.1:3479"],
                ["turn:127.0.0.1:3478?transport=tcp", "turn:127.0.0.1:3479?transport=udp"]}
    end

    test "are of TLS where there is a certificate" do
      made = Cromulent.Turn.Certificates.make()
      opts = [relay_ip: "127.0.0.1", cert: made.cert, key: made.key, host: "turn.example.org"]

      assert urls(opts, ["tcp:127.0.0.1:443", "tls:127.0.0.1:5349", "dtls:127.0.0.1:5349"]) ==
               {[],
                [
                  "turn:turn.example.org:443?transport=tcp",
                  "turns:turn.example.org:443?transport=tcp",
                  "turns:turn.example.org:5349?transport=tcp",
                  "turns:turn.example.org:5349?transport=udp"
                ]}
    end

    test "are the external ones behind NAT" do
      opts = [relay_ip: "10.0.0.8", external_ip: "203.0.113.5"]
      told = ["turn:203.0.113.5:3478?transport=udp"]
      assert {_, ^told} = urls(opts, ["udp:0.0.0.0:3478"])
      assert {_, ^told} = urls(opts, ["udp:10.0.0.8:3478"])
      assert {_, ["turn:127.0.0.1:3478?transport=udp"]} = urls(opts, ["udp:127.0.0.1:3478"])
    end

    test "are the host where there is one, once" do
      assert {["stun:turn.example.org:3478"], ["turn:turn.example.org:3478?transport=udp"]} =
               urls([relay_ip: "10.0.0.8", host: "turn.example.org"], [
                 "udp:0.0.0.0:3478",
                 "udp:[::]:3478"
               ])

      assert {_, ["turn:[2001:db8::5]:3478?transport=udp"]} =
               urls([relay_ip: "10.0.0.8", host: "2001:db8::5"], ["udp:0.0.0.0:3478"])
    end

    test "are followed by further STUN servers" do
      assert {["stun:127.0.0.1:3478", "stun:more.example.org"], _} =
               urls([relay_ip: "127.0.0.1", stun_urls: "stun:more.example.org"], [
                 "udp:127.0.0.1:3478"
               ])
    end
  end

  test "gives the servers of a relay by its name" do
    start_supervised!(
      {Relay, [name: __MODULE__.Relay] ++ options(secret: ["new secret of the test", "old"])}
    )

    assert {:ok, servers} = Embedded.get_ice_servers("alice", relay: __MODULE__.Relay)
    turn = Enum.filter(servers, &String.starts_with?(&1.urls, "turn:"))
    assert length(turn) == 2

    for server <- turn do
      assert Enum.sort(Map.keys(server)) == [:credential, :urls, :username]

      assert Credentials.verify(server.username, server.credential, "new secret of the test") ==
               :ok
    end

    for %{urls: "stun:" <> _} = server <- servers, do: assert(Map.keys(server) == [:urls])
    assert Embedded.get_ice_servers("a\0", relay: __MODULE__.Relay) == {:error, :bad_user_id}
  end

  test "says so when no relay runs" do
    assert Embedded.get_ice_servers("alice", relay: :no_such_relay) == {:error, :not_running}
    refute Embedded.running?(:no_such_relay)
  end
end
