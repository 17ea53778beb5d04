# What the client over OTP makes of answers that are seldom or hostile. What every client must do is in
# `Cromulent.Turn.HttpTest`.
defmodule Cromulent.Turn.Http.OtpTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 2]

  alias Cromulent.Turn.{Certificates, Http, HttpServer}
  alias Cromulent.Turn.Http.Otp

  defp ask(reply, headers \\ []) do
    server = HttpServer.start(fn _ -> reply end)
    Otp.request(:get, server.url <> "/", headers, "", timeout: 20_000, max_body: 1_000)
  end

  defp raw(text), do: ask({:raw, text})

  defp chunked(chunks),
    do: raw(["HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n" | chunks])

  test "asks for what the URL says, and who" do
    server = HttpServer.start(fn _ -> {200, ""} end)

    for {path, target, query} <- [{"", "/", %{}}, {"/a%20b?c=d%26", "/a%20b", %{"c" => "d&"}}] do
      options = [timeout: 20_000, max_body: 10]
      assert {:ok, %{status: 200}} = Otp.request(:get, server.url <> path, [], "", options)
      assert_receive {:http, _, %{method: "GET", path: ^target, query: ^query, headers: headers}}
      assert headers["host"] == "127.0.0.1:#{server.port}"
      assert headers["connection"] == "close"
      refute is_map_key(headers, "content-length")
    end
  end

  test "sends nothing that would be two requests, and nothing without a host" do
    server = HttpServer.start(fn _ -> {200, ""} end)
    options = [timeout: 20_000, max_body: 10]

    for {url, headers} <- [
          {server.url <> "/a b", []},
          {server.url <> "/a\r\nx: y", []},
          {server.url <> "/", [{"a", "b\r\nc: d"}]},
          {server.url <> "/", [{"a\n", "b"}]},
          {"http:///path", []},
          {"/path", []},
          {"ftp://127.0.0.1/", []}
        ] do
      assert Otp.request(:get, url, headers, "", options) == {:error, :failed}
    end

    assert HttpServer.requests(server) == 0
  end

  test "waits for the end of interim answers" do
    assert {:ok, %{status: 200, body: "ok"}} =
             raw(
               "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
             )
  end

  test "reads to the end of the connection where no length is given" do
    assert {:ok, %{status: 200, body: "until the end"}} =
             raw("HTTP/1.0 200 OK\r\n\r\nuntil the end")

    assert raw(["HTTP/1.0 200 OK\r\n\r\n", :binary.copy("x", 1_001)]) == {:error, :too_large}
  end

  test "reads chunks with extensions and trailers" do
    assert {:ok, %{body: "abcdef"}} =
             chunked("3;name=value\r\nabc\r\n03 \r\ndef\r\n0\r\nx: y\r\nz: w\r\n\r\n")
  end

  test "refuses chunks that are none" do
    for chunks <- [
          "x\r\n",
          "-1\r\n",
          "3\r\nabcd\r\n0\r\n\r\n",
          "\r\n\r\n",
          :binary.copy("0", 2_000)
        ],
        do: assert({chunks, chunked(chunks)} == {chunks, {:error, :bad_response}})

    assert chunked("3E9\r\n") == {:error, :too_large}
    assert chunked(["0\r\n", :binary.copy("a: b\r\n", 10_000)]) == {:error, :too_large}
    assert chunked("3\r\nab") == {:error, :closed}
    assert chunked("3\r\nabc\r\n0\r\n") == {:error, :closed}
  end

  test "takes the length as it is given, once" do
    length = &raw("HTTP/1.1 200 OK\r\n#{&1}\r\n\r\nab")
    assert {:ok, %{body: "ab"}} = length.("Content-Length: 2")
    assert {:ok, %{body: "a"}} = length.("Content-Length: 1\r\nContent-Length: 1")
    assert length.("Content-Length: 1\r\nContent-Length: 2") == {:error, :bad_response}
    assert length.("Content-Length: -2") == {:error, :bad_response}
    assert length.("Content-Length: 2, 2") == {:error, :bad_response}
    assert length.("Content-Length: 99999999999999999999999") == {:error, :bad_response}
    assert length.("Content-Length: 999999999999999999") == {:error, :too_large}
    assert length.("Transfer-Encoding: gzip, chunked") == {:error, :bad_response}
  end

  test "reads no endless head, and no head that is none" do
    assert raw(["HTTP/1.1 200 OK\r\n", :binary.copy("a: b\r\n", 10_000)]) ==
             {:error, :bad_response}

    assert raw("HTTP/1.1 200 OK\r\nno colon\r\n\r\n") == {:error, :bad_response}
    assert raw("HTTP/2 200 OK\r\n\r\n") == {:error, :bad_response}
    assert raw("HTTP/1.1 99 OK\r\n\r\n") == {:error, :bad_response}
    assert raw("GET / HTTP/1.1\r\n\r\n") == {:error, :bad_response}
    assert raw(<<0, 255, 13, 10, 13, 10>>) == {:error, :bad_response}
  end

  test "has no body where there can be none" do
    for status <- [204, 304],
        do:
          assert(
            {:ok, %{status: ^status, body: ""}} =
              raw("HTTP/1.1 #{status} x\r\ncontent-length: 5\r\n\r\nabcde")
          )
  end

  case :gen_tcp.listen(0, [:inet6, ip: {0, 0, 0, 0, 0, 0, 0, 1}]) do
    {:ok, listener} -> :gen_tcp.close(listener)
    {:error, reason} -> @tag skip: "this host has no IPv6 (#{reason})"
  end

  test "asks over IPv6" do
    address = [:binary, :inet6, ip: {0, 0, 0, 0, 0, 0, 0, 1}, active: false]
    {:ok, listener} = :gen_tcp.listen(0, address)
    {:ok, port} = :inet.port(listener)

    task =
      Task.async(fn ->
        {:ok, socket} = :gen_tcp.accept(listener)
        {:ok, request} = :gen_tcp.recv(socket, 0)
        :gen_tcp.send(socket, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        request
      end)

    options = [timeout: 20_000, max_body: 10]
    assert {:ok, %{status: 200}} = Otp.request(:get, "http://[::1]:#{port}/", [], "", options)
    assert Task.await(task) =~ "host: [::1]:#{port}\r\n"
  end

  test "says when the certificates to trust cannot be read" do
    options = [timeout: 20_000, max_body: 10, cacertfile: "/no/such/file.pem"]

    server = HttpServer.start(fn _ -> {200, ""} end, tls: Certificates.make().server)

    assert Otp.request(:get, server.url, [], "", options) == {:error, {:tls, :bad_cacertfile}}
  end

  test "speaks TLS 1.2 and 1.3, and nothing older" do
    for {version, result} <- ["tlsv1.3": :ok, "tlsv1.2": :ok, "tlsv1.1": :error] do
      made = Certificates.make()
      server = HttpServer.start(fn _ -> {200, ""} end, tls: [versions: [version]] ++ made.server)
      options = [timeout: 20_000, max_body: 10, cacertfile: made.cacertfile]
      answer = Otp.request(:get, server.url, [], "", options)
      assert {version, elem(answer, 0)} == {version, result}

      # Which of the two alerts, the release of OTP decides.
      if result == :error do
        assert {:error, {:tls, alert}} = answer
        assert alert in [:protocol_version, :insufficient_security]
      end
    end
  end

  test "leaves no TLS connection behind, whoever gives up" do
    made = Certificates.make()
    server = HttpServer.start(fn _ -> :hang end, tls: made.server)

    ask = fn ms ->
      Http.request(:get, server.url, [], "", http_cacertfile: made.cacertfile, http_timeout: ms)
    end

    assert ask.(1_000) == {:error, :timeout}
    eventually(fn -> HttpServer.connections(server) == 0 end, 10_000)

    caller = spawn(fn -> ask.(60_000) end)
    assert_receive {:http, _, _}, 10_000
    eventually(fn -> HttpServer.connections(server) == 1 end, 10_000)
    Process.exit(caller, :kill)
    eventually(fn -> HttpServer.connections(server) == 0 end, 10_000)
  end
end
