# Relays for the interoperability tests, as many as they ask for: `mix run test/interop/server.exs`.
#
# One command per line on standard input, one line of JSON for each on standard output: {"ok": value}
# or {"error": text}. It ends, relays included, when its input does.
#
#     start NAME listen=... relay_ip=... secret=...   options of Cromulent.Turn; gives Relay.info/1
#     info NAME | stats NAME | list NAME | kill NAME | stop NAME
#     credentials NAME USER                           from Cromulent.Turn.ice_servers/2
defmodule Interop.Server do
  alias Cromulent.Turn.Relay

  def run do
    Process.flag(:trap_exit, true)
    say({:ok, "ready"})
    IO.stream(:stdio, :line) |> Enum.each(&(&1 |> String.split() |> command() |> say()))
  end

  defp command(["start", name | options]) do
    with {:ok, _pid} <- Relay.start_link([name: name(name)] ++ Enum.map(options, &option/1)),
         do: Relay.info(name(name))
  end

  defp command(["info", name]), do: Relay.info(name(name))
  defp command(["stats", name]), do: Relay.stats(name(name))
  defp command(["list", name]), do: Relay.list(1000, name(name))
  defp command(["kill", name]), do: Relay.kill(:all, name(name))
  defp command(["stop", name]), do: {GenServer.stop(name(name)), true}

  defp command(["credentials", name, user]) do
    {:ok, servers} = Cromulent.Turn.ice_servers(user, provider: :embedded, relay: name(name))

    case Enum.filter(servers, &Map.has_key?(&1, :credential)) do
      [] -> {:error, "ice_servers/2 gave no TURN server"}
      turn -> {:ok, turn}
    end
  end

  defp name(name), do: String.to_atom("interop_" <> name)

  defp option(text) do
    [key, value] = String.split(text, "=", parts: 2)
    {String.to_existing_atom(key), value}
  end

  defp say({:ok, value}), do: IO.puts(json(%{ok: value}))
  defp say({:error, reason}), do: IO.puts(json(%{error: inspect(reason)}))

  # Enough of JSON for what relays tell; OTP has an encoder from version 27 on only.
  defp json(map) when is_map(map),
    do: "{" <> Enum.map_join(map, ",", fn {k, v} -> json(k) <> ":" <> json(v) end) <> "}"

  defp json(list) when is_list(list), do: "[" <> Enum.map_join(list, ",", &json/1) <> "]"
  defp json(value) when is_number(value) or is_boolean(value), do: to_string(value)
  defp json(nil), do: "null"
  defp json(atom) when is_atom(atom), do: json(Atom.to_string(atom))
  defp json(tuple) when is_tuple(tuple), do: json(inspect(tuple))

  defp json(text) when is_binary(text),
    do: ~s("#{String.replace(text, ["\\", "\""], &"\\#{&1}")}")
end

Interop.Server.run()
