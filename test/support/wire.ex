defmodule Cromulent.Turn.Wire do
  @moduledoc false
  # What the tests of the wire share: requests as they are, without a second try, and drops made visible.

  import Cromulent.Turn.Helpers
  import ExUnit.Assertions

  alias Cromulent.Turn.{Client, Stun}

  @udp {:requested_transport, :udp}

  # Packets of one client are worked on in their order: if the answer to a Binding comes and nothing
  # before it, there will be no answer.
  def assert_dropped(client, packet) do
    :ok = Client.send_packet(client, packet)
    assert {:ok, _} = Client.binding(client)
    socket = client.socket
    refute_received {:udp, ^socket, _, _, _}
  end

  # A challenged client: it knows realm, nonce and key.
  def challenged(relay, opts \\ []) do
    client = client(relay, opts)
    {:ok, answer, _} = Client.transact(client, Stun.new(:request, :allocate, [@udp]))
    Client.learn(client, answer)
  end

  # One request as it is, without any second try: the answer and its packet.
  def once(client, method, attributes) do
    {message, opts} = Client.prepare(client, method, attributes)
    {:ok, answer, packet} = Client.transact(client, message, opts)
    {answer, packet}
  end

  def code(%Stun{class: :error} = answer), do: answer |> Stun.get(:error_code) |> elem(0)
  def code(%Stun{class: :success}), do: 200

  def request_code(client, method, attributes) do
    {answer, packet} = once(client, method, attributes)
    # RFC 8489 §9.2.4: after authentication every answer is protected, errors too.
    if code(answer) not in [401, 438],
      do: assert(Stun.verify(packet, client.key, client.integrity) == :ok)

    code(answer)
  end

  def allocate_code(relay, attributes),
    do: request_code(challenged(relay), :allocate, attributes)

  # Two datagrams in one order: the second one coming alone shows that the first was dropped.
  def refute_relayed(socket, send_marker) do
    send_marker.()
    assert {_, "marker"} = peer_recv(socket)
  end
end
