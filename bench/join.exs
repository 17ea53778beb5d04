# What a join costs: `mix run bench/join.exs`.
#
# Joins of different users under the embedded provider (a real relay on a free port): one after the
# other, and 1,000 at once, each in a process of its own, as channels are; alone, and with one and
# two other nodes connected, where a join asks them. Beside it, what the same places would cost with
# :global.register_name. Times are of the whole of join/4, credentials included.

support = Path.expand("../test/support", __DIR__)

# The other nodes load this one from a file before they load Elixir.
beams = Path.join(System.tmp_dir!(), "turn_bench_#{System.pid()}")
File.mkdir_p!(beams)

for file <- ~w(peer_epmd.ex cluster.ex),
    not Code.ensure_loaded?(Cromulent.Turn.Cluster),
    {module, beam} <- Code.require_file(file, support),
    do: File.write!(Path.join(beams, "#{module}.beam"), beam)

defmodule Cromulent.Turn.Bench.Join do
  @moduledoc false

  alias Cromulent.Turn
  alias Cromulent.Turn.Cluster

  @users 1_000
  @rounds 5
  @admitting Cromulent.Turn.Bench.Admitting
  @relay [
    listen: "udp:127.0.0.1:0",
    relay_ip: "127.0.0.1",
    provider: :embedded,
    start: true
  ]

  def run(ebin) do
    IO.puts("Elixir #{System.version()}, OTP #{System.otp_release()}, #{cpu()}")
    IO.puts("#{@users} users, #{@rounds} rounds; µs\n")
    row(["", "sequential median", "#{@users} at once: p50", "p99", "max"])
    nodes = Cluster.start_nodes(3, env: @relay, ebin: ebin)
    [a, b, c] = nodes
    {:ok, _} = Cluster.call(a, __MODULE__, :start_admitting, [])
    warm_up(a)
    report("join/4, alone", a, :join)
    report("join/4, alone, with admission", a, :admitted)
    report(":global.register_name, alone", a, :global)
    Cluster.connect([a, b])
    report("join/4, 2 nodes", a, :join)
    report(":global.register_name, 2 nodes", a, :global)
    Cluster.connect(nodes)
    report("join/4, 3 nodes", a, :join)
    report(":global.register_name, 3 nodes", a, :global)
    same_instant([a, b, c])
    Enum.each([c, b, a], &Cluster.stop/1)
  end

  defp warm_up(node),
    do: for(_ <- 1..3, do: Cluster.call(node, __MODULE__, :at_once, [:join, @users]))

  defp report(name, node, how) do
    one = for _ <- 1..@rounds, do: Cluster.call(node, __MODULE__, :sequential, [how, @users])
    many = for _ <- 1..@rounds, do: Cluster.call(node, __MODULE__, :at_once, [how, @users])
    [p50, p99, max] = many |> Enum.zip_with(&median/1)
    row([name | Enum.map([median(one), p50, p99, max], &round/1)])
  end

  # Both sides of the cluster's guarantee: the same user on every node.
  defp same_instant(nodes) do
    rounds = Cluster.race(nodes, "race", 100)
    winners = Enum.map(rounds, fn results -> Enum.count(results, &match?({:ok, _}, &1)) end)

    IO.puts(
      "\n100 users on 3 nodes at the same instant: #{inspect(Enum.frequencies(winners))} (winners => rounds)"
    )
  end

  # ---- on the node ----

  @doc "Another relay, which lets in only who has joined."
  def start_admitting do
    caller = self()

    # It lives as long as this process.
    spawn(fn ->
      opts = [
        name: @admitting,
        listen: "udp:127.0.0.1:0",
        relay_ip: "127.0.0.1",
        admission: :presence
      ]

      send(caller, {:started, Cromulent.Turn.Relay.start_link(opts)})
      Process.sleep(:infinity)
    end)

    receive do: ({:started, result} -> result)
  end

  @doc "The median of joins in one process after the other."
  def sequential(how, users) do
    topic = "bench:#{System.unique_integer()}"
    pids = for user <- 1..users, do: start(how, topic, user)

    times =
      for pid <- pids do
        send(pid, :go)
        receive do: ({^pid, us} -> us)
      end

    stop(pids)
    median(times)
  end

  @doc "`[p50, p99, max]` of joins at once."
  def at_once(how, users) do
    topic = "bench:#{System.unique_integer()}"
    pids = for user <- 1..users, do: start(how, topic, user)
    for pid <- pids, do: send(pid, :go)
    times = for pid <- pids, do: receive(do: ({^pid, us} -> us))
    stop(pids)
    sorted = Enum.sort(times)
    [Enum.at(sorted, div(users, 2)), Enum.at(sorted, div(users * 99, 100)), List.last(sorted)]
  end

  defp start(how, topic, user) do
    caller = self()

    spawn(fn ->
      receive do: (:go -> :ok)
      start = System.monotonic_time(:nanosecond)
      :ok = take(how, topic, "user-#{user}")
      send(caller, {self(), (System.monotonic_time(:nanosecond) - start) / 1_000})
      receive do: (:stop -> :ok)
    end)
  end

  defp take(:join, topic, user) do
    {:ok, %{expires_at: at}} = Turn.join(nil, topic, user)
    if is_integer(at), do: :ok
  end

  defp take(:admitted, topic, user) do
    {:ok, %{expires_at: at}} = Turn.join(nil, topic, user, relay: @admitting)
    if is_integer(at), do: :ok
  end

  defp take(:global, topic, user) do
    :yes = :global.register_name({topic, user}, self())
    {:ok, [_ | _]} = Turn.ice_servers(user)
    :ok
  end

  defp stop(pids) do
    for pid <- pids do
      monitor = Process.monitor(pid)
      send(pid, :stop)
      receive do: ({:DOWN, ^monitor, _, _, _} -> :ok)
    end

    # What the end of so many sets off is not part of the next round.
    _ = :sys.get_state(Cromulent.Turn.Places.Server)
    _ = :global.info()
  end

  # ---- figures ----

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp row([name | cells]) do
    IO.puts(
      String.pad_trailing(name, 34) <> Enum.map_join(cells, &String.pad_leading("#{&1}", 22))
    )
  end

  defp cpu do
    case File.read("/proc/cpuinfo") do
      {:ok, text} -> Regex.run(~r/model name\s*: (.*)/, text) |> List.wrap() |> List.last()
      _ -> "unknown CPU"
    end
  end
end
|> then(fn {:module, module, beam, _} -> File.write!(Path.join(beams, "#{module}.beam"), beam) end)

try do
  Cromulent.Turn.Bench.Join.run(String.to_charlist(beams))
after
  File.rm_rf!(beams)
end
