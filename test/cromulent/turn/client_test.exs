defmodule Cromulent.Turn.ClientTest do
  # Against sockets that the test holds; the tests of the wire and check_test.exs use it against the relay.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{ChannelData, Client, Credentials, Stun}

  setup do
    {server, address} = peer()
    {:ok, client} = Client.open(address, username: "u", password: "p", rto: 4)
    on_exit(fn -> Client.close(client) end)
    {:ok, server: server, client: client, address: address}
  end

  # The server's side of transactions, in a process of its own: each answer is made from the next
  # request that has had none, nil for none. Copies of what was answered may still come.
  defp serve(server, answers) do
    me = self()

    pid =
      spawn_link(fn ->
        receive do
          :yours -> Enum.reduce(answers, [], &serve_one(server, &1, &2, me))
        end

        # The socket is to stay open.
        Process.sleep(:infinity)
      end)

    :ok = :gen_udp.controlling_process(server, pid)
    send(pid, :yours)
  end

  defp serve_one(server, answer, served, me) do
    receive do
      {:udp, ^server, ip, port, packet} ->
        {:ok, request} = Stun.decode(packet)

        if request.transaction_id in served do
          serve_one(server, answer, served, me)
        else
          send(me, {:served, request})
          replies = List.wrap(answer.(request))
          for reply <- replies, do: :ok = :gen_udp.send(server, ip, port, reply)
          if replies == [], do: served, else: [request.transaction_id | served]
        end
    end
  end

  defp reply(request, class, attributes, opts \\ []) do
    Stun.encode(%{request | class: class, attributes: attributes, ignored: []}, opts)
  end

  defp challenge(request, code, nonce) do
    reply(request, :error, error_code: {code, "no"}, realm: "r", nonce: nonce)
  end

  defp key, do: Credentials.key("u", "r", "p", :md5)

  test "opens a socket of the server's family", %{client: client, address: address} do
    assert client.server == address
    assert {{127, 0, 0, 1}, port} = Client.local(client)
    assert port > 0
    {:ok, other} = Client.open({{0, 0, 0, 0, 0, 0, 0, 1}, 9}, ip: {0, 0, 0, 0, 0, 0, 0, 1})
    assert {{0, 0, 0, 0, 0, 0, 0, 1}, _} = Client.local(other)
    assert Client.close(other) == :ok
  end

  test "sends a request seven times, the same, ever later, and gives up", %{
    client: client,
    server: server
  } do
    started = System.monotonic_time(:millisecond)
    assert Client.binding(client) == {:error, :timeout}
    # (63 + 16) * 4 ms, RFC 8489 §6.2.1
    assert System.monotonic_time(:millisecond) - started >= 79 * 4
    packets = for _ <- 1..7, do: elem(peer_recv(server), 1)
    assert length(Enum.uniq(packets)) == 1
    refute_received {:udp, ^server, _, _, _}
  end

  test "gives up early where it is told to", %{client: client} do
    assert Client.binding(%{client | deadline: 10}) == {:error, :timeout}
  end

  test "takes the answer to a later copy", %{client: client, server: server} do
    mapped = {{192, 0, 2, 1}, 99}

    serve(server, [
      fn _ -> nil end,
      fn _ -> nil end,
      &reply(&1, :success, xor_mapped_address: mapped)
    ])

    assert Client.binding(client) == {:ok, mapped}
  end

  test "takes no answer to another question", %{client: client, server: server} do
    mapped = {{192, 0, 2, 1}, 99}

    serve(server, [
      fn request ->
        other = %{request | transaction_id: :crypto.strong_rand_bytes(12)}

        [
          "rubbish",
          reply(other, :success, []),
          reply(request, :success, xor_mapped_address: mapped)
        ]
      end
    ])

    assert Client.binding(client) == {:ok, mapped}
  end

  test "tells a closed port from silence" do
    {socket, address} = peer()
    :gen_udp.close(socket)
    {:ok, client} = Client.open(address, rto: 20)
    assert Client.binding(client) == {:error, :unreachable}
  end

  test "tells a refusal, and an answer without an address", %{client: client, server: server} do
    serve(server, [&reply(&1, :error, error_code: {420, "unknown"}), &reply(&1, :success, [])])
    assert Client.binding(client) == {:error, {:refused, 420, "unknown"}}
    assert Client.binding(client) == {:error, :bad_answer}
  end

  test "answers one challenge, and a stale nonce", %{client: client, server: server} do
    serve(server, [
      &challenge(&1, 401, "one"),
      &challenge(&1, 438, "two"),
      &reply(&1, :success, [lifetime: 600], integrity: {:sha1, key()})
    ])

    assert {:ok, 600, client} = Client.refresh(client)
    assert client.nonce == "two"
    assert_received {:served, first}
    assert_received {:served, second}
    assert_received {:served, third}
    assert Stun.get(first, :username) == nil

    assert {Stun.get(second, :username), Stun.get(second, :realm), Stun.get(second, :nonce)} ==
             {"u", "r", "one"}

    assert Stun.get(third, :nonce) == "two"
    assert Stun.get(second, :password_algorithms) == nil
  end

  test "takes 401 to its credentials for an answer", %{client: client, server: server} do
    serve(server, [&challenge(&1, 401, "one"), &challenge(&1, 401, "two")])
    assert {:error, {:refused, 401, "no"}, _} = Client.allocate(client)
  end

  test "does not follow stale nonces for ever", %{client: client, server: server} do
    serve(server, for(n <- 1..3, do: &challenge(&1, 438, "nonce #{n}")))
    assert {:error, {:refused, 438, _}, _} = Client.allocate(client)
  end

  test "does not answer a challenge without credentials", %{server: server, address: address} do
    {:ok, client} = Client.open(address, rto: 4)
    # The answer goes back to where the question came from.
    serve(server, [&challenge(&1, 401, "one")])
    assert {:error, {:refused, 401, _}, _} = Client.allocate(client)
  end

  test "uses SHA-256 where the server lists it, and sends the list back", %{
    client: client,
    server: server
  } do
    list = [{:sha256, ""}, {:md5, ""}]
    key = Credentials.key("u", "r", "p", :sha256)

    serve(server, [
      &reply(&1, :error, error_code: {401, ""}, realm: "r", nonce: "n", password_algorithms: list),
      &reply(&1, :success, [lifetime: 1], integrity: {:sha256, key})
    ])

    assert {:ok, 1, %{integrity: :sha256}} = Client.refresh(client)
    assert_received {:served, _}
    assert_received {:served, request}
    assert Stun.get(request, :password_algorithms) == list
    assert Stun.get(request, :password_algorithm) == {:sha256, ""}
    assert byte_size(Stun.get(request, :message_integrity_sha256)) == 32
  end

  test "discards an answer that is not protected, or by another key", %{
    client: client,
    server: server
  } do
    serve(server, [
      &challenge(&1, 401, "n"),
      fn request ->
        [
          reply(request, :success, lifetime: 1),
          reply(request, :success, [lifetime: 2], integrity: {:sha1, "another key"}),
          reply(request, :success, [lifetime: 3], integrity: {:sha1, key()})
        ]
      end
    ])

    assert {:ok, 3, _} = Client.refresh(client)
  end

  test "wants an address and a lifetime of an allocation", %{client: client, server: server} do
    full = [
      xor_relayed_address: {{192, 0, 2, 1}, 50_000},
      xor_mapped_address: {{192, 0, 2, 2}, 1},
      lifetime: 600,
      reservation_token: "12345678"
    ]

    serve(server, [
      &reply(&1, :success, full),
      &reply(&1, :success, lifetime: 600)
    ])

    assert {:ok, allocation, client} = Client.allocate(client, even_port: true)

    assert allocation == %{
             relayed: {{192, 0, 2, 1}, 50_000},
             mapped: {{192, 0, 2, 2}, 1},
             lifetime: 600,
             token: "12345678"
           }

    assert {:error, :bad_answer, _} = Client.allocate(client)
  end

  test "receives what was relayed, and nothing else", %{client: client, server: server} do
    {ip, port} = Client.local(client)
    peer = {{192, 0, 2, 1}, 7}

    data = fn attributes ->
      Stun.encode(Stun.new(:indication, :data, [{:xor_peer_address, peer} | attributes]))
    end

    for packet <- [
          "rubbish",
          <<0x5000::16, 0::16>>,
          Stun.encode(Stun.new(:success, :binding)),
          Stun.encode(Stun.new(:indication, :data, data: "no peer")),
          data.(data: "one"),
          ChannelData.encode(0x4001, "two"),
          data.(icmp: {3, 3, 0})
        ],
        do: :ok = :gen_udp.send(server, ip, port, packet)

    assert Client.recv(client, 1_000) == {:ok, {:data, peer, "one"}}
    assert Client.recv(client, 1_000) == {:ok, {:channel, 0x4001, "two"}}
    assert Client.recv(client, 1_000) == {:ok, {:icmp, peer, {3, 3, 0}}}
    assert Client.recv(client, 10) == {:error, :timeout}
  end

  test "sends to addresses and to channels", %{client: client, server: server} do
    assert Client.send_to(client, {{192, 0, 2, 1}, 7}, "one") == :ok
    assert Client.send_to(client, 0x4001, "two") == :ok
    assert Client.send_packet(client, "raw") == :ok
    {_, packet} = peer_recv(server)
    assert {:ok, %Stun{class: :indication, method: :send} = message} = Stun.decode(packet)
    assert Stun.get(message, :xor_peer_address) == {{192, 0, 2, 1}, 7}
    assert Stun.get(message, :data) == "one"
    assert {_, frame} = peer_recv(server)
    assert ChannelData.decode(frame) == {:ok, {0x4001, "two"}}
    assert {_, "raw"} = peer_recv(server)
  end
end
