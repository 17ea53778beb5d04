defmodule Mix.Tasks.Turn.Check do
  @shortdoc "Checks that a TURN server relays"

  @moduledoc """
  Does what a call would do with a TURN server over UDP: Binding, two allocations, permissions, a round trip
  from one to the other, Refresh, release. It prints a line per step with its time, and why when one fails.

      mix turn.check --url turn:turn.example.org:3478 --username U --credential C
      mix turn.check --url turn:turn.example.org:3478 --secret S
      mix turn.check

  With `--secret`, or `TURN_SECRET` where neither that nor `--username` is given, time-limited credentials are
  made for the check. With `--realm`, or `TURN_REALM`, a 401 from a server with another realm says so.

  Without `--url` it is the relay that this configuration (`TURN_LISTEN` and so on) describes: one is started
  for the check, and each of its listeners is checked. If its ports are taken, it runs already, and that one is
  checked, which needs `TURN_SECRET`.

  The exit status is 0 when every step passed, 1 when one failed, and 2 for unknown flags and wrong values.
  """

  use Mix.Task

  alias Cromulent.Turn.{Address, Check, Config, Option, Relay}

  @task "turn.check"
  @switches [
    url: :string,
    username: :string,
    credential: :string,
    secret: :string,
    realm: :string
  ]
  @default_port 3478

  @impl true
  def run(argv) do
    flags = Mix.Turn.parse(@task, argv, @switches)
    check_flags(flags)
    Mix.Turn.boot()
    targets = if flags[:url], do: [given(flags)], else: configured()
    results = for target <- targets, do: check(target)
    Supervisor.terminate_child(Cromulent.Turn.Application, Cromulent.Turn)

    if Enum.all?(results, &(&1 == :ok)),
      do: IO.puts("ok: every step passed"),
      else: exit({:shutdown, 1})
  end

  defp check(target) do
    {ip, port} = target.address
    IO.puts("#{Address.to_host(ip)}:#{port} over UDP")
    Check.run(target, &print/1)
  end

  defp print(step) do
    {verdict, text} = step.result
    word = if verdict == :ok, do: "ok    ", else: "FAILED"
    ms = step.ms |> :erlang.float_to_binary(decimals: 1) |> String.pad_leading(8)
    IO.puts("  #{word} #{String.pad_trailing(step.name, 18)} #{ms} ms  #{text}")
  end

  # ---- flags ----

  defp check_flags(flags) do
    cond do
      flags[:secret] && (flags[:username] || flags[:credential]) ->
        Mix.Turn.fail(
          @task,
          2,
          "--secret: makes credentials itself, without --username and --credential"
        )

      flags[:username] == nil != (flags[:credential] == nil) ->
        Mix.Turn.fail(@task, 2, "--username and --credential: the one needs the other")

      flags[:url] == nil and flags != [] ->
        Mix.Turn.fail(@task, 2, "--url: the other flags need it")

      true ->
        :ok
    end
  end

  defp given(flags) do
    address = flags[:url] |> parse_url() |> resolve()

    %{
      address: address,
      credentials: credentials(flags),
      realm: flags[:realm] || configured_realm()
    }
  end

  defp credentials(flags) do
    if flags[:username],
      do: {flags[:username], flags[:credential]},
      else: {:secret, secret(flags)}
  end

  defp secret(flags) do
    case Option.fetch(:secret, Keyword.take(flags, [:secret]), :flag) do
      {:ok, [secret | _]} ->
        fn -> secret end

      :unset ->
        Mix.Turn.fail(
          @task,
          2,
          "--url: needs --username and --credential, or --secret, or TURN_SECRET"
        )

      {:error, {:config, text}} ->
        Mix.Turn.fail(@task, 2, text)
    end
  end

  defp configured_realm do
    case Option.fetch(:realm, []) do
      {:ok, realm} -> realm
      _ -> nil
    end
  end

  # RFC 7065 §3.1
  defp parse_url(url) do
    with "turn:" <> rest <- url,
         [authority | query] when query in [[], ["transport=udp"]] <- String.split(rest, "?"),
         [_, host | port] <-
           Regex.run(~r/^(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?$/, authority),
         port = if(port == [], do: @default_port, else: String.to_integer(hd(port))),
         true <- port in 1..65_535 do
      {host, port}
    else
      _ ->
        expected = "must be turn:HOST:PORT, such as turn:192.0.2.1:3478; only UDP so far"
        Mix.Turn.fail(@task, 2, "--url #{inspect(url)}: #{expected}")
    end
  end

  defp resolve({host, port}) do
    with :error <- Address.parse(host),
         {:error, _} <- :inet.getaddr(to_charlist(host), :inet),
         {:error, reason} <- :inet.getaddr(to_charlist(host), :inet6) do
      Mix.Turn.fail(
        @task,
        1,
        "unreachable: #{host} does not resolve: #{:inet.format_error(reason)}"
      )
    else
      {:ok, ip} -> {ip, port}
    end
  end

  # ---- the configured relay ----

  defp configured do
    config =
      case Config.new() do
        {:ok, config} -> config
        {:error, {:config, text}} -> Mix.Turn.fail(@task, 2, text)
      end

    for {:udp, ip, port} <- listeners(config) do
      %{
        address: {reached(ip), port},
        credentials: {:secret, fn -> hd(config.secrets.()) end},
        realm: config.realm
      }
    end
  end

  defp listeners(config) do
    case Supervisor.start_child(Cromulent.Turn.Application, Cromulent.Turn) do
      {:ok, _} ->
        {:ok, info} = Relay.info()
        for text <- info.listen, {:ok, listener} = Config.parse_listener(text), do: listener

      {:error, {:listen, listener, :eaddrinuse}} when config.random_secret? ->
        Mix.Turn.fail(
          @task,
          1,
          "#{listener} is in use: to check what runs there, set TURN_SECRET, or give --url"
        )

      {:error, {:listen, _listener, :eaddrinuse}} ->
        IO.puts("the ports are in use: checking the relay that has them")
        config.listen

      {:error, reason} ->
        Mix.Turn.fail(@task, 1, Mix.Turn.describe(reason))
    end
  end

  defp reached({0, 0, 0, 0}), do: {127, 0, 0, 1}
  defp reached({0, 0, 0, 0, 0, 0, 0, 0}), do: {0, 0, 0, 0, 0, 0, 0, 1}
  defp reached(ip), do: ip
end
