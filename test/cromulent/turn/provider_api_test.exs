# What users get, and what is told of it, when the API of a provider works and in every way it may fail.
defmodule Cromulent.Turn.ProviderApiTest do
  use ExUnit.Case, async: false

  alias Cromulent.Turn.{
    Certificates,
    Cloudflare,
    HttpServer,
    LogWatch,
    Metered,
    ProviderApi,
    Throttle
  }

  # Nothing that has this in it may be seen anywhere.
  @mark "MARKED"
  @key_id "MARKEDkeyid"
  @secret "MARKED-secret"
  @fallback [%{urls: "stun:stun.l.google.com:19302"}]

  setup do
    Throttle.reset()
    :telemetry.listen()
    LogWatch.start()
    :ok
  end

  defp opts(provider, url, more \\ [])

  defp opts(:metered, url, more),
    do: Keyword.merge([provider: :metered, metered_url: url, metered_secret_key: @secret], more)

  defp opts(:cloudflare, url, more) do
    Keyword.merge(
      [
        provider: :cloudflare,
        cloudflare_url: url,
        cloudflare_key_id: @key_id,
        cloudflare_api_token: @secret
      ],
      more
    )
  end

  defp api(:metered), do: ProviderApi.metered(@secret)
  defp api(:cloudflare), do: ProviderApi.cloudflare(@key_id, @secret)

  defp module(:metered), do: Metered
  defp module(:cloudflare), do: Cloudflare

  # Everything that was logged or sent as an event, which has no secret in it: `{lines, events}`.
  defp told do
    lines = for {level, text} <- LogWatch.texts(), level in [:error, :warning], do: text
    events = events()

    for text <- lines ++ [inspect(events, limit: :infinity, printable_limit: :infinity)],
        do: refute(text =~ @mark)

    {lines, events}
  end

  defp events do
    receive do
      {:telemetry, [:cromulent, :turn, :provider, name], measured, metadata} ->
        [{name, measured, metadata} | events()]
    after
      0 -> []
    end
  end

  defp in_bounds(ms, fun) do
    started = System.monotonic_time(:millisecond)
    result = fun.()
    # Two seconds for a loaded machine.
    assert System.monotonic_time(:millisecond) - started < ms + 2_000
    result
  end

  for provider <- [:metered, :cloudflare] do
    @provider provider

    describe "#{provider}" do
      test "gives relays, and says how long it took" do
        server = HttpServer.start(api(@provider))
        assert {:ok, servers} = Cromulent.Turn.ice_servers("alice", opts(@provider, server.url))

        assert Enum.any?(
                 servers,
                 &match?(%{urls: "turn:" <> _, username: "user-1", credential: "password-1"}, &1)
               )

        assert length(servers) in 5..8

        payload = Cromulent.Turn.payload("alice", opts(@provider, server.url))
        assert payload.ice_servers == servers
        assert_in_delta payload.expires_at, System.os_time(:second) + 3600, 30

        assert {[], events} = told()
        operations = for {:request, %{duration_ms: ms}, event} when ms >= 0 <- events, do: event
        names = if @provider == :metered, do: [:create, :get], else: [:generate]
        assert Enum.map(operations, & &1.operation) == names

        for event <- operations do
          assert %{provider: @provider, outcome: :ok, status: status} = event
          assert status in [200, 201]
        end
      end

      for {name, _reply, _reason} <- ProviderApi.failures() do
        @failure name

        test "falls back on #{name}" do
          {_name, reply, right} = List.keyfind(ProviderApi.failures(), @failure, 0)
          server = HttpServer.start(fn _ -> reply end)

          # Only who waits for nothing needs a short wait; all else may take long on a loaded machine.
          bound = if right == :timeout, do: 400, else: 20_000
          opts = opts(@provider, server.url, http_timeout: bound)

          for _ <- 1..3 do
            assert in_bounds(bound, fn -> Cromulent.Turn.ice_servers("alice", opts) end) ==
                     {:ok, @fallback}
          end

          # Kept, not asked again.
          assert HttpServer.requests(server) == 1
          assert {:error, reason} = module(@provider).offer("alice", opts)
          assert reason in List.wrap(right)

          {lines, events} = told()
          assert [line] = lines
          assert line =~ "TURN provider #{@provider} failed"

          assert [_, _, _] =
                   for({:fallback, _, %{reason: ^reason, provider: @provider}} <- events, do: 1)

          assert [event] = for({:request, _, event} <- events, do: event)
          assert %{provider: @provider} = event
        end
      end

      test "falls back when nobody listens, and when there is no TLS to trust" do
        opts = opts(@provider, HttpServer.nowhere())
        assert Cromulent.Turn.ice_servers("alice", opts) == {:ok, @fallback}
        assert module(@provider).offer("alice", opts) == {:error, {:connect, :econnrefused}}
        # Two causes may share a slot of the throttle.
        Throttle.reset()

        server = HttpServer.start(api(@provider), tls: Certificates.make().server)
        opts = opts(@provider, server.url, http_cacertfile: Certificates.make().cacertfile)
        assert Cromulent.Turn.ice_servers("alice", opts) == {:ok, @fallback}
        assert {:error, {:tls, _}} = module(@provider).offer("alice", opts)
        assert HttpServer.requests(server) == 0
        assert {[_, _], _events} = told()
      end

      test "works over TLS that is right" do
        made = Certificates.make()
        server = HttpServer.start(api(@provider), tls: made.server)
        opts = opts(@provider, server.url, http_cacertfile: made.cacertfile)
        assert {:ok, [_, %{credential: _} | _]} = Cromulent.Turn.ice_servers("alice", opts)
        assert {[], _} = told()
      end

      test "falls back when keys are missing or wrong, and does not print them" do
        assert Cromulent.Turn.ice_servers("alice", provider: @provider) == {:ok, @fallback}
        Throttle.reset()

        wrong =
          opts(@provider, "https://app.example",
            metered_secret_key: "MARKED key",
            cloudflare_api_token: "MARKED key"
          )

        assert Cromulent.Turn.ice_servers("alice", wrong) == {:ok, @fallback}
        assert {[_, _], _} = told()
      end

      test "keeps the keys out of sight when a client of the application's fails with them" do
        defmodule :"Elixir.Cromulent.Turn.ProviderApiTest.Leaky#{@provider}" do
          @behaviour Cromulent.Turn.Http
          @impl true
          def request(_method, url, headers, body, _opts),
            do: raise("cannot ask #{url} #{inspect(headers)} #{body}")
        end

        leaky = :"Elixir.Cromulent.Turn.ProviderApiTest.Leaky#{@provider}"
        opts = opts(@provider, "https://app.example", http: leaky)
        assert Cromulent.Turn.ice_servers("alice", opts) == {:ok, @fallback}
        assert module(@provider).offer("alice", opts) == {:error, :crashed}
        assert {[_], _} = told()
      end

      test "is left alone after five failures, and the next in the chain is asked" do
        server = HttpServer.start(fn _ -> {500, ""} end)
        opts = opts(@provider, server.url)

        for n <- 1..5,
            do: assert({:error, {:http_error, 500}} = module(@provider).offer("user #{n}", opts))

        assert module(@provider).offer("user 6", opts) == {:error, :circuit_open}
        assert HttpServer.requests(server) == 5

        other = if @provider == :metered, do: :cloudflare, else: :metered
        second = HttpServer.start(api(other))
        chain = Keyword.merge(opts, opts(other, second.url, provider: [@provider, other]))

        assert {:ok, [_, %{credential: "password-1"} | _]} =
                 Cromulent.Turn.ice_servers("user 7", chain)

        assert HttpServer.requests(server) == 5
        assert {[line], _} = told()
        assert line =~ "asking :#{other} instead"
      end

      test "is left alone for as long as it says" do
        for status <- [429, 503] do
          server = HttpServer.start(fn _ -> {status, [{"Retry-After", "60"}], ""} end)
          opts = opts(@provider, server.url)
          assert {:error, {:http_error, ^status}} = module(@provider).offer("alice", opts)
          assert module(@provider).offer("bob", opts) == {:error, :circuit_open}
          assert HttpServer.requests(server) == 1
        end
      end
    end
  end
end
