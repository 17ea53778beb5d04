defmodule Cromulent.Turn.PeerEpmd do
  @moduledoc false
  # Stands in for epmd: a node named n4242 listens on port 4242. So nodes of a test find each other
  # without a daemon that outlives them. It runs before Elixir does, and must not need it.
  # The functions are those of erl_epmd: "Customising the discovery of nodes", Erlang's user's guide.

  @protocol 6

  def start_link, do: :ignore
  def register_node(_name, _port), do: {:ok, 1}
  def register_node(_name, _port, _family), do: {:ok, 1}
  def port_please(name, _host), do: {:port, port(name), @protocol}
  def port_please(name, _host, _timeout), do: {:port, port(name), @protocol}
  def listen_port_please(name, _host), do: {:ok, port(name)}
  def address_please(_name, _host, _family), do: {:ok, {127, 0, 0, 1}}
  def names, do: {:error, :address}
  def names(_host), do: {:error, :address}

  defp port(name) when is_atom(name), do: port(:erlang.atom_to_list(name))
  defp port([?n | digits]), do: :erlang.list_to_integer(digits)
  # Hidden nodes of tools, which nobody looks for.
  defp port(_other), do: 0
end
