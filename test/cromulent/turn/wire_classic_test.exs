defmodule Cromulent.Turn.WireClassicTest do
  # Messages of RFC 3489, which have no magic cookie (RFC 5389 §12.2, RFC 8489 §11), as they are on the wire.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{Certificates, Client, Relay, Stun}

  @id "sixteen byte id."

  defp message(type, attributes \\ ""),
    do: <<type::16, byte_size(attributes)::16, @id::binary, attributes::binary>>

  defp change(flags), do: <<0x0003::16, 4::16, flags::32>>

  defp ask(%{transport: :udp, socket: socket} = client, message) do
    :ok = Client.send_packet(client, message)
    assert_receive {:udp, ^socket, _, _, answer}, 5_000
    answer
  end

  defp ask(%{socket: socket} = client, message) do
    :ok = Client.send_packet(client, message)
    assert_receive {:frame, ^socket, answer}, 5_000
    answer
  end

  # {type, attributes as {type, value}}; all lengths are multiples of four, as RFC 3489 has them.
  defp read(<<type::16, length::16, @id::binary, attributes::binary-size(length)>>),
    do: {type, attributes(attributes)}

  defp attributes(""), do: []

  defp attributes(<<type::16, length::16, value::binary-size(length), rest::binary>>) do
    padding = rem(4 - rem(length, 4), 4)
    <<_::binary-size(padding), rest::binary>> = rest
    [{type, value} | attributes(rest)]
  end

  test "a Binding request is answered with its id and MAPPED-ADDRESS" do
    relay = start_relay(classic_stun: true)

    for {address, family} <- [{relay.address, 1}, {relay.address6, 2}] do
      client = client(relay, address: address)
      {ip, port} = Client.local(client)
      ip = if family == 1, do: ip |> Tuple.to_list() |> :binary.list_to_bin(), else: <<1::128>>

      for attributes <- ["", change(0)] do
        {type, attributes} = client |> ask(message(0x0001, attributes)) |> read()
        assert type == 0x0101
        assert {0x0001, <<0, family, port::16, ip::binary>>} in attributes
        refute List.keymember?(attributes, 0x0020, 0)
      end
    end
  end

  test "what is not served is unknown" do
    client = client(start_relay(classic_stun: true))
    response_address = <<0x0002::16, 8::16, 0, 1, 5000::16, 192, 0, 2, 1>>

    for {attributes, unknown} <- [
          {response_address, <<2::16, 2::16>>},
          {change(6), <<3::16, 3::16>>},
          {response_address <> change(2), <<2::16, 3::16>>}
        ] do
      {type, answer} = client |> ask(message(0x0001, attributes)) |> read()
      assert type == 0x0111
      assert {_, <<0, 0, 4, 20, "Unknown Attribute">>} = List.keyfind(answer, 0x0009, 0)
      assert {0x000A, unknown} in answer
    end
  end

  test "it is off by default, and never for TURN" do
    client = client(start_relay())
    assert_dropped(client, message(0x0001))
    relay = start_relay(classic_stun: true)
    client = client(relay)

    for type <- [0x0003, 0x0004, 0x0008, 0x0009, 0x0011],
        do: assert_dropped(client, message(type))

    # What has the cookie is served as ever.
    assert {:ok, mapped} = Client.binding(client)
    assert mapped == Client.local(client)
    assert {:ok, _, _} = Client.allocate(client)
  end

  test "it is turned on and off while the relay runs" do
    relay = start_relay()
    client = client(relay)
    assert Relay.configure([classic_stun: true], relay.pid) == :ok
    assert {0x0101, _} = client |> ask(message(0x0001)) |> read()
    assert Relay.configure([classic_stun: false], relay.pid) == :ok
    assert_dropped(client, message(0x0001))
  end

  @tag :tmp_dir
  test "over DTLS requests are told 500, and indications nothing", %{tmp_dir: dir} do
    {cert, key} = Certificates.files(Certificates.make(), dir)
    relay = start_relay(listen: ["dtls:127.0.0.1:0"], cert: cert, key: key)
    %{socket: socket} = client = client(relay, transport: :dtls)

    for type <- [0x0001, 0x0003, 0x0004] do
      {answer, attributes} = client |> ask(message(type)) |> read()
      assert answer == type + 0x0110
      assert {_, <<0, 0, 5, 0, "Server Error">>} = List.keyfind(attributes, 0x0009, 0)
    end

    :ok = Client.send_packet(client, message(0x0011))
    assert {:ok, _} = Client.binding(client)
    refute_received {:frame, ^socket, _}
    assert {:ok, _, _} = Client.allocate(client)
  end

  # RFC 7982 §3.3; this server keeps no count of its own.
  test "a transmit counter comes back" do
    client = client(start_relay())
    asked = Stun.new(:request, :binding, transaction_transmit_counter: 0x0300)
    assert {:ok, answer, _} = Client.transact(client, asked)
    assert Stun.get(answer, :transaction_transmit_counter) == 0x0300
    assert {:ok, answer, _} = Client.transact(client, Stun.new(:request, :binding))
    assert Stun.get(answer, :transaction_transmit_counter) == nil
  end
end
