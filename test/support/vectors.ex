defmodule Cromulent.Turn.Vectors do
  @moduledoc false
  # Reads test/vectors: lines of words, the first of which names the field. The top of each file says
  # what its fields mean.

  @dir Path.expand("../vectors", __DIR__)

  @doc "The lines of a file that say something, as lists of words."
  @spec lines(String.t()) :: [[String.t(), ...]]
  def lines(file), do: file |> records() |> Enum.concat()

  @doc "The records of a file: lines up to an empty one."
  @spec records(String.t()) :: [[[String.t(), ...], ...]]
  def records(file) do
    @dir
    |> Path.join(file)
    |> File.read!()
    |> String.split("\n")
    |> Enum.reject(&String.starts_with?(&1, "#"))
    |> Enum.map(&String.split(&1, " ", trim: true))
    |> Enum.chunk_by(&(&1 == []))
    |> Enum.reject(&match?([[] | _], &1))
  end

  @doc "What the lines of this field in a record say, each a list of words."
  @spec all(list(), String.t()) :: [[String.t()]]
  def all(record, field), do: for([^field | words] <- record, do: words)

  @doc "The identity and the title, for a test's name."
  @spec name(list()) :: String.t()
  def name([[_field, id] | _] = record), do: Enum.join([id | hd(all(record, "title"))], " ")

  @doc "The bytes of a record's `bytes` lines."
  @spec bytes(list()) :: binary()
  def bytes(record), do: record |> all("bytes") |> Enum.map_join(fn [text] -> hex(text) end)

  @spec hex(String.t()) :: binary()
  def hex("-"), do: ""
  def hex(text), do: Base.decode16!(text, case: :lower)

  @spec number(String.t()) :: non_neg_integer()
  def number("0x" <> digits), do: String.to_integer(digits, 16)
  def number(digits), do: String.to_integer(digits)

  @doc "`{ip, port}` of an address in text."
  @spec address(String.t()) :: {:inet.ip_address(), :inet.port_number()}
  def address(text) do
    [_, ip, port] = Regex.run(~r/^\[?(.*?)\]?:(\d+)$/, text)
    {:ok, ip} = :inet.parse_strict_address(String.to_charlist(ip))
    {ip, String.to_integer(port)}
  end
end
