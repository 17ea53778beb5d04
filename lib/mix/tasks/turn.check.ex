defmodule Mix.Tasks.Turn.Check do
  @shortdoc "Checks that a TURN server relays"

  @moduledoc """
  Does what a call would do with a TURN server, over UDP, TCP, TLS or DTLS: Binding, two allocations, permissions, a round trip
  from one to the other, Refresh, release. It prints a line per step with its time, and why when one fails.

      mix turn.check --url turn:turn.example.org:3478 --username U --credential C
      mix turn.check --url turn:turn.example.org:3478 --secret S
      mix turn.check --url turns:turn.example.org:5349?transport=tcp --secret S
      mix turn.check

  With `--secret`, or `TURN_SECRET` where neither that nor `--username` is given, time-limited credentials are
  made for the check. With `--realm`, or `TURN_REALM`, a 401 from a server with another realm says so.

  Over TLS the server's certificate must be good for the host of the URL, by the roots that this machine trusts;
  `--insecure` takes any.

  Without `--url` it is the relay that this configuration (`TURN_LISTEN` and so on) describes: one is started
  for the check, and each of its listeners is checked. If its ports are taken, what has them is checked, which
  needs the secret.

  With admission (docs/admission.md) the check admits its own user to the relay that it started. A relay that was found
  running refuses it: there it is 403 at the step "allocate".

  The exit status is 0 when every step passed, 1 when one failed, and 2 for unknown flags and wrong values.
  """

  use Mix.Task

  alias Cromulent.Turn.{Address, Check, Config, Option, Program}

  @task "turn.check"
  @switches [
    url: :string,
    username: :string,
    credential: :string,
    secret: :string,
    realm: :string,
    insecure: :boolean
  ]
  @default_ports %{"turn" => 3478, "turns" => 5349}

  @impl true
  def run(argv) do
    flags = Mix.Turn.parse(@task, argv, @switches)
    check_flags(flags)
    Mix.Turn.boot()
    targets = if flags[:url], do: [given(flags)], else: configured(flags)
    results = for target <- targets, do: check(target)
    Mix.Turn.stop_relay()

    if Enum.all?(results, &(&1 == :ok)),
      do: IO.puts("ok: every step passed"),
      else: exit({:shutdown, 1})
  end

  defp check(target) do
    {ip, port} = target.address
    over = target.transport |> to_string() |> String.upcase()
    IO.puts("#{Address.to_host(ip)}:#{port} over #{over}")
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
    given? = &Keyword.has_key?(flags, &1)

    cond do
      given?.(:secret) and given?.(:username) ->
        fail(2, "--secret: makes credentials itself, without --username and --credential")

      given?.(:username) != given?.(:credential) ->
        fail(2, "--username and --credential: the one needs the other")

      given?.(:username) and not given?.(:url) ->
        fail(2, "--username: needs --url")

      true ->
        :ok
    end
  end

  defp given(flags) do
    {transport, host, port} = parse_url(flags[:url])
    realm = checked(Option.fetch(:realm, Keyword.take(flags, [:realm]), :flag))

    %{
      address: resolve({host, port}),
      transport: transport,
      tls: tls(host, flags[:insecure]),
      credentials: credentials(flags),
      realm: realm
    }
  end

  defp credentials(flags) do
    if flags[:username],
      do: {flags[:username], flags[:credential]},
      else: {:secret, secret(flags)}
  end

  defp secret(flags) do
    case checked(Option.fetch(:secret, Keyword.take(flags, [:secret]), :flag)) do
      [secret | _] -> fn -> secret end
      nil -> fail(2, "--url: needs --username and --credential, or --secret, or TURN_SECRET")
    end
  end

  defp checked({:ok, value}), do: value
  defp checked(:unset), do: nil
  defp checked({:error, {:config, text}}), do: fail(2, text)

  # RFC 7065 §3.1
  defp parse_url(url) do
    with [scheme, rest] when scheme in ["turn", "turns"] <- String.split(url, ":", parts: 2),
         [authority | query] <- String.split(rest, "?"),
         {:ok, transport} <- transport(scheme, query),
         [_, host | port] <-
           Regex.run(~r/^(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?$/, authority),
         port = if(port == [], do: @default_ports[scheme], else: String.to_integer(hd(port))),
         true <- port in 1..65_535 do
      {transport, host, port}
    else
      _ ->
        expected =
          "must be turn:HOST:PORT or turns:HOST:PORT, such as turn:192.0.2.1:3478?transport=tcp"

        fail(2, "--url #{inspect(url)}: #{expected}")
    end
  end

  defp transport("turn", query) when query in [[], ["transport=udp"]], do: {:ok, :udp}
  defp transport("turn", ["transport=tcp"]), do: {:ok, :tcp}
  defp transport("turns", query) when query in [[], ["transport=tcp"]], do: {:ok, :tls}
  defp transport("turns", ["transport=udp"]), do: {:ok, :dtls}
  defp transport(_scheme, _query), do: :error

  defp tls(_host, true), do: [verify: :verify_none]

  defp tls(host, _insecure) do
    trusted = [verify: :verify_peer, cacerts: roots(), depth: 10]

    # An address is checked as one without further ado (RFC 6066 §3 has no address as a server's name).
    if Address.parse(host) == :error,
      do: [server_name_indication: to_charlist(host)] ++ trusted,
      else: trusted
  end

  # None is no reason to fail before TLS is needed.
  defp roots do
    :public_key.cacerts_get()
  rescue
    _ in [ErlangError, MatchError, FunctionClauseError] -> []
  end

  defp resolve({host, port}) do
    with :error <- Address.parse(host),
         {:error, _} <- :inet.getaddr(to_charlist(host), :inet),
         {:error, reason} <- :inet.getaddr(to_charlist(host), :inet6) do
      fail(1, "unreachable: #{host} does not resolve: #{:inet.format_error(reason)}")
    else
      {:ok, ip} -> {ip, port}
    end
  end

  # ---- the configured relay ----

  defp configured(flags) do
    opts = Keyword.take(flags, [:secret, :realm])
    config = checked(Config.new(opts, :flag))

    for {transport, ip, port} <- listeners(config, opts) do
      %{
        transport: transport,
        tls: [verify: :verify_none],
        address: {reached(ip), port},
        credentials: {:secret, fn -> hd(config.secrets.()) end},
        realm: config.realm
      }
    end
  end

  defp listeners(config, opts) do
    case Mix.Turn.start_relay(opts) do
      {:ok, info} ->
        if Mix.Turn.admit("turn.check") == :ok,
          do: IO.puts("admission is on: the user of this check is admitted")

        for text <- info.listen, {:ok, listener} = Config.parse_listener(text), do: listener

      {:error, {:listen, listener, :eaddrinuse}} when config.random_secret? ->
        fail(1, "#{listener} is in use: to check what runs there, set TURN_SECRET, or give --url")

      {:error, {:listen, listener, :eaddrinuse}} ->
        IO.puts("#{listener} is in use: checking what runs there")
        config.listen

      {:error, reason} ->
        fail(1, Program.describe(reason))
    end
  end

  defp reached({0, 0, 0, 0}), do: {127, 0, 0, 1}
  defp reached({0, 0, 0, 0, 0, 0, 0, 0}), do: {0, 0, 0, 0, 0, 0, 0, 1}
  defp reached(ip), do: ip

  defp fail(status, text), do: Mix.Turn.fail(@task, status, text)
end
