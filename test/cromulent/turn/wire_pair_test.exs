defmodule Cromulent.Turn.WirePairTest do
  # Two clients of one relay as each other's peers: in memory, on one worker and on two, and over the relay
  # sockets where that is turned off. What clients see and what is counted must be the same.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Certificates, Client, Relay}

  @ways [memory: [workers: 1], rings: [workers: 2], sockets: [workers: 2, pair: false]]
  @sizes [0, 1, 2, 3, 4, 5, 160, 1200, 1400]

  setup_all do: {:ok, made: Certificates.make()}

  defp counters(relay), do: elem(Relay.stats(relay.pid), 1).counters

  # Which worker has the allocation with this relayed address.
  defp worker_of(relay, {ip, port}) do
    text = "#{:inet.ntoa(ip)}:#{port}"
    {:ok, list} = Relay.list(1000, relay.pid)
    Enum.find_value(list, &(&1.relayed == text && &1.worker))
  end

  # Two allocations, with more than one worker on different ones: the kernel spreads clients by their ports.
  defp two(relay, opts \\ []) do
    {one, first} = allocated(relay, opts)
    {other, second} = another(relay, worker_of(relay, first), opts, 100)
    {{one, first}, {other, second}}
  end

  defp another(_relay, _worker, _opts, 0), do: flunk("all clients came to one worker")

  defp another(relay, worker, opts, tries) do
    {other, second} = allocated(relay, opts)

    if relay.info.workers == 1 or worker_of(relay, second) != worker do
      {other, second}
    else
      {:ok, 0, _} = Client.refresh(other, 0)
      another(relay, worker, opts, tries - 1)
    end
  end

  defp talk({one, first}, {other, second}) do
    {:ok, one} = Client.bind(one, 0x4000, second)
    {:ok, other} = Client.permit(other, [first])

    for size <- @sizes do
      data = :crypto.strong_rand_bytes(size)
      :ok = Client.send_to(one, 0x4000, data)
      assert Client.recv(other, 5_000) == {:ok, {:data, first, data}}
      :ok = Client.send_to(other, first, data)
      assert Client.recv(one, 5_000) == {:ok, {:channel, 0x4000, data}}
    end
  end

  for {name, opts} <- @ways do
    @opts opts
    describe "by way of #{name}" do
      test "payloads of every size pass, and are counted at both" do
        relay = start_relay([allow_peers: []] ++ @opts)
        {one, other} = two(relay)
        talk(one, other)
        n = 2 * length(@sizes)
        bytes = 2 * Enum.sum(@sizes)

        assert %{up_packets: ^n, down_packets: ^n, up_bytes: ^bytes, down_bytes: ^bytes} =
                 counters(relay)

        assert counters(relay).pair_packets == if(Keyword.get(@opts, :pair, true), do: n, else: 0)
        {:ok, list} = Relay.list(10, relay.pid)
        assert [{9, 9}, {9, 9}] == for(a <- list, do: {a.up_packets, a.down_packets})
      end

      test "clients of every transport meet", %{made: made} do
        listen = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "tls:127.0.0.1:0", "dtls:127.0.0.1:0"]
        relay = start_relay([listen: listen, cert: made.cert, key: made.key] ++ @opts)

        ways =
          for {transport, text} <- Enum.zip([:udp, :tcp, :tls, :dtls], relay.info.listen) do
            tls = if transport in [:tls, :dtls], do: [tls: made.verify], else: []
            [transport: transport, address: address(text)] ++ tls
          end

        for one <- ways, other <- ways, do: talk(allocated(relay, one), allocated(relay, other))
      end

      test "who sends must be permitted, and who is gone gets nothing" do
        relay = start_relay([allow_peers: []] ++ @opts)
        {{one, first}, {other, second}} = two(relay)
        {:ok, one} = Client.permit(one, [second])
        :ok = Client.send_to(one, second, "stranger")
        eventually(fn -> counters(relay).drop_no_permission == 1 end)
        {:ok, other} = Client.permit(other, [first])
        :ok = Client.send_to(one, second, "friend")
        assert Client.recv(other, 5_000) == {:ok, {:data, first, "friend"}}
        {:ok, 0, _} = Client.refresh(other, 0)
        :ok = Client.send_to(one, second, "anybody?")
        eventually(fn -> counters(relay).drop_no_permission == 2 end)
        assert {:error, {:refused, 403, _}, _} = Client.bind(one, 0x4000, second)
        assert Client.recv(other, 0) == {:error, :timeout}
      end

      test "a client can be its own peer" do
        relay = start_relay([allow_peers: []] ++ @opts)
        {one, first} = allocated(relay)
        {:ok, one} = Client.permit(one, [first])
        :ok = Client.send_to(one, first, "echo")
        assert Client.recv(one, 5_000) == {:ok, {:data, first, "echo"}}
      end
    end
  end

  test "more than a ring holds is dropped and counted, and what it holds arrives" do
    relay = start_relay(allow_peers: [], workers: 2)
    {{one, first}, {other, second}} = two(relay)
    {:ok, one} = Client.bind(one, 0x4000, second)
    {:ok, _other} = Client.bind(other, 0x4001, first)
    data = :binary.copy("x", 8_000)
    for _ <- 1..2_000, do: :ok = Client.send_to(one, 0x4000, data)

    eventually(
      fn ->
        c = counters(relay)
        c.up_packets > 0 and c.up_packets == c.pair_packets and settled?(relay, c)
      end,
      10_000
    )
  end

  # Each datagram has one fate, and none is on its way any more.
  defp settled?(relay, %{up_packets: up} = c),
    do: up == c.down_packets + c.drop_ring and counters(relay).up_packets == up

  test "the external address of a NAT is a short cut too" do
    relay =
      start_relay(
        relay_ip: ["127.0.0.1"],
        external_ip: ["192.0.2.7"],
        allow_peers: [],
        workers: 2
      )

    {{_, {ip, _}} = one, other} = two(relay)
    assert ip == {192, 0, 2, 7}
    talk(one, other)
    assert counters(relay).pair_packets == 2 * length(@sizes)
  end
end
