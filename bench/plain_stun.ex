defmodule Cromulent.Turn.Bench.PlainStun do
  @moduledoc false
  # STUN decoding the way one writes it in plain Elixir: binary matching, function clauses made from
  # a table, `:erlang.crc32/1` for FINGERPRINT. It gives the very result of `Cromulent.Turn.Stun.decode/1`,
  # errors and offsets included, so it is both what the NIF is measured against and the independent
  # second opinion of the tests.

  import Bitwise

  alias Cromulent.Turn.Stun

  @cookie 0x2112A442
  @header_size 20
  @fingerprint 0x8028
  @sha1 0x0008
  @sha256 0x001C
  @integrity [@sha1, @sha256]

  @methods %{
    0x001 => :binding,
    0x003 => :allocate,
    0x004 => :refresh,
    0x006 => :send,
    0x007 => :data,
    0x008 => :create_permission,
    0x009 => :channel_bind,
    0x00A => :connect,
    0x00B => :connection_bind,
    0x00C => :connection_attempt,
    0x080 => :goog_ping
  }

  # {type, name, kind, fewest and most bytes of value}
  @attributes [
    {0x0001, :mapped_address, :addr, 8, 20},
    {0x0003, :change_request, :change, 4, 4},
    {0x0006, :username, :bytes, 0, 763},
    {0x0008, :message_integrity, :bytes, 20, 20},
    {0x0009, :error_code, :error, 4, 767},
    {0x000A, :unknown_attributes, :types, 0, 65535},
    {0x000C, :channel_number, :channel, 4, 4},
    {0x000D, :lifetime, :u32, 4, 4},
    {0x0012, :xor_peer_address, :xaddr, 8, 20},
    {0x0013, :data, :bytes, 0, 65535},
    {0x0014, :realm, :bytes, 0, 763},
    {0x0015, :nonce, :bytes, 0, 763},
    {0x0016, :xor_relayed_address, :xaddr, 8, 20},
    {0x0017, :requested_address_family, :family, 4, 4},
    {0x0018, :even_port, :even_port, 1, 1},
    {0x0019, :requested_transport, :protocol, 4, 4},
    {0x001A, :dont_fragment, :flag, 0, 0},
    {0x001B, :access_token, :bytes, 0, 65535},
    {0x001C, :message_integrity_sha256, :integrity, 16, 32},
    {0x001D, :password_algorithm, :algorithm, 4, 65535},
    {0x001E, :userhash, :bytes, 32, 32},
    {0x0020, :xor_mapped_address, :xaddr, 8, 20},
    {0x0022, :reservation_token, :bytes, 8, 8},
    {0x0024, :priority, :u32, 4, 4},
    {0x0025, :use_candidate, :flag, 0, 0},
    {0x0026, :padding, :bytes, 0, 65535},
    {0x0027, :response_port, :port, 2, 4},
    {0x002A, :connection_id, :u32, 4, 4},
    {0x8000, :additional_address_family, :family, 4, 4},
    {0x8001, :address_error_code, :addr_error, 4, 767},
    {0x8002, :password_algorithms, :algorithms, 0, 65535},
    {0x8003, :alternate_domain, :bytes, 0, 255},
    {0x8004, :icmp, :icmp, 8, 8},
    {0x8022, :software, :bytes, 0, 763},
    {0x8023, :alternate_server, :addr, 8, 20},
    {0x8025, :transaction_transmit_counter, :u32, 4, 4},
    {0x8027, :cache_timeout, :u32, 4, 4},
    {0x8028, :fingerprint, :u32, 4, 4},
    {0x8029, :ice_controlled, :u64, 8, 8},
    {0x802A, :ice_controlling, :u64, 8, 8},
    {0x802B, :response_origin, :addr, 8, 20},
    {0x802C, :other_address, :addr, 8, 20},
    {0x802D, :ecn_check, :u32, 4, 4},
    {0x802E, :third_party_authorization, :bytes, 0, 65535},
    {0x802F, :origin, :bytes, 0, 65535},
    {0x8030, :mobility_ticket, :bytes, 0, 65535},
    {0x8032, :additional_family_draft, :family, 4, 4},
    {0xC057, :goog_network_info, :u32, 4, 4}
  ]

  @spec decode(binary()) :: {:ok, Stun.t()} | {:error, {atom(), non_neg_integer()}}
  def decode(packet) do
    with {:ok, type, tid, body} <- header(packet),
         {:ok, attributes} <- split(body, @header_size, packet, []),
         {counting, ignored} = at_integrity(attributes),
         {:ok, attributes} <- values(counting, tid, []) do
      {:ok,
       %Stun{
         class: class(type &&& 0x0110),
         method:
           method((type &&& 0x000F) ||| (type &&& 0x00E0) >>> 1 ||| (type &&& 0x3E00) >>> 2),
         transaction_id: tid,
         attributes: attributes,
         ignored: ignored
       }}
    end
  end

  defp header(<<0::2, type::14, length::16, @cookie::32, tid::binary-size(12), body::binary>>)
       when byte_size(body) == length and rem(length, 4) == 0,
       do: {:ok, type, tid, body}

  defp header(packet) when byte_size(packet) < @header_size,
    do: {:error, {:truncated, byte_size(packet)}}

  defp header(<<top::2, _::bitstring>>) when top != 0, do: {:error, {:not_stun, 0}}

  defp header(<<_::32, cookie::32, _::binary>>) when cookie != @cookie,
    do: {:error, {:bad_cookie, 4}}

  defp header(<<_::16, length::16, _::binary>>) when rem(length, 4) != 0,
    do: {:error, {:bad_length, 2}}

  defp header(<<_::16, length::16, _::binary>> = packet)
       when byte_size(packet) < @header_size + length,
       do: {:error, {:truncated, byte_size(packet)}}

  defp header(<<_::16, length::16, _::binary>>),
    do: {:error, {:bad_length, @header_size + length}}

  # [{type, offset of the value, value}]; nothing may follow FINGERPRINT.
  defp split(<<>>, _at, _packet, acc), do: {:ok, Enum.reverse(acc)}

  defp split(<<@fingerprint::16, 4::16, value::32>>, at, packet, acc) do
    if value == bxor(:erlang.crc32(binary_part(packet, 0, at)), 0x5354554E),
      do: {:ok, Enum.reverse(acc, [{@fingerprint, at + 4, <<value::32>>}])},
      else: {:error, {:bad_fingerprint, at}}
  end

  defp split(<<type::16, size::16, rest::binary>>, at, packet, acc) do
    padding = -size &&& 3

    case rest do
      <<value::binary-size(size), _::binary-size(padding), rest::binary>> ->
        next = at + 4 + size + padding

        case type do
          @fingerprint when rest == "" -> {:error, {:bad_fingerprint, at}}
          @fingerprint -> {:error, {:fingerprint_not_last, next}}
          _ -> split(rest, next, packet, [{type, at + 4, value} | acc])
        end

      _ ->
        {:error, {:attribute_overrun, at}}
    end
  end

  # Behind MESSAGE-INTEGRITY only MESSAGE-INTEGRITY-SHA256 and FINGERPRINT count, behind that only
  # FINGERPRINT.
  defp at_integrity(attributes) do
    case Enum.split_while(attributes, fn {type, _, _} -> type not in @integrity end) do
      {_, []} ->
        {attributes, []}

      {before, [{type, _, _} = integrity | behind]} ->
        allowed = if type == @sha1, do: [@sha256, @fingerprint], else: [@fingerprint]
        {counting, ignored} = behind_integrity(behind, allowed, [], [])
        {before ++ [integrity | counting], ignored}
    end
  end

  defp behind_integrity([], _allowed, counting, ignored),
    do: {Enum.reverse(counting), Enum.reverse(ignored)}

  defp behind_integrity([{type, _, value} = attribute | rest], allowed, counting, ignored) do
    if type in allowed,
      do: behind_integrity(rest, [@fingerprint], [attribute | counting], ignored),
      else: behind_integrity(rest, allowed, counting, [{name(type), value} | ignored])
  end

  defp values([], _tid, acc), do: {:ok, Enum.reverse(acc)}

  defp values([{type, at, bytes} | rest], tid, acc) do
    with {name, kind, least, most} <- attribute(type),
         true <- byte_size(bytes) >= least and byte_size(bytes) <= most,
         {:ok, value} <- value(kind, bytes, tid) do
      values(rest, tid, [{name, value} | acc])
    else
      :unknown -> values(rest, tid, [{type, bytes} | acc])
      _ -> {:error, {:bad_value, at}}
    end
  end

  for {type, name, kind, least, most} <- @attributes do
    defp attribute(unquote(type)), do: unquote(Macro.escape({name, kind, least, most}))
    defp name(unquote(type)), do: unquote(name)
  end

  defp attribute(_type), do: :unknown
  defp name(type), do: type

  defp value(:bytes, bytes, _), do: {:ok, bytes}
  defp value(:integrity, bytes, _) when rem(byte_size(bytes), 4) == 0, do: {:ok, bytes}
  defp value(:flag, "", _), do: {:ok, true}
  defp value(:u32, <<n::32>>, _), do: {:ok, n}
  defp value(:u64, <<n::64>>, _), do: {:ok, n}
  defp value(:channel, <<n::16, _::16>>, _), do: {:ok, n}
  defp value(:port, <<n::16>>, _), do: {:ok, n}
  defp value(:port, <<n::16, _::16>>, _), do: {:ok, n}
  defp value(:even_port, <<r::1, _::7>>, _), do: {:ok, r == 1}
  defp value(:family, <<family, _::24>>, _), do: {:ok, family(family)}
  defp value(:protocol, <<17, _::24>>, _), do: {:ok, :udp}
  defp value(:protocol, <<6, _::24>>, _), do: {:ok, :tcp}
  defp value(:protocol, <<n, _::24>>, _), do: {:ok, n}
  defp value(:icmp, <<_::16, type, code, data::32>>, _), do: {:ok, {type, code, data}}

  defp value(:change, <<_::29, ip::1, port::1, _::1>>, _) do
    {:ok, if(ip == 1, do: [:ip], else: []) ++ if(port == 1, do: [:port], else: [])}
  end

  defp value(:addr, <<_, 1, port::16, a, b, c, d>>, _), do: {:ok, {{a, b, c, d}, port}}

  defp value(:addr, <<_, 2, port::16, ip::binary-size(16)>>, _), do: {:ok, {ipv6(ip), port}}

  defp value(:xaddr, <<_, 1, port::16, ip::32>>, _) do
    <<a, b, c, d>> = <<bxor(ip, @cookie)::32>>
    {:ok, {{a, b, c, d}, bxor(port, @cookie >>> 16)}}
  end

  defp value(:xaddr, <<_, 2, port::16, ip::binary-size(16)>>, tid) do
    {:ok, {ipv6(:crypto.exor(ip, <<@cookie::32, tid::binary>>)), bxor(port, @cookie >>> 16)}}
  end

  defp value(:error, <<_::21, hundreds::3, number, reason::binary>>, _)
       when hundreds in 3..6 and number <= 99,
       do: {:ok, {hundreds * 100 + number, reason}}

  defp value(:addr_error, <<family, _::13, hundreds::3, number, reason::binary>>, _)
       when hundreds in 3..6 and number <= 99,
       do: {:ok, {family(family), hundreds * 100 + number, reason}}

  defp value(:types, bytes, _) when rem(byte_size(bytes), 2) == 0,
    do: {:ok, for(<<type::16 <- bytes>>, do: type)}

  defp value(:algorithm, bytes, _) do
    case algorithms(bytes, []) do
      {:ok, [one]} -> {:ok, one}
      _ -> :error
    end
  end

  defp value(:algorithms, bytes, _), do: algorithms(bytes, [])
  defp value(_kind, _bytes, _tid), do: :error

  defp ipv6(<<a::16, b::16, c::16, d::16, e::16, f::16, g::16, h::16>>),
    do: {a, b, c, d, e, f, g, h}

  defp family(1), do: :ipv4
  defp family(2), do: :ipv6
  defp family(other), do: other

  defp algorithms(<<>>, acc), do: {:ok, Enum.reverse(acc)}

  defp algorithms(<<number::16, size::16, rest::binary>>, acc) when byte_size(rest) >= size do
    padding = min(-size &&& 3, byte_size(rest) - size)
    <<params::binary-size(size), _::binary-size(padding), rest::binary>> = rest
    algorithms(rest, [{algorithm(number), params} | acc])
  end

  defp algorithms(_, _acc), do: :error

  defp algorithm(1), do: :md5
  defp algorithm(2), do: :sha256
  defp algorithm(other), do: other

  defp class(0x0000), do: :request
  defp class(0x0010), do: :indication
  defp class(0x0100), do: :success
  defp class(0x0110), do: :error

  for {number, name} <- @methods do
    defp method(unquote(number)), do: unquote(name)
  end

  defp method(number), do: number
end
