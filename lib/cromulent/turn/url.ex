defmodule Cromulent.Turn.Url do
  @moduledoc """
  URLs of STUN servers (RFC 7064 §3.1) and TURN servers (RFC 7065 §3.1), as browsers take them.

      stun:HOST[:PORT]   turn:HOST[:PORT][?transport=udp|tcp]
      stuns:HOST[:PORT]  turns:HOST[:PORT][?transport=udp|tcp]

  `HOST` is a DNS name, an IPv4 address, or an IPv6 address in brackets. The port is 3478 where none is
  given, 5349 for `stuns` and `turns`; the transport is UDP, for those TCP.
  """

  alias Cromulent.Turn.Address

  @type scheme :: :stun | :stuns | :turn | :turns

  @typedoc "The host is in lower case, and without brackets."
  @type t :: %{
          scheme: scheme(),
          host: String.t(),
          port: :inet.port_number(),
          transport: :udp | :tcp
        }

  @typedoc "What is spoken with the server: STUN of any kind, or TURN over UDP, TCP or TLS (DTLS)."
  @type kind :: :stun | :udp | :tcp | :tls

  @schemes %{"stun" => :stun, "stuns" => :stuns, "turn" => :turn, "turns" => :turns}
  @port 3478
  @secure_port 5349
  @host_most 253
  @text_most 512

  @doc """
  The parts of a URL, or what is wrong with it, in a few words that begin with "must".

      iex> Cromulent.Turn.Url.parse("turns:turn.example.org")
      {:ok, %{scheme: :turns, host: "turn.example.org", port: 5349, transport: :tcp}}
      iex> Cromulent.Turn.Url.parse("turn://turn.example.org")
      {:error, "must have no // after the colon, such as turn:turn.example.org:3478"}
  """
  @spec parse(term()) :: {:ok, t()} | {:error, String.t()}
  def parse(text) when is_binary(text) and byte_size(text) <= @text_most do
    with {:ok, scheme, rest} <- scheme(text),
         {:ok, authority, query} <- split(rest, scheme),
         {:ok, transport} <- transport(query, scheme),
         {:ok, host, port} <- authority(authority),
         {:ok, host} <- host(host),
         {:ok, port} <- port(port, scheme) do
      {:ok, %{scheme: scheme, host: host, port: port, transport: transport}}
    end
  end

  def parse(text) when is_binary(text), do: {:error, "must be at most #{@text_most} bytes"}
  def parse(_other), do: {:error, "must be text"}

  @doc """
  The URL of these parts, with port and, for TURN, transport: equal URLs give equal texts.

      iex> {:ok, url} = Cromulent.Turn.Url.parse("TURN:[2001:DB8::1]")
      iex> Cromulent.Turn.Url.build(url)
      "turn:[2001:db8::1]:3478?transport=udp"
  """
  @spec build(t()) :: String.t()
  def build(%{scheme: scheme, host: host, port: port, transport: transport}) do
    host = if String.contains?(host, ":"), do: "[#{host}]", else: host
    query = if scheme in [:turn, :turns], do: "?transport=#{transport}", else: ""
    "#{scheme}:#{host}:#{port}#{query}"
  end

  @doc "What is spoken with the server."
  @spec kind(t()) :: kind()
  def kind(%{scheme: scheme}) when scheme in [:stun, :stuns], do: :stun
  def kind(%{scheme: :turns}), do: :tls
  def kind(%{scheme: :turn, transport: transport}), do: transport

  @doc "Whether it is the URL of a relay, which needs a username and a credential."
  @spec turn?(t()) :: boolean()
  def turn?(%{scheme: scheme}), do: scheme in [:turn, :turns]

  defp scheme(text) do
    with [name, rest] <- String.split(text, ":", parts: 2),
         {:ok, scheme} <- Map.fetch(@schemes, String.downcase(name, :ascii)) do
      {:ok, scheme, rest}
    else
      _ -> {:error, "must begin with stun:, stuns:, turn: or turns:"}
    end
  end

  defp split("//" <> _, scheme),
    do: {:error, "must have no // after the colon, such as #{scheme}:turn.example.org:3478"}

  defp split(rest, _scheme) do
    case String.split(rest, "?", parts: 2) do
      [authority] -> {:ok, authority, nil}
      [authority, query] -> {:ok, authority, query}
    end
  end

  defp transport(nil, scheme) when scheme in [:stun, :turn], do: {:ok, :udp}
  defp transport(nil, _secure), do: {:ok, :tcp}

  defp transport(_query, scheme) when scheme in [:stun, :stuns],
    do: {:error, "must have nothing after ?: a STUN URL has no transport"}

  defp transport(query, _scheme) do
    case String.downcase(query, :ascii) do
      "transport=udp" -> {:ok, :udp}
      "transport=tcp" -> {:ok, :tcp}
      _ -> {:error, "must have nothing but transport=udp or transport=tcp after ?"}
    end
  end

  # The host with its brackets, and the port as text, nil where there is none.
  defp authority(text) do
    case Regex.run(~r/\A(\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(?::([0-9]{1,5}))?\z/, text) do
      [_, host] -> {:ok, host, nil}
      [_, host, port] -> {:ok, host, port}
      nil -> {:error, "must be HOST or HOST:PORT after the scheme, IPv6 addresses in brackets"}
    end
  end

  defp host("[" <> _ = text) do
    case Address.parse(text) do
      {:ok, ip} when tuple_size(ip) == 8 -> {:ok, Address.format(ip)}
      _ -> {:error, "must have an IPv6 address within the brackets"}
    end
  end

  # Underscores are in no host name, but in those of container networks.
  defp host(text) do
    if byte_size(text) <= @host_most and
         text =~ ~r/\A[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?\z/ and
         not String.contains?(text, "..") and not (text =~ ~r/\A[0-9.]+\z/ and not ipv4?(text)),
       do: {:ok, String.downcase(text, :ascii)},
       else: {:error, "must have a DNS name or an IP address as its host"}
  end

  defp ipv4?(text), do: match?({:ok, {_, _, _, _}}, Address.parse(text))

  defp port(nil, scheme) when scheme in [:stun, :turn], do: {:ok, @port}
  defp port(nil, _secure), do: {:ok, @secure_port}

  defp port(text, _scheme) do
    case String.to_integer(text) do
      port when port in 1..65_535 -> {:ok, port}
      _ -> {:error, "must have a port from 1 to 65535"}
    end
  end
end
