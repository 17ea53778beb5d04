defmodule Cromulent.Turn.WireBurstTest do
  # Bursts that the kernel keeps together where it can: one call sends many datagrams (UDP_SEGMENT), the relay gets
  # them as one and sends them on as one. Whoever receives must not notice.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{ChannelData, Client}

  @udp 17
  @udp_segment 103
  @channel 0x4001

  # {how many, of how many bytes, bytes of one more}
  @bursts [
    {16, 160, nil},
    {1, 160, nil},
    {20, 1000, 999},
    {30, 1400, 1},
    {40, 1, nil},
    {7, 37, 11}
  ]

  @loopback %{inet: {127, 0, 0, 1}, inet6: {0, 0, 0, 0, 0, 0, 0, 1}}

  defp payloads({count, size, last}) do
    many = for _ <- 1..count, do: :crypto.strong_rand_bytes(size)
    if last, do: many ++ [:crypto.strong_rand_bytes(last)], else: many
  end

  # All with one call where the system cuts them apart, else one by one.
  defp send_burst(socket, {ip, port}, [first | _] = datagrams) do
    case segment(socket, byte_size(first)) do
      :ok ->
        :ok = :gen_udp.send(socket, ip, port, datagrams)
        :ok = segment(socket, 0)

      {:error, _} ->
        for one <- datagrams, do: :ok = :gen_udp.send(socket, ip, port, one)
    end
  end

  defp segment(socket, size),
    do: :inet.setopts(socket, [{:raw, @udp, @udp_segment, <<size::32-native>>}])

  defp socket_at(family) do
    {:ok, socket} = :gen_udp.open(0, [:binary, family, ip: @loopback[family], recbuf: 1_000_000])
    {:ok, address} = :inet.sockname(socket)
    {socket, address}
  end

  defp family_of({ip, _}),
    do: [requested_address_family: if(tuple_size(ip) == 4, do: :ipv4, else: :ipv6)]

  defp received(socket) do
    receive do
      {:udp, ^socket, ip, port, data} -> {{ip, port}, data}
    after
      5_000 -> flunk("nothing came")
    end
  end

  for {from, to} <- [inet: :inet, inet6: :inet6, inet: :inet6, inet6: :inet] do
    test "arrive whole and in order both ways, #{from} to #{to}" do
      relay = start_relay(workers: 1)
      server = if unquote(from) == :inet, do: relay.address, else: relay.address6
      {socket, peer} = socket_at(unquote(to))
      {client, relayed} = allocated(relay, address: server, attributes: family_of(peer))
      :ok = :inet.setopts(client.socket, recbuf: 1_000_000)
      {:ok, client} = Client.bind(client, @channel, peer)

      for burst <- @bursts do
        datagrams = payloads(burst)
        send_burst(client.socket, server, Enum.map(datagrams, &ChannelData.encode(@channel, &1)))
        for one <- datagrams, do: assert(received(socket) == {relayed, one})

        send_burst(socket, relayed, datagrams)

        for one <- datagrams,
            do: assert(Client.recv(client, 5_000) == {:ok, {:channel, @channel, one}})
      end

      refute_received {:udp, _, _, _, _}
    end
  end

  test "of several peers and clients do not mix" do
    relay = start_relay(workers: 1)

    pairs =
      for n <- 1..4 do
        {socket, peer} = socket_at(:inet)
        {client, relayed} = allocated(relay, user: "user#{n}")
        {:ok, client} = Client.bind(client, @channel, peer)

        %{
          client: client,
          relayed: relayed,
          socket: socket,
          peer: peer,
          sent: payloads({25, 200, 50})
        }
      end

    for p <- pairs do
      frames = Enum.map(p.sent, &ChannelData.encode(@channel, &1))
      send_burst(p.client.socket, relay.address, frames)
      send_burst(p.socket, p.relayed, p.sent)
    end

    for p <- pairs, one <- p.sent do
      assert received(p.socket) == {p.relayed, one}
      assert Client.recv(p.client, 5_000) == {:ok, {:channel, @channel, one}}
    end

    refute_received {:udp, _, _, _, _}
  end
end
