# A relay and the check page for the browser tests: `mix run --no-start test/browser/server.exs`.
#
# Arguments are options of the relay (`Cromulent.Turn`), as `name=value`. One line of JSON on standard output says
# that both are ready: {"url": ..., "pid": <relay's OS process id>}. Then each line of standard
# input is answered by one of JSON: `stats`, `list`, `mint USER TTL` (ICE servers and their expiry),
# `kill USER` (his allocations), `join USER ROOM` (what `Cromulent.Turn.join/4` gives), `leave USER` (all rooms). It ends, relay included, when its input does.
defmodule Browser.Server do
  alias Cromulent.Turn.{CheckPage, Credentials, Json, Relay}

  @ip {127, 0, 0, 1}
  @secret Base.encode64(:crypto.strong_rand_bytes(20))
  @options [listen: ["udp:127.0.0.1:0"], relay_ip: "127.0.0.1", workers: 2, secret: @secret]

  def run(arguments) do
    Mix.Turn.boot()
    {:ok, _} = Application.ensure_all_started(:inets)
    options = Keyword.merge(@options, Enum.map(arguments, &option/1))
    {:ok, _} = Supervisor.start_child(Cromulent.Turn.Application, {Cromulent.Turn, options})
    {:ok, _, port} = CheckPage.start(@ip, 0, &ice_servers/0)

    {:ok, info} = Relay.info()
    say(url: "http://127.0.0.1:#{port}/", pid: info.os_pid)
    IO.stream(:stdio, :line) |> Enum.each(&(&1 |> String.trim() |> command() |> say()))
  end

  defp ice_servers do
    {:ok, servers} = Cromulent.Turn.ice_servers("browser", provider: "embedded")
    servers
  end

  defp command("stats") do
    {:ok, stats} = Relay.stats()
    stats
  end

  defp command("list") do
    {:ok, allocations} = Relay.list(1000)
    allocations
  end

  defp command("mint " <> arguments) do
    [user, ttl] = String.split(arguments)
    made = Credentials.generate(user, @secret, ttl: String.to_integer(ttl))
    %{ice_servers: Enum.map(ice_servers(), &own(&1, made)), expires_at: made.expires_at}
  end

  defp command("kill " <> user) do
    {:ok, count} = Relay.kill({:user, user})
    %{killed: count}
  end

  # The place is a process's, as that of a channel.
  defp command("join " <> arguments) do
    [user, room] = String.split(arguments)
    caller = self()

    spawn_link(fn ->
      Process.register(self(), :"#{user}")
      send(caller, {:joined, Cromulent.Turn.join(nil, room, user, provider: :embedded)})
      receive do: (:leave -> :ok)
    end)

    {:ok, payload} = receive do: ({:joined, result} -> result)
    payload
  end

  defp command("leave " <> user) do
    monitor = Process.monitor(:"#{user}")
    send(:"#{user}", :leave)
    receive do: ({:DOWN, ^monitor, _, _, _} -> %{left: user})
  end

  # A lifetime as short as a test needs it is none that the library would give.
  defp own(%{username: _} = server, made),
    do: %{server | username: made.username, credential: made.credential}

  defp own(server, _made), do: server

  defp option(text) do
    [name, value] = String.split(text, "=", parts: 2)

    {String.to_existing_atom(name),
     if(value =~ ~r/^\d+$/, do: String.to_integer(value), else: value)}
  end

  defp say(value), do: value |> Json.encode() |> IO.puts()
end

Browser.Server.run(System.argv())
