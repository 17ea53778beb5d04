defmodule Cromulent.Turn.AddressTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Address

  test "parses what is an address, and nothing else" do
    assert Address.parse("192.0.2.1") == {:ok, {192, 0, 2, 1}}
    assert Address.parse(" 192.0.2.1 ") == {:ok, {192, 0, 2, 1}}
    assert Address.parse("2001:db8::1") == {:ok, {0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}}
    assert Address.parse("[::1]") == {:ok, {0, 0, 0, 0, 0, 0, 0, 1}}
    assert Address.parse({127, 0, 0, 1}) == {:ok, {127, 0, 0, 1}}

    for wrong <- [
          "",
          "localhost",
          "1.2.3",
          "127.1",
          "1.2.3.256",
          "1.2.3.4:5",
          "[::1]]",
          "::g",
          nil,
          7,
          {1, 2},
          {1, 2, 3, 256}
        ],
        do: assert(Address.parse(wrong) == :error, inspect(wrong))
  end

  test "formats, with brackets in hosts only" do
    assert Address.format({192, 0, 2, 1}) == "192.0.2.1"
    assert Address.format({0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}) == "2001:db8::1"
    assert Address.to_host({192, 0, 2, 1}) == "192.0.2.1"
    assert Address.to_host({0, 0, 0, 0, 0, 0, 0, 1}) == "[::1]"
  end

  test "knows kinds of addresses" do
    assert Address.family({1, 2, 3, 4}) == :inet
    assert Address.family({0, 0, 0, 0, 0, 0, 0, 1}) == :inet6
    assert Address.wildcard?({0, 0, 0, 0}) and Address.wildcard?({0, 0, 0, 0, 0, 0, 0, 0})
    refute Address.wildcard?({0, 0, 0, 1})
    assert Address.loopback?({127, 9, 9, 9}) and Address.loopback?({0, 0, 0, 0, 0, 0, 0, 1})
    refute Address.loopback?({128, 0, 0, 1})
    assert Address.link_local?({169, 254, 1, 1})
    assert Address.link_local?({0xFE80, 0, 0, 0, 0, 0, 0, 1})
    assert Address.link_local?({0xFEBF, 0, 0, 0, 0, 0, 0, 1})
    refute Address.link_local?({0xFEC0, 0, 0, 0, 0, 0, 0, 1})
    refute Address.link_local?({10, 0, 0, 1})
  end

  test "parses blocks into their full form" do
    assert Address.parse_cidr("10.0.0.0/8") == {:ok, "10.0.0.0/8"}
    assert Address.parse_cidr("10.1.2.3") == {:ok, "10.1.2.3/32"}
    assert Address.parse_cidr("fd00::/8") == {:ok, "fd00::/8"}
    assert Address.parse_cidr("::1") == {:ok, "::1/128"}
    assert Address.parse_cidr("0.0.0.0/0") == {:ok, "0.0.0.0/0"}

    for wrong <- [
          "",
          "10.0.0.0/33",
          "10.0.0.0/-1",
          "10.0.0.0/",
          "10.0.0.0/8/8",
          "::/129",
          "10/8",
          "a/8",
          nil,
          8
        ],
        do: assert(Address.parse_cidr(wrong) == :error, inspect(wrong))
  end

  test "finds addresses that sockets can be bound to, at most one per family" do
    addresses = Address.primary()
    families = Enum.map(addresses, &Address.family/1)
    assert families == Enum.uniq(families)

    for ip <- addresses do
      refute Address.wildcard?(ip)
      refute Address.link_local?(ip)
      assert {:ok, socket} = :gen_udp.open(0, [Address.family(ip), ip: ip])
      :gen_udp.close(socket)
    end
  end

  test "takes loopback only where there is nothing else" do
    loopback? = Enum.any?(Address.primary(), &Address.loopback?/1)
    {:ok, interfaces} = :inet.getifaddrs()

    others =
      for {_, options} <- interfaces,
          :up in options[:flags],
          {:addr, ip} <- options,
          not Address.loopback?(ip),
          not Address.link_local?(ip),
          do: ip

    assert loopback? == (others == [])
  end

  test "says which families the host has" do
    assert Address.family?(:inet)
    assert is_boolean(Address.family?(:inet6))
  end
end
