defmodule Cromulent.Turn.CheckPageTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers, only: [eventually: 1]

  alias Cromulent.Turn.{CheckPage, Json}

  @ip {127, 0, 0, 1}
  @servers [%{urls: "turn:192.0.2.1", username: "1:u", credential: "c"}]

  setup_all do
    {:ok, _} = Application.ensure_all_started(:inets)
    {:ok, pid, port} = CheckPage.start(@ip, 0, fn -> @servers end)
    on_exit(fn -> CheckPage.stop(pid) end)
    %{port: port}
  end

  # One request as it is written, and the whole answer: {status, headers, body}.
  defp request(port, line) do
    {:ok, socket} = :gen_tcp.connect(@ip, port, [:binary, active: false])
    :ok = :gen_tcp.send(socket, "#{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    [head, body] = socket |> receive_all("") |> String.split("\r\n\r\n", parts: 2)

    ["HTTP/1.1 " <> <<status::binary-size(3), _reason::binary>> | lines] =
      String.split(head, "\r\n")

    headers =
      Map.new(lines, fn line ->
        [name, value] = String.split(line, ~r/: */, parts: 2)
        {String.downcase(name), value}
      end)

    {String.to_integer(status), headers, body}
  end

  defp receive_all(socket, got) do
    case :gen_tcp.recv(socket, 0, 5_000) do
      {:ok, data} -> receive_all(socket, got <> data)
      {:error, :closed} -> got
    end
  end

  test "the page, at its own address and from the root", %{port: port} do
    assert {302, %{"location" => "/check/"}, _} = request(port, "GET /")
    assert {200, headers, body} = request(port, "GET /check/")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["content-length"] == Integer.to_string(byte_size(body))
    assert body == File.read!("assets/check/index.html")
    assert {200, _, ^body} = request(port, "GET /check/index.html?again=1")
  end

  test "every file that the page and its modules name is there", %{port: port} do
    {200, _, page} = request(port, "GET /check/")
    named = Regex.scan(~r/(?:href|src)="([^":]+)"/, page, capture: :all_but_first)
    paths = for [name] <- named, do: Path.expand(name, "/check")
    assert "/check/page.js" in paths
    modules = follow(port, paths, MapSet.new())
    assert "/js/loopback_call.js" in modules
  end

  defp follow(_port, [], seen), do: seen

  defp follow(port, [path | rest], seen) do
    if path in seen do
      follow(port, rest, seen)
    else
      assert {200, _, text} = request(port, "GET #{path}")
      imports = Regex.scan(~r/from "([^"]+)"/, text, capture: :all_but_first)
      next = for [name] <- imports, do: Path.expand(name, Path.dirname(path))
      follow(port, next ++ rest, MapSet.put(seen, path))
    end
  end

  test "content types", %{port: port} do
    assert {200, %{"content-type" => "text/javascript; charset=utf-8"}, _} =
             request(port, "GET /check/page.js")

    assert {200, %{"content-type" => "text/css; charset=utf-8"}, _} =
             request(port, "GET /check/check.css")
  end

  test "ICE servers are asked for each time, and kept by nobody", %{port: port} do
    assert {200, headers, body} = request(port, "GET /ice_servers.json")
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert body == Json.encode(@servers)
  end

  test "the page may load from its own origin only", %{port: port} do
    for path <- ["/", "/check/", "/js/stats.js", "/nothing"] do
      {_, headers, _} = request(port, "GET #{path}")
      assert headers["content-security-policy"] =~ "default-src 'none'; script-src 'self'"
      assert headers["x-content-type-options"] == "nosniff"
      assert headers["referrer-policy"] == "no-referrer"
      refute Map.has_key?(headers, "server")
    end
  end

  test "no path leads out of the page's files", %{port: port} do
    for path <- [
          "/mix.exs",
          "/check/../../mix.exs",
          "/check/..%2f..%2fmix.exs",
          "/check/%2e%2e/%2e%2e/mix.exs",
          "/js/../../../../../../etc/passwd",
          "//etc/passwd",
          "/check/page.js/",
          "/check/page.js%00",
          "/ebin/cromulent_turn.app",
          "/package.json"
        ] do
      {status, _, body} = request(port, "GET #{path}")
      assert status in [400, 403, 404], "#{path} gave #{status}"
      refute body =~ "defmodule"
      refute body =~ "root:"
    end
  end

  test "HEAD gives the headers of GET; nothing else is served", %{port: port} do
    {200, got, _} = request(port, "GET /check/")
    assert {200, headers, ""} = request(port, "HEAD /check/")
    assert headers["content-length"] == got["content-length"]

    for method <- ["PUT", "DELETE", "POST"] do
      {status, _, _} = request(port, "#{method} /check/")
      assert status in [405, 411, 501], "#{method} gave #{status}"
    end
  end

  test "an address in use, and one that is not ours", %{port: port} do
    assert {:error, :eaddrinuse} = CheckPage.start(@ip, port, fn -> [] end)
    {:ok, socket} = :gen_tcp.listen(0, ip: @ip)
    {:ok, taken} = :inet.port(socket)
    assert {:error, :eaddrinuse} = CheckPage.start(@ip, taken, fn -> [] end)
    assert {:error, :eaddrnotavail} = CheckPage.start({203, 0, 113, 77}, 0, fn -> [] end)
  end

  test "stop/1 frees the port" do
    {:ok, pid, port} = CheckPage.start(@ip, 0, fn -> [] end)
    assert :ok = CheckPage.stop(pid)
    eventually(fn -> :gen_tcp.connect(@ip, port, []) == {:error, :econnrefused} end)
  end
end
