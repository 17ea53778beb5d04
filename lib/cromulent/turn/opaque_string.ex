defmodule Cromulent.Turn.OpaqueString do
  @moduledoc false
  # The profile that usernames, realms and passwords of STUN have (RFC 8265 §4.2): spaces are U+0020, the form is NFC, and
  # what RFC 8264's FreeformClass (§4.3) disallows is refused. With two liberties: whether a code point is assigned is not
  # asked, as OTP's tables are older than what people write; and what RFC 5892 allows in some contexts, such as the joiners
  # of Persian and Hindi, is allowed in all.

  # Each range with both its ends.
  @refused [
    # controls, and the tags, separators and joiners that nobody sees (Cc, Cf, Zl, Zp, Default_Ignorable_Code_Point)
    {0x00, 0x1F},
    {0x7F, 0x9F},
    {0xAD, 0xAD},
    {0x034F, 0x034F},
    {0x0600, 0x0605},
    {0x061C, 0x061C},
    {0x06DD, 0x06DD},
    {0x070F, 0x070F},
    {0x0890, 0x0891},
    {0x08E2, 0x08E2},
    {0x17B4, 0x17B5},
    {0x180B, 0x180F},
    {0x200B, 0x200B},
    {0x200E, 0x200F},
    {0x2028, 0x202E},
    {0x2060, 0x206F},
    {0x3164, 0x3164},
    {0xFE00, 0xFE0F},
    {0xFEFF, 0xFEFF},
    {0xFFA0, 0xFFA0},
    {0xFFF0, 0xFFFB},
    {0x110BD, 0x110BD},
    {0x110CD, 0x110CD},
    {0x13430, 0x1343F},
    {0x1BCA0, 0x1BCA3},
    {0x1D173, 0x1D17A},
    {0xE0000, 0xE0FFF},
    # the parts of Korean syllables, which NFC has put together where they are those of today
    {0x1100, 0x11FF},
    {0xA960, 0xA97C},
    {0xD7B0, 0xD7FB},
    # private use, and no characters at all
    {0xE000, 0xF8FF},
    {0xFDD0, 0xFDEF},
    {0xF0000, 0x10FFFF}
  ]
  # Zs but U+0020.
  @spaces [0xA0, 0x1680, 0x202F, 0x205F, 0x3000] ++ Enum.to_list(0x2000..0x200A)

  @doc "The prepared text; `:error` for what the profile refuses: nothing at all, controls, and no UTF-8."
  @spec prepare(binary()) :: {:ok, String.t()} | :error
  def prepare(""), do: :error

  def prepare(text) do
    cond do
      ascii?(text) -> {:ok, text}
      not String.valid?(text) -> :error
      true -> text |> with_plain_spaces() |> String.normalize(:nfc) |> allowed()
    end
  end

  @doc "The prepared text, or the text as it is where the profile refuses it."
  @spec prepared(binary()) :: binary()
  def prepared(text) do
    case prepare(text) do
      {:ok, prepared} -> prepared
      :error -> text
    end
  end

  # What needs nothing done, and most is.
  defp ascii?(<<c, rest::binary>>) when c in 0x20..0x7E, do: ascii?(rest)
  defp ascii?(rest), do: rest == ""

  defp with_plain_spaces(text),
    do: for(<<c::utf8 <- text>>, into: "", do: if(c in @spaces, do: " ", else: <<c::utf8>>))

  defp allowed(text),
    do: if(for(<<c::utf8 <- text>>, refused?(c), do: c) == [], do: {:ok, text}, else: :error)

  for {from, to} <- @refused do
    defp refused?(c) when c in unquote(from)..unquote(to), do: true
  end

  # The last two code points of every plane.
  defp refused?(c), do: Bitwise.band(c, 0xFFFE) == 0xFFFE
end
