# What a worker that stands still does to the others: `mix run bench/stall.exs`.
#
# A relay with two workers carries echoes of turnbench, which stops the busier of them for a few
# seconds (`turnbench -m stall`). Meanwhile statistics are asked for, over and over. Two lines of JSON:
# turnbench's own, and how the statistics fared.

defmodule Cromulent.Turn.Bench.Stall do
  @moduledoc false

  alias Cromulent.Turn.Relay

  require Logger

  @seconds 3
  @patience_ms 1_000
  @secret "benchsecret"
  @turnbench "_build/bench/turnbench"

  def run do
    Logger.configure(level: :error)

    relay =
      {Cromulent.Turn,
       listen: "udp:127.0.0.1:0",
       relay_ip: "127.0.0.1",
       realm: "bench",
       secret: @secret,
       workers: 2,
       allow_peers: "127.0.0.0/8"}

    {:ok, _} = Supervisor.start_link([relay], strategy: :one_for_one)
    {:ok, %{os_pid: pid, listen: ["udp:" <> server | _]}} = Relay.info()
    port = turnbench(pid, server)
    await(port, "stalled")
    times = ask_until(port, "going_on", [])
    IO.puts(await(port, "during"))
    report(times)
  end

  defp turnbench(pid, server) do
    args = ~w(-m stall -n 64 -r 2000 -t #{@seconds} -W #{@secret} -s #{server} -P #{pid})
    program = Path.expand(@turnbench)
    Port.open({:spawn_executable, program}, [:exit_status, {:line, 4096}, args: args])
  end

  # The line with this word in it; whatever else turnbench ends with is an error.
  defp await(port, word) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        if to_string(line) =~ word, do: line, else: await(port, word)

      {^port, {:exit_status, status}} ->
        raise "turnbench ended with status #{status}"
    end
  end

  # Asks until the line with this word comes.
  defp ask_until(port, word, times) do
    receive do
      {^port, {:data, {:eol, line}}} ->
        if to_string(line) =~ word, do: times, else: ask_until(port, word, times)

      {^port, {:exit_status, status}} ->
        raise "turnbench ended with status #{status}"
    after
      20 -> ask_until(port, word, [ask() | times])
    end
  end

  # Microseconds that an answer took, or nil.
  defp ask do
    start = System.monotonic_time(:microsecond)
    task = Task.async(fn -> Relay.stats() end)

    case Task.yield(task, @patience_ms) || Task.shutdown(task, :brutal_kill) do
      {:ok, {:ok, _stats}} -> System.monotonic_time(:microsecond) - start
      _ -> nil
    end
  end

  defp report(times) do
    answered = Enum.reject(times, &is_nil/1)
    slowest = Enum.max(answered, fn -> 0 end) / 1000

    IO.puts(
      ~s({"seconds":#{@seconds},"asked":#{length(times)},"answered":#{length(answered)},) <>
        ~s("patience_ms":#{@patience_ms},"slowest_ms":#{slowest}})
    )
  end
end

Cromulent.Turn.Bench.Stall.run()
