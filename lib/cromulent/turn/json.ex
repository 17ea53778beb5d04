defmodule Cromulent.Turn.Json do
  @moduledoc false
  # JSON for the few things that this library itself writes: no application needs a package for them.
  # Keyword lists are objects that keep their order.

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
end
