defmodule Cromulent.Turn.Address do
  @moduledoc false
  # IP addresses and CIDR blocks as text and back, and which ones this host has.

  @type ip :: :inet.ip_address()
  @type family :: :inet | :inet6

  @doc "An IPv4 or IPv6 address from its text, brackets around IPv6 allowed."
  @spec parse(String.t() | ip()) :: {:ok, ip()} | :error
  def parse(text) when is_binary(text) do
    text = text |> String.trim() |> unbracket() |> :binary.bin_to_list()

    case :inet.parse_strict_address(text) do
      {:ok, ip} -> {:ok, ip}
      {:error, :einval} -> :error
    end
  end

  def parse(ip) when is_tuple(ip) do
    if :inet.is_ip_address(ip), do: {:ok, ip}, else: :error
  end

  def parse(_other), do: :error

  @doc "The address as text, without brackets."
  @spec format(ip()) :: String.t()
  def format(ip), do: ip |> :inet.ntoa() |> to_string()

  @doc "The address as the host part of a URL: IPv6 in brackets."
  @spec to_host(ip()) :: String.t()
  def to_host(ip) when tuple_size(ip) == 8, do: "[" <> format(ip) <> "]"
  def to_host(ip), do: format(ip)

  @spec family(ip()) :: family()
  def family(ip) when tuple_size(ip) == 4, do: :inet
  def family(ip) when tuple_size(ip) == 8, do: :inet6

  @spec wildcard?(ip()) :: boolean()
  def wildcard?(ip), do: ip in [{0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0}]

  @spec loopback?(ip()) :: boolean()
  def loopback?({127, _, _, _}), do: true
  def loopback?(ip), do: ip == {0, 0, 0, 0, 0, 0, 0, 1}

  @spec link_local?(ip()) :: boolean()
  def link_local?({169, 254, _, _}), do: true
  def link_local?({a, _, _, _, _, _, _, _}), do: a in 0xFE80..0xFEBF
  def link_local?(_ip), do: false

  @doc "A block in its full form, `IP/bits`; a lone address is a block of one."
  @spec parse_cidr(String.t()) :: {:ok, String.t()} | :error
  def parse_cidr(text) when is_binary(text) do
    with [host | bits] when length(bits) <= 1 <- String.split(text, "/"),
         {:ok, ip} <- parse(host),
         most = if(family(ip) == :inet, do: 32, else: 128),
         {bits, ""} <- bits |> List.first(Integer.to_string(most)) |> Integer.parse(),
         true <- bits in 0..most do
      {:ok, "#{format(ip)}/#{bits}"}
    else
      _ -> :error
    end
  end

  def parse_cidr(_other), do: :error

  @doc """
  The addresses by which others most likely reach this host: one per family, the ones the kernel
  would send from; else the first of any interface; loopback only where there is nothing else.
  """
  @spec primary() :: [ip(), ...]
  def primary do
    case Enum.flat_map([:inet, :inet6], &primary/1) do
      [] -> [{127, 0, 0, 1}]
      ips -> ips
    end
  end

  defp primary(family) do
    with :error <- routed(family),
         :error <- of_interfaces(family),
         do: [],
         else: ({:ok, ip} -> [ip])
  end

  # Connecting a UDP socket sends nothing, but makes the kernel choose a source address. The
  # destinations are documentation addresses (RFC 5737, RFC 3849): any default route matches them.
  defp routed(family) do
    target = if family == :inet, do: {192, 0, 2, 1}, else: {0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}

    with {:ok, socket} <- :gen_udp.open(0, [family]) do
      result = with :ok <- :gen_udp.connect(socket, target, 9), do: :inet.sockname(socket)
      :gen_udp.close(socket)

      case result do
        {:ok, {ip, _port}} -> if usable?(ip), do: {:ok, ip}, else: :error
        {:error, _} -> :error
      end
    else
      {:error, _} -> :error
    end
  end

  defp of_interfaces(family) do
    {:ok, interfaces} = :inet.getifaddrs()

    addresses =
      for {_name, options} <- interfaces,
          :up in Keyword.get(options, :flags, []),
          {:addr, ip} <- options,
          family(ip) == family and usable?(ip),
          do: ip

    case addresses do
      [ip | _] -> {:ok, ip}
      [] -> :error
    end
  end

  defp usable?(ip), do: not (wildcard?(ip) or loopback?(ip) or link_local?(ip))

  @doc "Whether this host can use the family at all."
  @spec family?(family()) :: boolean()
  def family?(family) do
    loopback = if family == :inet, do: {127, 0, 0, 1}, else: {0, 0, 0, 0, 0, 0, 0, 1}

    case :gen_udp.open(0, [family, ip: loopback]) do
      {:ok, socket} -> :gen_udp.close(socket) == :ok
      {:error, _} -> false
    end
  end

  defp unbracket("[" <> rest), do: String.replace_suffix(rest, "]", "")
  defp unbracket(text), do: text
end
