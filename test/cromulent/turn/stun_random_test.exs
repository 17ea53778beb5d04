unless Code.ensure_loaded?(Cromulent.Turn.Bench.PlainStun),
  do: Code.require_file("../../../bench/plain_stun.ex", __DIR__)

defmodule Cromulent.Turn.StunRandomTest do
  # The codec under random messages and bytes, beside a plain decoder, and under load.
  use ExUnit.Case, async: true

  import Bitwise
  import Cromulent.Turn.StunSamples

  alias Cromulent.Turn.Bench.PlainStun
  alias Cromulent.Turn.Stun
  alias Cromulent.Turn.Vectors

  @samples samples()
  @integrity [:message_integrity, :message_integrity_sha256, :fingerprint]

  describe "randomised, with the seed" do
    # Override to look for others: STUN_TEST_SEED=... mix test
    @seed String.to_integer(System.get_env("STUN_TEST_SEED", "8489"))

    test "#{@seed}: encode and decode are inverse" do
      :rand.seed(:exsss, @seed)

      for _ <- 1..3_000 do
        message = random_message()
        packet = Stun.encode(message)
        assert Stun.decode(packet) == {:ok, message}
        assert PlainStun.decode(packet) == {:ok, message}
        signed = Stun.encode(message, integrity: {:sha1, "k"}, fingerprint: true)
        assert Stun.verify(signed, "k", :sha1) == :ok
        assert {:ok, decoded} = Stun.decode(signed)
        assert Stun.encode(decoded) == signed
        assert PlainStun.decode(signed) == {:ok, decoded}
      end
    end

    test "#{@seed}: whatever the bytes, the plain decoder says the same" do
      :rand.seed(:exsss, @seed)
      good = for record <- Vectors.records("messages.txt"), do: Vectors.bytes(record)
      good = List.to_tuple(good ++ for(_ <- 1..100, do: Stun.encode(random_message())))

      outcomes =
        for _ <- 1..20_000, reduce: %{} do
          outcomes ->
            packet = mutate(elem(good, :rand.uniform(tuple_size(good)) - 1))
            decoded = Stun.decode(packet)
            assert {packet, decoded} == {packet, PlainStun.decode(packet)}
            assert Stun.verify(packet, "no such key", :sha1) != :ok
            with {:ok, message} <- decoded, do: Stun.encode(message)

            outcome =
              with {:error, {reason, at}} when at <= byte_size(packet) <- decoded, do: reason

            Map.update(outcomes, if(is_atom(outcome), do: outcome, else: :ok), 1, &(&1 + 1))
        end

      # The mutations reach every answer there is.
      assert outcomes |> Map.keys() |> Enum.sort() ==
               [:attribute_overrun, :bad_cookie, :bad_fingerprint, :bad_length, :bad_value] ++
                 [:fingerprint_not_last, :not_stun, :ok, :truncated]
    end

    test "#{@seed}: random bytes" do
      :rand.seed(:exsss, @seed)

      for _ <- 1..5_000 do
        body = :rand.bytes(4 * :rand.uniform(30))

        packet =
          <<0::2, :rand.uniform(0x4000) - 1::14, byte_size(body)::16, 0x2112A442::32,
            :rand.bytes(12)::binary, body::binary>>

        assert {packet, Stun.decode(packet)} == {packet, PlainStun.decode(packet)}
      end
    end
  end

  test "many processes at once, and large packets among them" do
    big =
      Stun.encode(message(data: :binary.copy("x", 60_000)),
        integrity: {:sha256, "k"},
        fingerprint: true
      )

    1..100
    |> Task.async_stream(
      fn n ->
        for i <- 1..100 do
          message =
            message(username: "user #{n}", lifetime: i, xor_peer_address: {{n, i, 0, 1}, n * i})

          packet = Stun.encode(message, integrity: {:sha1, "key #{n}"}, fingerprint: true)
          assert Stun.verify(packet, "key #{n}", :sha1) == :ok

          assert {:ok,
                  %{
                    attributes:
                      [username: _, lifetime: ^i, xor_peer_address: {{^n, ^i, 0, 1}, _}] ++ _
                  }} = Stun.decode(packet)
        end

        assert {:ok, %{attributes: [{:data, <<"xxx", _::binary>>} | _]}} = Stun.decode(big)
        assert Stun.verify(big, "k", :sha256) == :ok
      end,
      max_concurrency: 50,
      timeout: 60_000
    )
    |> Enum.each(&assert match?({:ok, _}, &1))
  end

  test "the longest packet of all leaves the scheduler alone" do
    packet = Stun.encode(message(List.duplicate({:dont_fragment, true}, 16_383)))
    assert {:ok, %{attributes: attributes}} = Stun.decode(packet)
    assert length(attributes) == 16_383
  end

  # ---- helpers ----

  defp random_message do
    %Stun{
      class: Enum.random([:request, :indication, :success, :error]),
      method: Enum.random([:binding, :allocate, :goog_ping, 0x000, 0x00D, 0x7FF, 0xFFF]),
      transaction_id: :rand.bytes(12),
      attributes: for(_ <- 1..:rand.uniform(8), do: random_attribute())
    }
  end

  defp random_attribute do
    {name, sample} = Enum.random(Keyword.drop(@samples, @integrity))
    {name, vary(name, sample)}
  end

  # Another value of the same form.
  defp vary(name, value) when name in [:userhash, :reservation_token],
    do: :rand.bytes(byte_size(value))

  defp vary(_name, value) when is_binary(value), do: :rand.bytes(:rand.uniform(90) - 1)
  defp vary(:ice_controlled, _), do: :binary.decode_unsigned(:rand.bytes(8))
  defp vary(:channel_number, _), do: :rand.uniform(0x10000) - 1
  defp vary(:response_port, _), do: :rand.uniform(0x10000) - 1
  defp vary(_name, value) when is_integer(value), do: :rand.uniform(0x100000000) - 1
  defp vary(:even_port, _), do: :rand.uniform(2) == 1
  defp vary(:error_code, _), do: {299 + :rand.uniform(400), :rand.bytes(:rand.uniform(20))}

  defp vary(:unknown_attributes, _),
    do: for(_ <- 1..:rand.uniform(9), do: :rand.uniform(0x10000) - 1)

  defp vary(_name, {ip, _port}) when tuple_size(ip) in [4, 8] do
    ip =
      Enum.random([
        for(<<part::8 <- :rand.bytes(4)>>, do: part),
        for(<<part::16 <- :rand.bytes(16)>>, do: part)
      ])

    {List.to_tuple(ip), :rand.uniform(0x10000) - 1}
  end

  defp vary(_name, value), do: value

  # One to three changes: a byte, a cut, an insertion, a length field, a whole attribute twice.
  defp mutate(packet),
    do:
      Enum.reduce(1..:rand.uniform(3), packet, fn _, packet ->
        mutate(packet, :rand.uniform(8))
      end)

  defp mutate(packet, _) when byte_size(packet) < 8, do: packet <> :rand.bytes(4)

  defp mutate(packet, 1),
    do: put_byte(packet, random_at(packet), fn _ -> :rand.uniform(256) - 1 end)

  defp mutate(packet, 2),
    do: put_byte(packet, random_at(packet), &bxor(&1, 1 <<< (:rand.uniform(8) - 1)))

  defp mutate(packet, 3),
    do:
      put_byte(
        packet,
        min(:rand.uniform(8) - 1, random_at(packet)),
        &bxor(&1, 1 <<< (:rand.uniform(8) - 1))
      )

  defp mutate(packet, 4), do: binary_part(packet, 0, random_at(packet))
  defp mutate(packet, 5), do: packet <> :rand.bytes(:rand.uniform(8))

  # These keep the header's length right, so that attributes are looked at.
  defp mutate(packet, 6),
    do:
      put_length(
        packet <> <<Enum.random([0x0008, 0x001C, 0x8028, 0x000D, 0x7F00])::16, 4::16, 0::32>>
      )

  defp mutate(packet, 7), do: put_length(binary_part(packet, 0, band(random_at(packet), 0xFFFC)))

  defp mutate(packet, 8) do
    at = band(random_at(packet), 0xFFFC)
    <<head::binary-size(at), tail::binary>> = packet
    put_length(<<head::binary, :rand.bytes(4)::binary, tail::binary>>)
  end

  defp put_length(<<type::16, _::16, rest::binary>>) when byte_size(rest) >= 16,
    do: <<type::16, byte_size(rest) - 16::16, rest::binary>>

  defp put_length(packet), do: packet

  defp random_at(packet), do: :rand.uniform(byte_size(packet)) - 1
end
