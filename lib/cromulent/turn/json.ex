defmodule Cromulent.Turn.Json do
  @moduledoc false
  # JSON (RFC 8259) for the few things that this library itself writes and reads: no application needs
  # a package for them. Keyword lists are written as objects that keep their order; objects are read as
  # maps with strings for keys, of which the last of a name counts.

  @type value ::
          nil | boolean() | atom() | String.t() | number() | [value()] | keyword(value()) | map()

  @spec encode(value()) :: String.t()
  def encode(value), do: value |> json() |> IO.iodata_to_binary()

  defp json(value) when value in [nil, true, false],
    do: if(value == nil, do: "null", else: to_string(value))

  defp json(value) when is_atom(value), do: string(to_string(value))
  defp json(value) when is_binary(value), do: string(value)
  defp json(value) when is_integer(value), do: Integer.to_string(value)
  defp json(value) when is_float(value), do: Float.to_string(value)
  defp json(value) when is_map(value), do: value |> Enum.sort() |> object()
  defp json([{key, _} | _] = pairs) when is_atom(key), do: object(pairs)

  defp json(values) when is_list(values),
    do: [?[, values |> Enum.map(&json/1) |> Enum.intersperse(", "), ?]]

  defp object(pairs) do
    members = for {key, value} <- pairs, do: [string(to_string(key)), ": ", json(value)]
    [?{, Enum.intersperse(members, ", "), ?}]
  end

  # RFC 8259 §7. Bytes that are no UTF-8 have no place in JSON: U+FFFD stands for them.
  defp string(text), do: [?", escape(text), ?"]

  defp escape(<<>>), do: []
  defp escape(<<char, rest::binary>>) when char in [?", ?\\], do: [?\\, char | escape(rest)]
  defp escape(<<?\n, rest::binary>>), do: ["\\n" | escape(rest)]

  defp escape(<<char, rest::binary>>) when char < 0x20,
    do: ["\\u00", Base.encode16(<<char>>, case: :lower) | escape(rest)]

  # Script elements and JavaScript's own line ends: such a string may be written into a page.
  defp escape(<<char::utf8, rest::binary>>) when char in [?<, 0x2028, 0x2029],
    do: ["\\u", Base.encode16(<<char::16>>, case: :lower) | escape(rest)]

  defp escape(<<char::utf8, rest::binary>>), do: [<<char::utf8>> | escape(rest)]
  defp escape(<<_, rest::binary>>), do: ["\uFFFD" | escape(rest)]

  # ---- reading ----

  @most_bytes 1_048_576
  @most_deep 32
  # Characters of a number: the time that reading one takes grows with their square.
  @most_digits 64

  @type decode_error :: :too_big | :too_deep | {:syntax, offset :: non_neg_integer()}

  @doc """
  The value of a JSON text, in UTF-8 and without a byte order mark, with null as nil.

  Strict, and bounded in size and depth: this reads what strangers send. `{:syntax, offset}` has the byte at
  which the text ceased to be JSON; a number that is longer than 64 characters or beyond a float is an error too.
  """
  @spec decode(binary()) :: {:ok, value()} | {:error, decode_error()}
  def decode(text) when byte_size(text) > @most_bytes, do: {:error, :too_big}

  def decode(text) when is_binary(text) do
    {value, rest} = text |> blank() |> value(@most_deep)
    if blank(rest) == "", do: {:ok, value}, else: fault(blank(rest))
  catch
    {:fault, rest} -> {:error, {:syntax, byte_size(text) - byte_size(rest)}}
    :too_deep -> {:error, :too_deep}
  end

  @spec fault(binary()) :: no_return()
  defp fault(rest), do: throw({:fault, rest})

  defp blank(<<char, rest::binary>>) when char in [?\s, ?\t, ?\n, ?\r], do: blank(rest)
  defp blank(rest), do: rest

  defp value("null" <> rest, _depth), do: {nil, rest}
  defp value("true" <> rest, _depth), do: {true, rest}
  defp value("false" <> rest, _depth), do: {false, rest}
  defp value(<<?", rest::binary>>, _depth), do: text(rest, <<>>)
  defp value(<<char, _::binary>>, 0) when char in [?{, ?[], do: throw(:too_deep)
  defp value(<<?[, rest::binary>>, depth), do: rest |> blank() |> first_item(depth - 1)
  defp value(<<?{, rest::binary>>, depth), do: rest |> blank() |> first_member(depth - 1)
  defp value(rest, _depth), do: number(rest)

  defp first_item(<<?], rest::binary>>, _depth), do: {[], rest}
  defp first_item(rest, depth), do: items(rest, depth, [])

  defp items(rest, depth, read) do
    {item, rest} = value(rest, depth)

    case blank(rest) do
      <<?,, rest::binary>> -> rest |> blank() |> items(depth, [item | read])
      <<?], rest::binary>> -> {Enum.reverse(read, [item]), rest}
      rest -> fault(rest)
    end
  end

  defp first_member(<<?}, rest::binary>>, _depth), do: {%{}, rest}
  defp first_member(rest, depth), do: members(rest, depth, %{})

  defp members(<<?", rest::binary>>, depth, read) do
    {name, rest} = text(rest, <<>>)
    {value, rest} = rest |> blank() |> colon() |> blank() |> value(depth)
    read = Map.put(read, name, value)

    case blank(rest) do
      <<?,, rest::binary>> -> rest |> blank() |> members(depth, read)
      <<?}, rest::binary>> -> {read, rest}
      rest -> fault(rest)
    end
  end

  defp members(rest, _depth, _read), do: fault(rest)

  defp colon(<<?:, rest::binary>>), do: rest
  defp colon(rest), do: fault(rest)

  # RFC 8259 §7. What is no UTF-8 is no JSON (§8.1), and neither is half a surrogate pair, although the
  # grammar has it: no string of Unicode characters could hold it.
  defp text(<<?", rest::binary>>, read), do: {read, rest}
  defp text(<<?\\, ?u, rest::binary>>, read), do: unicode(rest, read)
  defp text(<<?\\, rest::binary>>, read), do: escaped(rest, read)

  defp text(<<char::utf8, rest::binary>>, read) when char >= 0x20,
    do: text(rest, <<read::binary, char::utf8>>)

  defp text(rest, _read), do: fault(rest)

  for {escape, char} <- [
        {?", ?"},
        {?\\, ?\\},
        {?/, ?/},
        {?b, ?\b},
        {?f, ?\f},
        {?n, ?\n},
        {?r, ?\r},
        {?t, ?\t}
      ] do
    defp escaped(<<unquote(escape), rest::binary>>, read),
      do: text(rest, <<read::binary, unquote(char)>>)
  end

  defp escaped(rest, _read), do: fault(rest)

  defp unicode(start, read) do
    case unit(start) do
      {high, <<?\\, ?u, rest::binary>>} when high in 0xD800..0xDBFF -> pair(high, rest, read)
      {unit, rest} when unit not in 0xD800..0xDFFF -> text(rest, <<read::binary, unit::utf8>>)
      _half -> fault(start)
    end
  end

  defp pair(high, start, read) do
    case unit(start) do
      {low, rest} when low in 0xDC00..0xDFFF ->
        char = 0x10000 + (high - 0xD800) * 0x400 + (low - 0xDC00)
        text(rest, <<read::binary, char::utf8>>)

      _other ->
        fault(start)
    end
  end

  defp unit(<<digits::binary-size(4), rest::binary>> = start) do
    case Base.decode16(digits, case: :mixed) do
      {:ok, <<unit::16>>} -> {unit, rest}
      :error -> fault(start)
    end
  end

  defp unit(start), do: fault(start)

  # RFC 8259 §6.
  defp number(start) do
    window = binary_part(start, 0, min(byte_size(start), @most_digits + 1))

    case Regex.run(~r/\A(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?/, window) do
      [all | _] when byte_size(all) > @most_digits -> fault(start)
      [all, digits | rest] -> {numeric(digits, rest, start), tail(start, all)}
      nil -> fault(start)
    end
  end

  defp tail(start, all),
    do: binary_part(start, byte_size(all), byte_size(start) - byte_size(all))

  defp numeric(digits, [], _start), do: String.to_integer(digits)
  defp numeric(digits, ["", exponent], start), do: float(digits <> ".0" <> exponent, start)
  defp numeric(digits, rest, start), do: float(Enum.join([digits | rest]), start)

  defp float(text, start) do
    String.to_float(text)
  rescue
    ArgumentError -> fault(start)
  end
end
