# What a client must do, whichever it is. Those whose package is not in this build are skipped, and say so.
defmodule Cromulent.Turn.HttpTest do
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Certificates, Http, HttpServer, LogWatch}

  @secret "MARKED-secret"
  @limit 262_144

  setup do
    LogWatch.start()
  end

  defp http_client(:otp, _cacertfile), do: :otp
  defp http_client(:req, _cacertfile), do: Req

  defp http_client(:finch, cacertfile) do
    name = :"finch_#{System.unique_integer([:positive])}"
    trusted = if cacertfile, do: [cacertfile: cacertfile], else: []
    pools = %{default: [conn_opts: [transport_opts: trusted]]}
    start_supervised!({Finch, name: name, pools: pools}, id: name)
    {Finch, name}
  end

  defp ask(client, url, more \\ []) do
    {method, more} = Keyword.pop(more, :method, :get)
    {headers, more} = Keyword.pop(more, :headers, [{"authorization", "Bearer " <> @secret}])
    {body, more} = Keyword.pop(more, :body, "")
    http = http_client(client, more[:http_cacertfile])
    opts = Keyword.merge([http: http, http_timeout: 20_000], more)
    result = Http.request(method, url <> "/path?key=" <> @secret, headers, body, opts)
    refute inspect(result, printable_limit: :infinity) =~ "MARKED"
    result
  end

  defp no_secret_in_log do
    for {_level, text} <- LogWatch.texts(), do: refute(text =~ "MARKED")
  end

  defp all_closed(server),
    do: eventually(fn -> HttpServer.connections(server) == 0 end, 10_000)

  defp in_bounds(ms, fun) do
    started = System.monotonic_time(:millisecond)
    result = fun.()
    # Half a second and more for a loaded machine.
    assert System.monotonic_time(:millisecond) - started < ms + 2_000
    result
  end

  for {client, package} <- [otp: :ssl, finch: Finch, req: Req] do
    @client client

    describe "#{client}" do
      unless Code.ensure_loaded?(package) do
        @describetag skip: "#{inspect(package)} is not in this build"
      end

      test "sends a request and gives the answer, whatever its status" do
        for status <- [200, 201, 400, 401, 404, 429, 500, 503] do
          server = HttpServer.start(fn _ -> {status, [{"Retry-After", "7"}], ~s({"a":1})} end)
          assert {:ok, response} = ask(@client, server.url)
          assert %{status: ^status, body: ~s({"a":1}), headers: headers} = response
          assert {"retry-after", "7"} in headers

          assert_receive {:http, _,
                          %{method: "GET", path: "/path", query: %{"key" => @secret}} = got}

          assert got.headers["authorization"] == "Bearer " <> @secret
          all_closed(server)
        end

        server = HttpServer.start(fn _ -> {:raw, "HTTP/1.1 204 No Content\r\n\r\n"} end)
        assert {:ok, %{status: 204, body: ""}} = ask(@client, server.url)
        no_secret_in_log()
      end

      test "sends bodies" do
        server = HttpServer.start(fn _ -> {200, "{}"} end)
        headers = [{"content-type", "application/json"}]

        for method <- [:post, :delete] do
          assert {:ok, %{status: 200}} =
                   ask(@client, server.url, method: method, headers: headers, body: ~s({"b":2}))

          verb = method |> to_string() |> String.upcase()
          assert_receive {:http, _, %{method: ^verb, body: ~s({"b":2}), headers: got}}
          assert got["content-type"] == "application/json"
        end
      end

      test "reads chunks" do
        chunks = "3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        server = HttpServer.start(fn _ -> {:raw, [head, chunks]} end)
        assert {:ok, %{status: 200, body: "abcdefg"}} = ask(@client, server.url)
      end

      test "follows no redirect" do
        other = HttpServer.start(fn _ -> {200, "other"} end)
        server = HttpServer.start(fn _ -> {302, [{"Location", other.url <> "/"}], ""} end)
        assert {:ok, %{status: 302}} = ask(@client, server.url)
        assert HttpServer.requests(server) == 1
        assert HttpServer.requests(other) == 0
      end

      test "gives up in time when no answer comes, or only in drops" do
        head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"

        for reply <- [:hang, {:trickle, head <> "drop"}, {:trickle, "HTTP/1.1 500 x\r\nx: y\r\n"}] do
          server = HttpServer.start(fn _ -> reply end)
          answer = in_bounds(600, fn -> ask(@client, server.url, http_timeout: 600) end)
          assert answer == {:error, :timeout}
          all_closed(server)
        end

        no_secret_in_log()
      end

      test "reads no more than it should" do
        fits = String.duplicate("x", @limit)

        for status <- [200, 500] do
          server = HttpServer.start(fn _ -> {status, fits} end)
          assert {:ok, %{status: ^status, body: ^fits}} = ask(@client, server.url)
          server = HttpServer.start(fn _ -> {:huge, status} end)
          assert ask(@client, server.url) == {:error, :too_large}
          all_closed(server)
          server = HttpServer.start(fn _ -> {:endless, status} end)
          assert ask(@client, server.url) == {:error, :too_large}
          all_closed(server)
        end

        no_secret_in_log()
      end

      test "tells when the connection ends too early" do
        head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
        chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n400\r\nabc"

        for reply <- [{:raw, ""}, {:raw, "HTTP/1.1 20"}, {:raw, head <> "abc"}, {:raw, chunk}] do
          server = HttpServer.start(fn _ -> reply end)
          assert {reply, ask(@client, server.url)} == {reply, {:error, :closed}}
        end

        no_secret_in_log()
      end

      test "tells what is not HTTP" do
        server = HttpServer.start(fn _ -> {:raw, "SSH-2.0-server\r\n\r\n"} end)
        assert ask(@client, server.url) == {:error, :bad_response}
        no_secret_in_log()
      end

      test "tells when nobody listens" do
        assert ask(@client, HttpServer.nowhere()) == {:error, {:connect, :econnrefused}}
        no_secret_in_log()
      end

      test "ends with its caller" do
        server = HttpServer.start(fn _ -> :hang end)
        http = http_client(@client, nil)
        opts = [http: http, http_timeout: 3_000]
        caller = spawn(fn -> Http.request(:get, server.url <> "/", [], "", opts) end)
        assert_receive {:http, _, _}, 10_000
        Process.exit(caller, :kill)
        all_closed(server)
      end

      test "asks a server whose certificate is right" do
        made = Certificates.make()
        server = HttpServer.start(fn _ -> {200, "{}"} end, tls: made.server)
        assert {:ok, %{status: 200}} = ask(@client, server.url, http_cacertfile: made.cacertfile)
        all_closed(server)
      end

      test "trusts no authority that it does not know" do
        server = HttpServer.start(fn _ -> {200, "{}"} end, tls: Certificates.make().server)
        other = Certificates.make().cacertfile
        assert {:error, {:tls, alert}} = ask(@client, server.url, http_cacertfile: other)
        assert alert in [:unknown_ca, :bad_certificate]
        assert {:error, {:tls, alert}} = ask(@client, server.url)
        assert alert in [:unknown_ca, :no_ca_certificates]
        assert HttpServer.requests(server) == 0
        no_secret_in_log()
      end

      test "trusts no certificate of another host, nor one that has expired" do
        for {made, expected} <- [
              {Certificates.make(host: "other.example"), [:hostname_check_failed]},
              {Certificates.make(validity: {{2020, 1, 1}, {2020, 2, 1}}), [:certificate_expired]}
            ] do
          server = HttpServer.start(fn _ -> {200, "{}"} end, tls: made.server)
          result = ask(@client, server.url, http_cacertfile: made.cacertfile)
          assert {:error, {:tls, alert}} = result
          assert alert in expected
          assert HttpServer.requests(server) == 0
        end

        no_secret_in_log()
      end

      test "tells what is not TLS" do
        server = HttpServer.start(fn _ -> {200, "{}"} end)
        url = String.replace(server.url, "http:", "https:")
        # The server waits for the rest of what it takes for a request.
        assert {:error, reason} = ask(@client, url, http_timeout: 1_000)

        assert reason in [:timeout, :closed, :failed, {:connect, :closed}] or
                 match?({:tls, _}, reason)

        assert HttpServer.requests(server) == 0
        no_secret_in_log()
      end

      test "prints nothing of a request whose connection was spoilt on the way" do
        made = Certificates.make()
        record = <<23, 3, 3, 0, 32, 0::256>>
        server = HttpServer.start(fn _ -> {:spoil, record} end, tls: made.server)
        assert {:error, reason} = ask(@client, server.url, http_cacertfile: made.cacertfile)
        assert reason in [{:tls, :bad_record_mac}, :closed]
        all_closed(server)
        no_secret_in_log()
      end
    end
  end

  describe "the contract" do
    defmodule Own do
      @behaviour Http
      @impl true
      def request(:get, "result:" <> name, [], "", opts) do
        case name do
          "opts" -> {:ok, %{status: 200, body: inspect(opts)}}
          "raise" -> raise "MARKED"
          "hang" -> Process.sleep(:infinity)
          "kill" -> Process.exit(self(), :kill)
          "large" -> {:ok, %{status: 200, body: String.duplicate("x", 262_145)}}
          "status" -> {:ok, %{status: "200", body: ""}}
          "body" -> {:ok, %{status: 200, body: nil}}
          "nothing" -> nil
          "error" -> {:error, %RuntimeError{message: "MARKED"}}
          "headers" -> {:ok, %{status: 200, body: "", headers: [{"a", "b"}, {"c", 1}, :d]}}
          "no headers" -> {:ok, %{status: 200, body: "", headers: "MARKED"}}
          "connect" -> {:error, {:connect, :ehostunreach}}
          "detail" -> {:error, {:tls, "MARKED"}}
        end
      end
    end

    test "is held for an application's own client" do
      own = fn name ->
        Http.request(:get, "result:" <> name, [], "", http: Own, http_timeout: 500)
      end

      assert {:ok, %{body: "[timeout: 450, max_body: 262144]"}} = own.("opts")
      assert own.("raise") == {:error, :crashed}
      assert own.("hang") == {:error, :timeout}
      assert own.("kill") == {:error, :crashed}
      assert own.("large") == {:error, :too_large}
      assert own.("status") == {:error, :bad_response}
      assert own.("body") == {:error, :bad_response}
      assert own.("nothing") == {:error, :bad_response}
      assert own.("error") == {:error, :failed}
      assert own.("headers") == {:ok, %{status: 200, body: "", headers: [{"a", "b"}]}}
      assert own.("no headers") == {:ok, %{status: 200, body: "", headers: []}}
      assert own.("connect") == {:error, {:connect, :ehostunreach}}
      assert own.("detail") == {:error, :failed}
      no_secret_in_log()
    end

    test "tells wrong options, and clients that are not there" do
      assert {:error, {:config, text}} = Http.request(:get, "x", [], "", http: :nobody)
      assert text =~ "http"
      assert {:error, {:config, _}} = Http.request(:get, "x", [], "", http_timeout: 0)
      opts = [http: {Finch, :no_such_pool}]
      assert Http.request(:get, "http://127.0.0.1/", [], "", opts) == {:error, :not_available}

      unless Code.ensure_loaded?(Req) do
        assert Http.request(:get, "http://127.0.0.1/", [], "", http: Req) ==
                 {:error, :not_available}
      end
    end

    test "is told a time that may be shortened" do
      assert Http.timeout([]) == {:ok, 5_000}
      assert Http.timeout(http_timeout: "700") == {:ok, 700}

      assert {:ok, %{body: "[timeout: 90, " <> _}} =
               Http.request(:get, "result:opts", [], "", http: Own, within: 100)
    end
  end
end
