defmodule Cromulent.Turn.WireFamilyTest do
  # Address families as a client sees them: dual allocations, and IPv4 and IPv6 on either side of the relay.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Client, Relay, Stun}

  @udp {:requested_transport, :udp}
  @both [@udp, {:additional_address_family, :ipv6}]
  @v6 {0, 0, 0, 0, 0, 0, 0, 1}

  defp relayed(answer),
    do: for({:xor_relayed_address, address} <- answer.attributes, do: address)

  defp dual(relay) do
    client = challenged(relay)
    {answer, _} = once(client, :allocate, @both)
    assert code(answer) == 200
    assert [{{127, 0, 0, 1}, _}, {@v6, _}] = addresses = relayed(answer)
    {client, addresses}
  end

  # To a peer and back, by way of that relayed address.
  defp pass(client, {ip, port} = relayed, {socket, peer}) do
    :ok = Client.send_to(client, peer, "up")
    assert peer_recv(socket) == {relayed, "up"}
    :ok = :gen_udp.send(socket, ip, port, "down")
    assert Client.recv(client, 2_000) == {:ok, {:data, peer, "down"}}
  end

  describe "a dual allocation" do
    test "relays in both families at once" do
      relay = start_relay()
      {client, [v4, v6]} = dual(relay)
      {_, peer4} = four = peer()
      {_, peer6} = six = peer(@v6)
      {:ok, client} = Client.permit(client, [peer4, peer6])
      pass(client, v4, four)
      pass(client, v6, six)
      assert {:ok, [one]} = Relay.list(10, relay.pid)

      assert {one.relayed, one.also_relayed} ==
               {"127.0.0.1:#{elem(v4, 1)}", "[::1]:#{elem(v6, 1)}"}
    end

    test "goes on with the family that is left" do
      relay = start_relay()
      {client, [v4, v6]} = dual(relay)
      {_, peer4} = peer()
      {_, peer6} = six = peer(@v6)
      {:ok, client} = Client.permit(client, [peer4, peer6])
      drop4 = [requested_address_family: :ipv4, lifetime: 0]
      assert request_code(client, :refresh, drop4) == 200
      assert request_code(client, :refresh, drop4) == 443
      assert request_code(client, :create_permission, xor_peer_address: peer4) == 443
      pass(client, v6, six)
      # the port of the one that went is free again
      assert {:ok, socket} = :gen_udp.open(elem(v4, 1), [:binary, :inet, ip: {127, 0, 0, 1}])
      :gen_udp.close(socket)
      assert {:ok, 0, client} = Client.refresh(client, 0)
      assert request_code(client, :refresh, []) == 437
    end

    test "is what can be had, and says why it is not all" do
      client = challenged(start_relay(relay_ip: ["127.0.0.1"]))
      {answer, _} = once(client, :allocate, @both)
      assert [{{127, 0, 0, 1}, _}] = relayed(answer)
      assert {:ipv6, 440, _text} = Stun.get(answer, :address_error_code)
    end

    test "cannot be asked for in other ways" do
      relay = start_relay()

      for more <- [
            [additional_address_family: :ipv4],
            [additional_address_family: :ipv6, requested_address_family: :ipv6],
            [additional_address_family: :ipv6, even_port: true]
          ],
          do: assert(allocate_code(relay, [@udp | more]) == 400)
    end
  end

  describe "a client of one family" do
    test "gets an address of the other" do
      relay = start_relay()

      for {address, family, ip} <- [
            {relay.address, :ipv6, @v6},
            {relay.address6, :ipv4, {127, 0, 0, 1}}
          ] do
        {_, peer} = socket = peer(ip)
        attributes = [requested_address_family: family]
        {client, {^ip, _} = relayed} = allocated(relay, address: address, attributes: attributes)
        {:ok, client} = Client.permit(client, [peer])
        pass(client, relayed, socket)
      end
    end
  end
end
