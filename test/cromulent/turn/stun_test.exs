unless Code.ensure_loaded?(Cromulent.Turn.Bench.PlainStun),
  do: Code.require_file("../../../bench/plain_stun.ex", __DIR__)

defmodule Cromulent.Turn.StunTest do
  use ExUnit.Case, async: true

  import Bitwise
  import Cromulent.Turn.StunSamples

  alias Cromulent.Turn.Bench.PlainStun
  alias Cromulent.Turn.Credentials
  alias Cromulent.Turn.Stun
  alias Cromulent.Turn.Vectors

  doctest Stun

  @samples samples()
  @integrity [:message_integrity, :message_integrity_sha256, :fingerprint]

  describe "messages.txt" do
    for record <- Vectors.records("messages.txt") do
      @record record
      test Vectors.name(record), do: check_message(@record)
    end
  end

  describe "malformed.txt" do
    for record <- Vectors.records("malformed.txt") do
      @record record
      test Vectors.name(record), do: check_malformed(@record)
    end
  end

  test "types.txt" do
    for ["type", method, request, indication, success, error, name] <- Vectors.lines("types.txt") do
      method = if name == "-", do: Vectors.number(method), else: String.to_existing_atom(name)
      # libwebrtc's, in private use
      method = if method == 0x080, do: :goog_ping, else: method
      types = [request: request, indication: indication, success: success, error: error]

      for {class, type} <- types do
        message = %{message([]) | class: class, method: method}
        packet = Stun.encode(message)
        assert binary_part(packet, 0, 2) == <<Vectors.number(type)::16>>
        assert Stun.decode(packet) == {:ok, message}
      end
    end
  end

  test "addresses.txt" do
    [["tid", tid] | lines] = Vectors.lines("addresses.txt")

    for ["xor_address", address, value] <- lines do
      value = Vectors.hex(value)
      message = message(xor_mapped_address: Vectors.address(address))
      message = %{message | transaction_id: Vectors.hex(tid)}
      packet = Stun.encode(message)
      assert <<_::160, 0x0020::16, _::16, ^value::binary>> = packet
      assert Stun.decode(packet) == {:ok, message}
    end
  end

  # Header, attributes, values, integrity and FINGERPRINT as the record says; then back.
  defp check_message(record) do
    packet = Vectors.bytes(record)
    assert {:ok, %Stun{ignored: []} = message} = Stun.decode(packet)
    assert PlainStun.decode(packet) == {:ok, message}
    [[_type, method, class]] = Vectors.all(record, "type")
    assert to_string(message.class) == class
    assert to_string(message.method) == method
    assert [[Base.encode16(message.transaction_id, case: :lower)]] == Vectors.all(record, "tid")

    attrs = Vectors.all(record, "attr")
    types = for [_offset, type | _] <- attrs, do: Vectors.number(type)
    assert Enum.map(message.attributes, fn {name, _} -> type_of(name) end) == types

    values =
      Enum.zip(for([at | _] <- attrs, do: at), Keyword.values(message.attributes)) |> Map.new()

    for [at, address] <- Vectors.all(record, "addr"),
        do: assert(values[at] == Vectors.address(address))

    for [at, number] <- Vectors.all(record, "u32"),
        do: assert(values[at] == Vectors.number(number))

    for [at | words] <- Vectors.all(record, "text"),
        do: assert(values[at] == Enum.join(words, " "))

    for [at, code | words] <- Vectors.all(record, "error"),
        do: assert(values[at] == {Vectors.number(code), Enum.join(words, " ")})

    for [fingerprint] <- Vectors.all(record, "fingerprint") do
      assert <<Stun.get(message, :fingerprint)::32>> == Vectors.hex(fingerprint)
    end

    keys =
      for [hash, key] <- Vectors.all(record, "integrity"),
          do: {String.to_existing_atom(hash), Vectors.hex(key)}

    for {hash, key} <- keys, do: check_integrity(packet, hash, key)

    if Enum.all?(attrs, fn [_, _, _, _, padding] -> padding =~ ~r/^(-|0*)$/ end) do
      assert Stun.encode(message) == packet
      fingerprint? = Stun.get(message, :fingerprint) != nil
      assert Stun.encode(message, integrity: keys, fingerprint: fingerprint?) == packet
    end
  end

  defp check_integrity(packet, hash, key) do
    assert Stun.verify(packet, key, hash) == :ok
    assert {:error, {:bad_integrity, at}} = Stun.verify(packet, key <> "x", hash)
    name = if hash == :sha1, do: :message_integrity, else: :message_integrity_sha256
    {:ok, message} = Stun.decode(packet)
    value = Stun.get(message, name)
    assert binary_part(packet, at, byte_size(value)) == value
  end

  defp check_malformed(record) do
    packet = Vectors.bytes(record)
    assert Stun.decode(packet) == PlainStun.decode(packet)

    for words <- Vectors.all(record, "decode") do
      case words do
        [reason, at] ->
          assert Stun.decode(packet) ==
                   {:error, {String.to_existing_atom(reason), Vectors.number(at)}}

        ["ok"] ->
          check_odd(record, packet, Stun.decode(packet))
      end
    end

    for [reason] <- Vectors.all(record, "channel_data") do
      assert {:error, {found, _at}} = Cromulent.Turn.ChannelData.decode(packet)
      assert to_string(found) == reason
    end
  end

  # The form is sound; what is odd is in the attributes.
  defp check_odd(record, _packet, {:ok, message}) do
    assert Vectors.all(record, "value") == []

    for [type] <- Vectors.all(record, "unknown"),
        do: assert(Stun.get(message, Vectors.number(type)) == "")

    for [type] <- Vectors.all(record, "ignored") do
      assert [{name, _bytes}] = message.ignored
      assert type_of(name) == Vectors.number(type)
      assert Stun.get(message, name) == nil
    end

    for [hash, "ok", key] <- Vectors.all(record, "integrity") do
      assert Stun.verify(
               Stun.encode(message) <> "",
               Vectors.hex(key),
               String.to_existing_atom(hash)
             ) == :ok
    end
  end

  defp check_odd(record, packet, {:error, {:bad_value, at}}) do
    <<_::binary-size(at - 4), type::16, _::binary>> = packet
    bad = for [type, "bad_value"] <- Vectors.all(record, "value"), do: Vectors.number(type)

    short =
      for [hash, "bad_value"] <- Vectors.all(record, "integrity"),
          do: %{"sha1" => 0x0008, "sha256" => 0x001C}[hash]

    assert [type] == bad ++ short

    for [hash, "bad_value"] <- Vectors.all(record, "integrity"),
        do:
          assert(
            Stun.verify(packet, "any key", String.to_existing_atom(hash)) ==
              {:error, {:bad_value, at}}
          )
  end

  describe "attributes" do
    test "have one form each, there and back" do
      for {name, value} <- @samples, name != :fingerprint do
        message = message([{name, value}])
        packet = Stun.encode(message)
        assert {:ok, ^message} = Stun.decode(packet)
        assert PlainStun.decode(packet) == {:ok, message}
      end
    end

    test "are all in the documentation, with the types that are on the wire" do
      {:docs_v1, _, _, _, %{"en" => doc}, _, _} = Code.fetch_docs(Stun)
      rows = Regex.scan(~r/^\| `:(\w+)` \| `0x([0-9A-F]{4})` \|/m, doc, capture: :all_but_first)

      documented =
        for [name, type] <- rows, do: {String.to_atom(name), String.to_integer(type, 16)}

      assert documented == for({name, _} <- @samples, do: {name, type_of(name)})
    end

    test "take all the values of their form" do
      for attribute <- [
            change_request: [],
            change_request: [:ip],
            change_request: [:port],
            unknown_attributes: [],
            unknown_attributes: [0xFFFF],
            requested_address_family: 0,
            requested_address_family: 255,
            requested_transport: :tcp,
            requested_transport: 0,
            even_port: false,
            password_algorithm: {:md5, ""},
            password_algorithm: {0xFFFF, "abcde"},
            password_algorithms: [],
            address_error_code: {3, 508, ""},
            error_code: {300, ""},
            error_code: {699, :binary.copy("r", 763)},
            icmp: {255, 255, 0xFFFFFFFF},
            data: :crypto.strong_rand_bytes(65_000),
            username: :binary.copy("u", 763),
            message_integrity_sha256: :binary.copy(<<1>>, 16)
          ] do
        message = message([attribute])
        assert Stun.decode(Stun.encode(message)) == {:ok, message}
      end
    end

    test "unknown ones are numbers and bytes" do
      message = message([{0x7F00, ""}, {0xFFFF, "abcde"}, {0x0000, "x"}, {0x8020, "old"}])
      assert Stun.decode(Stun.encode(message)) == {:ok, message}
      # Known ones may be written so too.
      assert {:ok, decoded} = Stun.decode(Stun.encode(message([{0x000D, <<600::32>>}])))
      assert decoded.attributes == [lifetime: 600]

      assert Stun.decode(Stun.encode(message([{0x000D, <<600::16>>}]))) ==
               {:error, {:bad_value, 24}}
    end

    test "bits that mean nothing are not looked at" do
      for {type, bytes, attribute} <- [
            {0x000C, <<0x4000::16, 0xABCD::16>>, {:channel_number, 0x4000}},
            {0x0017, <<1, 9, 9, 9>>, {:requested_address_family, :ipv4}},
            {0x0019, <<17, 9, 9, 9>>, {:requested_transport, :udp}},
            {0x0018, <<0x7F>>, {:even_port, false}},
            {0x0018, <<0xFF>>, {:even_port, true}},
            {0x0003, <<0xFFFFFFF9::32>>, {:change_request, []}},
            {0x0001, <<9, 1, 80::16, 1, 2, 3, 4>>, {:mapped_address, {{1, 2, 3, 4}, 80}}},
            {0x0009, <<0xFFFF::16, 0xFC, 0, "">>, {:error_code, {400, ""}}},
            {0x8001, <<1, 0xFF, 0xFB, 99, "x">>, {:address_error_code, {:ipv4, 399, "x"}}},
            {0x8004, <<0xFFFF::16, 3, 4, 5::32>>, {:icmp, {3, 4, 5}}},
            {0x0027, <<80::16>>, {:response_port, 80}},
            {0x001D, <<7::16, 1::16, "a", 9, 9, 9>>, {:password_algorithm, {7, "a"}}},
            {0x8002, <<7::16, 1::16, "a">>, {:password_algorithms, [{7, "a"}]}}
          ] do
        packet = Stun.encode(message([{type, bytes}]))
        assert {:ok, %{attributes: [^attribute]} = decoded} = Stun.decode(packet)
        assert PlainStun.decode(packet) == {:ok, decoded}
      end
    end

    test "values that break their form are refused, where they stand" do
      for {type, bytes} <- [
            {0x0001, <<0, 3, 0::16, 0::32>>},
            {0x0001, <<0, 1, 0::16, 0::128>>},
            {0x0020, <<0, 2, 0::16, 0::32>>},
            {0x0020, <<0, 1, 0::16, 0::64>>},
            {0x0009, <<0, 0, 2, 0>>},
            {0x0009, <<0, 0, 7, 0>>},
            {0x0009, <<0, 0, 4, 100>>},
            {0x0009, <<0, 0, 4>>},
            {0x8001, <<1, 0, 2, 0>>},
            {0x000A, <<1, 2, 3>>},
            {0x0006, :binary.copy("u", 764)},
            {0x000D, <<0::24>>},
            {0x0018, ""},
            {0x001A, "x"},
            {0x001C, :binary.copy(<<0>>, 30)},
            {0x001C, :binary.copy(<<0>>, 36)},
            {0x001D, <<1::16, 1::16>>},
            {0x001D, <<1::16, 0::16, 2::16, 0::16>>},
            {0x8002, <<1::16, 0::16, 2::16>>},
            {0x8002, <<1::16, 5::16, "abcd">>},
            {0x001E, :binary.copy(<<0>>, 31)},
            {0x0027, <<0::24>>},
            {0x8004, <<0::56>>},
            {0x8029, <<0::32>>}
          ] do
        packet = Stun.encode(message([{0xFF00, "abc"}, {type, bytes}]))
        assert {type, Stun.decode(packet)} == {type, {:error, {:bad_value, 32}}}
        assert PlainStun.decode(packet) == Stun.decode(packet)
      end
    end

    test "behind MESSAGE-INTEGRITY only the integrity attributes and FINGERPRINT count" do
      mi = {:message_integrity, :binary.copy(<<1>>, 20)}
      mi256 = {:message_integrity_sha256, :binary.copy(<<2>>, 32)}
      late = {0x000D, <<0, 0, 14, 16>>}
      odd = {0x7F00, "abc"}
      lifetime = {:lifetime, <<0, 0, 14, 16>>}

      for {list, attributes, ignored} <- [
            {[mi, late], [mi], [lifetime]},
            {[mi, late, mi256, odd], [mi, mi256], [lifetime, odd]},
            {[mi256, late, odd], [mi256], [lifetime, odd]},
            {[mi256, mi], [mi256], [message_integrity: elem(mi, 1)]},
            {[mi, mi], [mi], [mi]},
            {[mi, mi256, mi256], [mi, mi256], [mi256]},
            # Broken values do no harm there.
            {[mi, {0x000D, "x"}], [mi], [lifetime: "x"]}
          ] do
        packet = Stun.encode(message(list), fingerprint: true)
        assert {:ok, message} = Stun.decode(packet)
        assert [{:fingerprint, _} | rest] = Enum.reverse(message.attributes)
        assert Enum.reverse(rest) == attributes
        assert message.ignored == ignored
        assert Stun.get(message, :lifetime) == nil
        assert PlainStun.decode(packet) == {:ok, message}
      end
    end

    test "get/3 and get_all/2" do
      message = message([{:lifetime, 700}, {0xFF00, "a"}, {:lifetime, 900}, {:data, ""}])
      assert Stun.get(message, :lifetime) == 700
      assert Stun.get(message, 0xFF00) == "a"
      assert Stun.get(message, :data) == ""
      assert Stun.get(message, :realm) == nil
      assert Stun.get(message, :realm, "none") == "none"
      assert Stun.get_all(message, :lifetime) == [700, 900]
      assert Stun.get_all(message, :realm) == []
    end
  end

  describe "encode/2" do
    test "computes integrity and FINGERPRINT, in place of old ones" do
      key = Credentials.key("George", "example.com", "secret-password", :sha256)
      message = message(username: "George")

      for integrity <- [[], [{:sha1, key}], [{:sha256, key}], [{:sha1, key}, {:sha256, key}]],
          fingerprint <- [false, true] do
        packet = Stun.encode(message, integrity: integrity, fingerprint: fingerprint)
        assert {:ok, decoded} = Stun.decode(packet)
        for {hash, key} <- integrity, do: assert(Stun.verify(packet, key, hash) == :ok)
        assert Stun.get(decoded, :fingerprint) != nil == fingerprint
        changed = %{decoded | attributes: [{:software, "x"} | decoded.attributes]}
        again = Stun.encode(changed, integrity: [{:sha1, "k"}], fingerprint: true)
        assert Stun.verify(again, "k", :sha1) == :ok

        assert {:ok,
                %{
                  attributes: [
                    software: "x",
                    username: "George",
                    message_integrity: _,
                    fingerprint: _
                  ]
                }} = Stun.decode(again)
      end
    end

    test "takes one integrity without a list, and keys of every length" do
      for size <- [0, 1, 16, 20, 32, 63, 64, 65, 256, 1024], hash <- [:sha1, :sha256] do
        key = :crypto.strong_rand_bytes(size)
        packet = Stun.encode(message(data: "abc"), integrity: {hash, key})
        assert Stun.verify(packet, key, hash) == :ok

        {name, size} =
          if hash == :sha1, do: {:message_integrity, 20}, else: {:message_integrity_sha256, 32}

        {:ok, decoded} = Stun.decode(packet)
        covered = binary_part(packet, 0, byte_size(packet) - size - 4)
        hash = if hash == :sha1, do: :sha, else: :sha256
        assert Stun.get(decoded, name) == :crypto.mac(:hmac, hash, key, covered)
      end
    end

    test "does not write what was ignored" do
      packet =
        Stun.encode(message([{:message_integrity, :binary.copy(<<1>>, 20)}, {:lifetime, 1}]))

      assert {:ok, %{ignored: [_]} = message} = Stun.decode(packet)
      assert {:ok, %{ignored: []}} = Stun.decode(Stun.encode(message))
    end

    test "writes messages up to the limit of the length field" do
      most = message([{0xFF00, :binary.copy("x", 32_760)}, {0xFF01, :binary.copy("y", 32_764)}])
      packet = Stun.encode(most)
      assert byte_size(packet) == 20 + 65_532
      assert Stun.decode(packet) == {:ok, most}

      signed =
        Stun.encode(message(data: :binary.copy("x", 65_000)),
          integrity: {:sha256, "k"},
          fingerprint: true
        )

      assert Stun.verify(signed, "k", :sha256) == :ok

      assert_raise ArgumentError, "the attributes take more than 65535 bytes", fn ->
        Stun.encode(message([{0xFF00, ""} | most.attributes]))
      end

      assert_raise ArgumentError, "the attributes take more than 65535 bytes", fn ->
        Stun.encode(most, fingerprint: true)
      end

      many = message(List.duplicate({:dont_fragment, true}, 16_383))
      assert Stun.decode(Stun.encode(many)) == {:ok, many}

      assert_raise ArgumentError, fn ->
        Stun.encode(message(List.duplicate({:use_candidate, true}, 16_384)))
      end
    end

    test "raises for wrong values, and says what would be right" do
      for {attribute, text} <- [
            {{:lifetime, -1}, ":lifetime: expected `0..0xFFFFFFFF`, got: -1"},
            {{:lifetime, 0x100000000}, ":lifetime: expected `0..0xFFFFFFFF`, got: 4294967296"},
            {{:lifetime, "600"}, ":lifetime: expected `0..0xFFFFFFFF`, got: a binary of 3 bytes"},
            {{:channel_number, 0x10000}, ":channel_number: expected `0..0xFFFF`"},
            {{:ice_controlled, 1 <<< 64}, ":ice_controlled: expected `0..0xFFFFFFFFFFFFFFFF`"},
            {{:username, :alice}, ":username: expected a binary"},
            {{:username, :binary.copy("u", 764)}, "got: a binary of 764 bytes"},
            {{:userhash, "short"}, ":userhash: expected a binary, got: a binary of 5 bytes"},
            {{:data, <<1::1>>}, ":data: expected a binary"},
            {{:dont_fragment, false}, ":dont_fragment: expected `true`"},
            {{:even_port, 1}, ":even_port: expected `true` or `false`"},
            {{:requested_transport, 256},
             ":requested_transport: expected `:udp`, `:tcp` or `0..255`"},
            {{:requested_address_family, :inet},
             "expected `:ipv4`, `:ipv6` or `0..255`, got: :inet"},
            {{:xor_peer_address, {{1, 2, 3, 256}, 1}}, "expected `{ip, port}`"},
            {{:xor_peer_address, {{1, 2, 3}, 1}}, "got: {{1, 2, 3}, 1}"},
            {{:xor_peer_address, {{0, 0, 0, 0, 0, 0, 0, 0x10000}, 1}}, "expected `{ip, port}`"},
            {{:xor_peer_address, {{1, 2, 3, 4}, 65_536}}, "expected `{ip, port}`"},
            {{:xor_peer_address, "1.2.3.4:5"}, "got: a binary of 9 bytes"},
            {{:error_code, {299, "x"}}, ":error_code: expected `{300..699, reason}`"},
            {{:error_code, {700, "x"}}, ":error_code"},
            {{:error_code, {400, :binary.copy("x", 764)}}, ":error_code"},
            {{:error_code, 400}, ":error_code"},
            {{:address_error_code, {400, "x"}}, ":address_error_code"},
            {{:unknown_attributes, [1 | 2]},
             ":unknown_attributes: expected a list of attribute types"},
            {{:unknown_attributes, [0x10000]}, ":unknown_attributes"},
            {{:password_algorithm, {:sha1, ""}}, ":password_algorithm"},
            {{:password_algorithms, {:md5, ""}}, ":password_algorithms: expected a list of"},
            {{:password_algorithms, [:md5]}, ":password_algorithms"},
            {{:icmp, {256, 0, 0}}, ":icmp"},
            {{:change_request, [:ip, :ip]},
             ":change_request: expected a list of `:ip` and `:port`"},
            {{:change_request, [:host]}, ":change_request"},
            {{:no_such_thing, 1}, ":no_such_thing: no such attribute"},
            {{0x10000, ""}, "of type 65536: expected {0..0xFFFF, binary}"},
            {{0xFF00, 1}, "of type 65280: expected {0..0xFFFF, binary}, got: {65280, 1}"},
            {:dont_fragment, "expected {name, value} or {type, binary}"}
          ] do
        error =
          assert_raise ArgumentError, fn ->
            Stun.encode(message([{:software, "x"}, attribute]))
          end

        assert error.message =~ "attribute 1, "
        assert error.message =~ text
      end

      for {change, text} <- [
            {%{class: :answer}, "expected class to be one of"},
            {%{method: :bind}, "expected method to be a known name or 0..0xFFF, got: :bind"},
            {%{method: 0x1000}, "expected method to be a known name or 0..0xFFF, got: 4096"},
            {%{transaction_id: "short"}, "expected transaction_id to be 12 bytes"},
            {%{attributes: %{}}, "expected attributes to be a list"},
            {%{attributes: [{:data, ""} | :x]}, "expected attributes to be a list"}
          ] do
        error = assert_raise ArgumentError, fn -> Stun.encode(Map.merge(message([]), change)) end
        assert error.message =~ text
      end
    end

    test "raises for wrong options, and shows no key" do
      for {opts, text} <- [
            {[integrity: {:md5, "hush"}],
             "expected the integrity algorithm to be :sha1 or :sha256"},
            {[integrity: {:sha1, :hush}], "expected key to be at most 1024 bytes"},
            {[integrity: {:sha1, :binary.copy("hush", 257)}],
             "expected key to be at most 1024 bytes"},
            {[integrity: "hush"], "expected integrity to be {:sha1 | :sha256, key}"},
            {[integrity: [{:sha1, "hush"} | "hush"]], "expected :integrity to be"},
            {[integrity: [{:sha1, "hush"}, :hush]], "expected integrity to be"},
            {[fingerprint: 1], "expected :fingerprint to be a boolean, got: 1"},
            {[key: "hush"], "unknown option :key, expected only :integrity and :fingerprint"},
            {:hush, "expected options to be a keyword list"}
          ] do
        error = assert_raise ArgumentError, fn -> Stun.encode(message([]), opts) end
        assert error.message =~ text
        refute error.message =~ "hush"
      end
    end
  end

  describe "verify/3" do
    test "says what is wrong, and where" do
      packet = Stun.encode(message(data: "abc"), integrity: {:sha1, "right"}, fingerprint: true)
      assert Stun.verify(packet, "right", :sha1) == :ok
      assert Stun.verify(packet, "wrong", :sha1) == {:error, {:bad_integrity, 32}}
      assert Stun.verify(packet, "right", :sha256) == {:error, {:missing, byte_size(packet)}}
      assert Stun.verify("", "right", :sha1) == {:error, {:truncated, 0}}
      broken = put_byte(packet, byte_size(packet) - 1, &bxor(&1, 1))
      assert {:error, {:bad_fingerprint, _}} = Stun.verify(broken, "right", :sha1)
    end

    test "covers every byte before it" do
      packet = Stun.encode(message(data: "abc", lifetime: 5), integrity: {:sha256, "key"})

      for at <- 20..(byte_size(packet) - 1), bit <- 0..7 do
        assert {:error, {reason, _}} =
                 packet |> put_byte(at, &bxor(&1, 1 <<< bit)) |> Stun.verify("key", :sha256)

        assert reason in [
                 :bad_integrity,
                 :missing,
                 :attribute_overrun,
                 :bad_value,
                 :fingerprint_not_last
               ]
      end
    end

    test "raises for wrong arguments, and shows no key" do
      for args <- [
            [:hush, "k", :sha1],
            ["", :hush, :sha1],
            ["", "hush", :md5],
            ["", :binary.copy("hush", 257), :sha1]
          ] do
        error = assert_raise ArgumentError, fn -> apply(Stun, :verify, args) end
        refute error.message =~ "hush"
      end
    end
  end

  test "decode/1 raises for what is no binary" do
    for packet <- [nil, :a, 1, [], ["abc"], <<1::7>>, {}] do
      assert_raise ArgumentError, fn -> Stun.decode(packet) end
    end
  end

  test "packets that are parts of larger binaries, and unaligned ones" do
    packet =
      Stun.encode(message(@samples |> Keyword.drop(@integrity)),
        integrity: {:sha1, "k"},
        fingerprint: true
      )

    expected = Stun.decode(packet)
    assert {:ok, _} = expected

    for shift <- 1..7 do
      <<_::size(shift), unaligned::binary-size(byte_size(packet)), _::bitstring>> =
        <<0::size(shift), packet::binary, 0::size(8 - shift)>>

      assert Stun.decode(unaligned) == expected
      assert Stun.verify(unaligned, "k", :sha1) == :ok
    end

    for skip <- 1..9 do
      <<_::binary-size(skip), part::binary-size(byte_size(packet)), _::binary>> =
        <<0::size(skip)-unit(8), packet::binary, "more">>

      assert Stun.decode(part) == expected
    end
  end
end
