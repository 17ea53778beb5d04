# What admissions cost: `mix run bench/admission.exs`, after `make bench-build`.
#
# How many grants a second reach a real relay and are in force there: told one by one by those who join, and collected by
# the relay's owner, as after a restart or when joins come faster than the relay reads; and how many are
# withdrawn. Then the latency of packets from client to client (turnbench -m pair, 20,000 a second, in scope room):
# alone, while 50,000 users a second are admitted to the same relay, and, since all share this machine's
# cores, while as many are admitted to another relay.

defmodule Cromulent.Turn.Bench.Admission do
  @moduledoc false

  alias Cromulent.Turn.{Admission, Relay}

  require Logger

  @grants 100_000
  @rounds 3
  @askers 4
  # A second; each millisecond its part.
  @paced 50_000
  @seconds 5
  @secret "benchsecret"
  @turnbench "_build/bench/turnbench"
  @room 20

  def run do
    Logger.configure(level: :error)
    IO.puts("Elixir #{System.version()}, OTP #{System.otp_release()}, load #{load()}\n")
    IO.puts(pad("") <> cells(["per second", "least", "most", "relay CPU µs", "BEAM CPU µs"]))
    relay = start(:bench, admission: :room)
    rates("grants, by those who join", relay, &Admission.hold/3)
    rates("grants, collected by the owner", relay, &collected/3)
    latencies(relay, start(:other, admission: :room))
  end

  defp start(name, opts) do
    {:ok, _} =
      Relay.start_link(
        [
          name: name,
          listen: "udp:127.0.0.1:0",
          relay_ip: "127.0.0.1",
          realm: "bench",
          secret: @secret,
          workers: 1,
          max_grants: 2_000_000
        ] ++ opts
      )

    name
  end

  # ---- rates ----

  defp rates(name, relay, hold) do
    {up, down} = Enum.unzip(for _ <- 1..@rounds, do: round_trip(relay, hold))
    show(name, up)
    show("  and withdrawn", down)
  end

  # As many as there are, from the first to the moment when the relay has them all; and back.
  defp round_trip(relay, hold) do
    holders = for n <- 1..@grants, do: {holder(n), {relay, "user #{n}", "room #{div(n, @room)}"}}
    parts = Enum.chunk_every(holders, div(@grants, @askers))
    up = timed(parts, fn {ref, grant} -> hold.(ref, nil, grant) end, relay, @grants)
    down = timed(parts, fn {ref, _grant} -> Admission.release(ref) end, relay, 0)
    {up, down}
  end

  # How many a second, and the CPU time of each in the relay and in the BEAM, in µs.
  defp timed(parts, work, relay, count) do
    {:ok, %{os_pid: pid}} = Relay.info(relay)
    {start, before} = {System.monotonic_time(:microsecond), cpu(pid)}
    parts |> Enum.map(&Task.async(fn -> Enum.each(&1, work) end)) |> Task.await_many(120_000)
    await(relay, count)
    rate = @grants * 1_000_000 / (System.monotonic_time(:microsecond) - start)

    [
      rate
      | Enum.zip_with([cpu(pid), before], fn [later, sooner] -> (later - sooner) / @grants end)
    ]
  end

  # The kernel's account of the threads of the relay and of the BEAM, in µs.
  defp cpu(pid) do
    for os_pid <- [pid, System.pid()] do
      for thread <- File.ls!("/proc/#{os_pid}/task"),
          {:ok, text} <- [File.read("/proc/#{os_pid}/task/#{thread}/schedstat")],
          reduce: 0,
          do: (sum -> sum + (text |> String.split() |> hd() |> String.to_integer()) / 1000)
    end
  end

  # Held by a process that lives on: holders that are places would have to be there, or are swept away.
  defp holder(n), do: {:app, Process.whereis(Cromulent.Turn.Places.Tables), n, ""}

  defp collected(ref, key, {relay, user, room} = grant) do
    Admission.put(ref, key, grant)
    GenServer.cast(relay, {:grants, [{user, room}]})
  end

  # The command comes after all others; what it asks for is true of what was before.
  defp await(relay, count) do
    case Relay.stats(relay) do
      {:ok, %{grants: ^count}} -> :ok
      _ -> Process.sleep(1) && await(relay, count)
    end
  end

  # ---- latency ----

  defp latencies(relay, other) do
    # Those whose clients turnbench is: neighbours call each other.
    for n <- 0..63, do: :ok = Relay.admit("user#{n}", "call #{div(n, 2)}", relay)

    IO.puts(
      "\n#{pad("µs of 160-byte packets, pair")}#{cells(["p50", "p99", "p99.9", "delivered", "admitted/s"])}"
    )

    for _ <- 1..@rounds,
        {name, to} <- [
          {"alone", nil},
          {"admissions to it", relay},
          {"admissions to another", other}
        ] do
      load = to && Task.async(fn -> pace(to, now(), 0, []) end)
      found = turnbench(relay)
      {admitted, refs} = if load, do: stop(load), else: {0, []}
      Enum.each(refs, &Admission.release/1)
      if to, do: await(to, if(to == relay, do: 64, else: 0))
      {name, found ++ [admitted]}
    end
    |> Enum.group_by(&elem(&1, 0), &elem(&1, 1))
    |> Enum.each(fn {name, rows} ->
      IO.puts(pad(name) <> cells(rows |> Enum.zip_with(&median/1)))
    end)
  end

  # One more millisecond's admissions, until told to stop.
  defp pace(relay, start, made, refs) do
    receive do
      {:stop, from} ->
        send(from, {self(), round(made * 1000 / max(now() - start, 1)), refs})
    after
      0 ->
        due = div((now() - start) * @paced, 1000)

        new =
          for n <- (made + 1)..due//1 do
            ref = holder(n)
            Admission.hold(ref, nil, {relay, "guest #{n}", "room #{div(n, @room)}"})
            ref
          end

        Process.sleep(1)
        pace(relay, start, max(due, made), new ++ refs)
    end
  end

  defp stop(%{pid: pid}) do
    send(pid, {:stop, self()})
    receive do: ({^pid, rate, refs} -> {rate, refs})
  end

  defp turnbench(relay) do
    {:ok, %{os_pid: pid, listen: ["udp:" <> server | _]}} = Relay.info(relay)
    args = ~w(-m pair -n 64 -r 20000 -t #{@seconds} -W #{@secret} -s #{server} -P #{pid})
    {line, 0} = System.cmd(Path.expand(@turnbench), args, stderr_to_stdout: true)
    for key <- ~w(p50_us p99_us p999_us delivered), do: number(line, key)
  end

  defp number(json, key) do
    [_, text] = Regex.run(~r/"#{key}":\s*([0-9.]+)/, json)
    {number, _} = Float.parse(text)
    number
  end

  # ---- figures ----

  defp median(values), do: values |> Enum.sort() |> Enum.at(div(length(values), 2))

  defp show(name, rows) do
    [rates, relay, beam] = Enum.zip_with(rows, & &1)
    rates = for value <- [median(rates), Enum.min(rates), Enum.max(rates)], do: round(value)
    IO.puts(pad(name) <> cells(rates ++ [median(relay), median(beam)]))
  end

  defp pad(name), do: String.pad_trailing(name, 36)
  defp cells(values), do: Enum.map_join(values, &String.pad_leading(cell(&1), 14))
  defp cell(value) when is_float(value), do: :erlang.float_to_binary(value, decimals: 1)
  defp cell(value), do: to_string(value)
  defp now, do: System.monotonic_time(:millisecond)

  defp load,
    do:
      with(
        {:ok, text} <- File.read("/proc/loadavg"),
        do: hd(String.split(text)),
        else: (_ -> "?")
      )
end

Cromulent.Turn.Bench.Admission.run()
