defmodule Cromulent.Turn.StunServersTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Stun, StunServers}

  test "are the configured ones, else a public one" do
    assert StunServers.get_ice_servers("alice") == {:ok, StunServers.fallback()}
    put_env([{"TURN_STUN_URLS", "stun:a.example.org"}])
    assert StunServers.get_ice_servers("alice") == {:ok, [%{urls: "stun:a.example.org"}]}
    put_config(stun_urls: ["stun:b.example.org"])
    assert StunServers.get_ice_servers("alice") == {:ok, [%{urls: "stun:b.example.org"}]}
    put_config(stun_urls: ["b.example.org"])

    assert {:error,
            {:config, "config :cromulent_turn, stun_urls: \"b.example.org\": must be" <> _}} =
             StunServers.get_ice_servers("alice")
  end

  test "are those of a call where it has some, and never expire" do
    opts = [stun_urls: "stun:c.example.org"]
    assert StunServers.urls(opts) == {:ok, ["stun:c.example.org"]}
    assert StunServers.get_ice_servers("alice", opts) == {:ok, [%{urls: "stun:c.example.org"}]}

    assert StunServers.offer("alice", opts) ==
             {:ok, %{ice_servers: [%{urls: "stun:c.example.org"}], expires_at: nil}}

    assert {:error, {:config, _}} = StunServers.offer("alice", stun_urls: "c")
    assert StunServers.urls(stun_urls: []) == {:ok, ["stun:stun.l.google.com:19302"]}
  end

  test "have no username and no credential" do
    assert StunServers.fallback() == [%{urls: "stun:stun.l.google.com:19302"}]
    assert StunServers.entries(["stun:a", "stun:b"]) == [%{urls: "stun:a"}, %{urls: "stun:b"}]
  end

  test "are the provider of the name Stun too" do
    assert Stun.get_ice_servers("alice") == StunServers.get_ice_servers("alice")
    assert Stun.offer("alice", []) == StunServers.offer("alice", [])
  end
end
