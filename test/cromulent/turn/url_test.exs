defmodule Cromulent.Turn.UrlTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Url

  doctest Url

  # {URL, its parts, its canonical text}: the examples of RFC 7064 Appendix A and RFC 7065 Appendix A,
  # and what else the two allow.
  for {text, parts, canonical} <- [
        {"stun:example.org", {:stun, "example.org", 3478, :udp}, "stun:example.org:3478"},
        {"stuns:example.org", {:stuns, "example.org", 5349, :tcp}, "stuns:example.org:5349"},
        {"stun:example.org:8000", {:stun, "example.org", 8000, :udp}, "stun:example.org:8000"},
        {"turn:example.org", {:turn, "example.org", 3478, :udp},
         "turn:example.org:3478?transport=udp"},
        {"turns:example.org", {:turns, "example.org", 5349, :tcp},
         "turns:example.org:5349?transport=tcp"},
        {"turn:example.org:8000", {:turn, "example.org", 8000, :udp},
         "turn:example.org:8000?transport=udp"},
        {"turn:example.org?transport=udp", {:turn, "example.org", 3478, :udp},
         "turn:example.org:3478?transport=udp"},
        {"turn:example.org?transport=tcp", {:turn, "example.org", 3478, :tcp},
         "turn:example.org:3478?transport=tcp"},
        {"turns:example.org?transport=tcp", {:turns, "example.org", 5349, :tcp},
         "turns:example.org:5349?transport=tcp"},
        {"turns:example.org:443?transport=udp", {:turns, "example.org", 443, :udp},
         "turns:example.org:443?transport=udp"},
        {"TURN:Turn.Example.ORG?Transport=TCP", {:turn, "turn.example.org", 3478, :tcp},
         "turn:turn.example.org:3478?transport=tcp"},
        {"stun:192.0.2.1", {:stun, "192.0.2.1", 3478, :udp}, "stun:192.0.2.1:3478"},
        {"turn:[2001:DB8:0::1]:1", {:turn, "2001:db8::1", 1, :udp},
         "turn:[2001:db8::1]:1?transport=udp"},
        {"stun:[::ffff:192.0.2.1]", {:stun, "::ffff:192.0.2.1", 3478, :udp},
         "stun:[::ffff:192.0.2.1]:3478"},
        {"turn:turn_server:03478", {:turn, "turn_server", 3478, :udp},
         "turn:turn_server:3478?transport=udp"},
        {"stun:localhost:65535", {:stun, "localhost", 65_535, :udp}, "stun:localhost:65535"}
      ] do
    test "#{text} is read and written" do
      {scheme, host, port, transport} = unquote(Macro.escape(parts))
      assert {:ok, url} = Url.parse(unquote(text))
      assert url == %{scheme: scheme, host: host, port: port, transport: transport}
      assert Url.build(url) == unquote(canonical)
      assert Url.parse(unquote(canonical)) == {:ok, url}
    end
  end

  for {text, right} <- [
        {"", "must begin with stun:, stuns:, turn: or turns:"},
        {"turn", "must begin with"},
        {"http://example.org", "must begin with"},
        {" turn:example.org", "must begin with"},
        {"turn:", "must have a DNS name"},
        {"turn://example.org", "must have no //"},
        {"turn:user@example.org", "must have a DNS name"},
        {"turn:example.org/path", "must have a DNS name"},
        {"turn:exa mple.org", "must have a DNS name"},
        {"turn:example..org", "must have a DNS name"},
        {"turn:-example.org", "must have a DNS name"},
        {"turn:ex\u00e4mple.org", "must have a DNS name"},
        {"turn:example.org\n", "must have a DNS name"},
        {"turn:192.0.2.256", "must have a DNS name"},
        {"turn:2001:db8::1", "IPv6 addresses in brackets"},
        {"turn:[2001:db8::1", "must be HOST or HOST:PORT"},
        {"turn:[192.0.2.1]", "must have an IPv6 address within the brackets"},
        {"turn:[::1%25eth0]", "must be HOST or HOST:PORT"},
        {"turn:[]", "must be HOST or HOST:PORT"},
        {"turn:example.org:", "must be HOST or HOST:PORT"},
        {"turn:example.org:0", "must have a port from 1 to 65535"},
        {"turn:example.org:65536", "must have a port from 1 to 65535"},
        {"turn:example.org:-1", "must be HOST or HOST:PORT"},
        {"turn:example.org:123456", "must be HOST or HOST:PORT"},
        {"turn:example.org?transport=sctp", "must have nothing but transport=udp"},
        {"turn:example.org?transport=tcp&x=1", "must have nothing but transport=udp"},
        {"turn:example.org?", "must have nothing but transport=udp"},
        {"stun:example.org?transport=udp", "must have nothing after ?"}
      ] do
    test "#{inspect(text)} is refused" do
      assert {:error, text} = Url.parse(unquote(text))
      assert text =~ unquote(right)
    end
  end

  test "what is no text, or too much of it, is refused" do
    for other <- [nil, :turn, 7, ~c"turn:a", %{}, ["turn:a"]],
        do: assert(Url.parse(other) == {:error, "must be text"})

    assert Url.parse("turn:" <> String.duplicate("a", 600)) ==
             {:error, "must be at most 512 bytes"}

    assert {:error, _} = Url.parse("turn:" <> <<0xFF, 0>>)
  end

  test "a kind says what is spoken" do
    for {text, kind} <- [
          {"stun:a", :stun},
          {"stuns:a", :stun},
          {"turn:a", :udp},
          {"turn:a?transport=tcp", :tcp},
          {"turns:a", :tls},
          {"turns:a?transport=udp", :tls}
        ] do
      {:ok, url} = Url.parse(text)
      assert Url.kind(url) == kind
      assert Url.turn?(url) == (kind != :stun)
    end
  end

  test "any bytes get an answer" do
    :rand.seed(:exsss, {1, 2, 3})

    parts = [
      "turn",
      "stuns",
      ":",
      "//",
      "[",
      "]",
      "?transport=",
      "udp",
      "1",
      "é",
      <<0xFE>>,
      "a.b"
    ]

    for _ <- 1..5_000 do
      text = Enum.map_join(1..:rand.uniform(6), fn _ -> Enum.random(parts) end)

      case Url.parse(text) do
        {:ok, url} -> assert Url.parse(Url.build(url)) == {:ok, url}
        {:error, fault} -> assert fault =~ ~r/^must /
      end
    end
  end
end
