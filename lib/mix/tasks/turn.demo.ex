defmodule Mix.Tasks.Turn.Demo do
  @shortdoc "Runs a relay and a page that checks it"

  @moduledoc """
  Runs a relay and a web page that checks it from a browser, and prints the page's address.

      mix turn.demo
      mix turn.demo --ip 192.168.1.5 --port 8080

  The page gathers candidates, makes a call through the relay and only through it, draws its
  round-trip time and throughput, and says what is wrong if something is.

  | flag | | else |
  |---|---|---|
  | `--ip IP` | an IPv4 address of this host; repeatable | 127.0.0.1, and the host's address in its network |
  | `--port PORT` | the page's TCP port; 0 takes a free one | 4080, or a free one when that is taken |

  The relay listens on the same addresses, on UDP port 3478 or a free one when that is taken. Whoever
  reaches the page gets credentials for it, but of the private addresses it relays to none, save between
  its own clients. The environment variables of `Cromulent.Turn` hold for all else.

  Browsers need a network interface besides loopback for calls, also for those within the machine: on a
  host without any, Chromium does with the flag `--allow-loopback-in-peer-connection`.

  SIGTERM and Ctrl-C end it, relay included, with status 0. Unknown flags and wrong values give one line and
  status 2; what cannot start, one line and status 1.
  """

  use Mix.Task

  alias Cromulent.Turn.{Address, CheckPage, Program}

  @task "turn.demo"
  @switches [ip: [:string, :keep], port: :integer]
  @page_port 4080
  # Whom the page calls itself.
  @user "check"
  @relay_port 3478

  @impl true
  def run(argv) do
    opts = Mix.Turn.parse(@task, argv, @switches)
    port = check_port(opts[:port])
    ips = addresses(opts[:ip])
    Mix.Turn.boot()
    {:ok, _} = Application.ensure_all_started(:inets)
    :ok = :cromulent_turn_nif.sigint_to_sigterm()

    info = start_relay(ips)
    urls = for ip <- ips, do: {ip, start_page(ip, port)}
    IO.puts(greeting(info.listen, urls))
    Process.sleep(:infinity)
  end

  defp check_port(nil), do: nil
  defp check_port(port) when port in 0..65_535, do: port
  defp check_port(port), do: Mix.Turn.fail(@task, 2, "--port #{port}: must be 0 to 65535")

  # ---- addresses ----

  defp addresses(nil) do
    [{127, 0, 0, 1} | Enum.filter(Address.primary(), &(Address.family(&1) == :inet))]
    |> Enum.uniq()
  end

  defp addresses(texts), do: texts |> Enum.map(&check_ip/1) |> Enum.uniq()

  defp check_ip(text) do
    with {:ok, ip} <- Address.parse(text),
         true <- Address.family(ip) == :inet and not Address.wildcard?(ip) do
      ip
    else
      _ ->
        Mix.Turn.fail(@task, 2, "--ip #{inspect(text)}: must be one IPv4 address of this host")
    end
  end

  # ---- the relay ----

  defp start_relay(ips) do
    result =
      with {:error, {:listen, _, :eaddrinuse}} <- start_relay(ips, @relay_port),
           do: start_relay(ips, 0)

    case result do
      {:ok, info} -> Mix.Turn.admit(@user) && info
      {:error, reason} -> Mix.Turn.fail(@task, 1, Program.describe(reason))
    end
  end

  # The last address is the one that others reach too.
  defp start_relay(ips, port) do
    opts = [
      listen: for(ip <- ips, do: "udp:#{Address.to_host(ip)}:#{port}"),
      relay_ip: ips |> List.last() |> Address.format(),
      allow_peers: []
    ]

    Mix.Turn.start_relay(opts)
  end

  # ---- the page ----

  defp start_page(ip, nil) do
    case CheckPage.start(ip, @page_port, fn -> ice_servers(ip) end) do
      {:error, :eaddrinuse} -> start_page(ip, 0)
      {:ok, _pid, port} -> url(ip, port)
      {:error, reason} -> page_failed(ip, @page_port, reason)
    end
  end

  defp start_page(ip, port) do
    case CheckPage.start(ip, port, fn -> ice_servers(ip) end) do
      {:ok, _pid, port} -> url(ip, port)
      {:error, reason} -> page_failed(ip, port, reason)
    end
  end

  defp page_failed(ip, port, reason),
    do:
      Mix.Turn.fail(
        @task,
        1,
        Program.describe({:listen, "tcp:#{Address.to_host(ip)}:#{port}", reason})
      )

  # Who asks at one address may not reach the others: a phone has its own 127.0.0.1.
  defp ice_servers(ip) do
    {:ok, servers} = Cromulent.Turn.ice_servers(@user, provider: "embedded")
    here = ":" <> Address.to_host(ip) <> ":"

    case Enum.filter(servers, &String.contains?(&1.urls, here)) do
      [] -> servers
      reachable -> reachable
    end
  end

  defp url({127, 0, 0, 1}, port), do: "http://localhost:#{port}/"
  defp url(ip, port), do: "http://#{Address.to_host(ip)}:#{port}/"

  defp greeting(listen, urls) do
    width = urls |> Enum.map(fn {_, url} -> String.length(url) end) |> Enum.max()

    lines = for {ip, url} <- urls, do: "    #{String.pad_trailing(url, width)}   #{place(ip)}\n"

    """
    The relay runs on #{Enum.join(listen, " and ")}. Check it from a browser:

    #{lines}
    Ctrl-C ends it.
    """
  end

  defp place(ip),
    do:
      if(Address.loopback?(ip), do: "on this machine", else: "in this network, from a phone too")
end
