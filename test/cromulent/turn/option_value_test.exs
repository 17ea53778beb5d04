defmodule Cromulent.Turn.OptionValueTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Option, OptionValue}

  # What each option takes is in option_test.exs, beside where it comes from.

  test "every option has a rule, which never raises" do
    for name <- Option.names(),
        raw <- ["", "x", <<0xFF>>, nil, 7, -1, 1.5, :atom, %{}, {}, [], [nil], [%{}], {:a, 1}] do
      case OptionValue.parse(name, raw) do
        {:ok, _} -> :ok
        {:error, text} -> assert text =~ ~r/^(must|still|needs) /, "#{name}: #{text}"
      end
    end
  end

  test "what a rule gives, it takes again" do
    for {name, raw} <- [
          provider: "embedded,stun",
          secret: "one,two",
          listen: "udp:127.0.0.1:1",
          relay_ports: "20000-30000",
          turn_urls: "turn:a,turns:b",
          stun_urls: "stun:a",
          http: {:finch, Pool},
          metered_url: "https://app.metered.live/",
          opaque_usernames: "1",
          alternate: "[2001:DB8::1]:3479",
          keep_dscp: "true",
          pair: "false",
          mode: "switch",
          oauth_keys: ~s({"kid": "a", "k": "SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM"}),
          redirect: "192.0.2.9:3478,[2001:DB8::9]:1",
          alternate_domain: "turn2.example.org"
        ] do
      assert {:ok, value} = OptionValue.parse(name, raw)
      assert OptionValue.parse(name, value) == {:ok, value}
    end
  end

  test "limits are those of the relay" do
    assert :user_quota in OptionValue.limits()

    own =
      [:software, :mobility, :keep_dscp, :alternate, :permission_events] ++
        [:oauth_server_name, :redirect, :alternate_domain, :classic_stun] ++
        [:tcp_allocations, :mode, :pair, :admission]

    assert Option.limits() == own ++ OptionValue.limits()
  end
end
