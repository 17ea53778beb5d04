defmodule Cromulent.Turn.RestTest do
  use ExUnit.Case, async: false

  alias Cromulent.Turn.{Http, HttpServer, Rest}

  setup do
    :telemetry.listen()
    :ok
  end

  defp call(reply, more \\ %{}) do
    server = HttpServer.start(fn _ -> reply end)
    call = %{provider: :test, operation: :try, method: :post, url: server.url <> "/?key=MARKED"}
    Rest.call(Map.merge(call, more), http_timeout: 20_000)
  end

  defp event do
    assert_receive {:telemetry, [:cromulent, :turn, :provider, :request], measured, metadata}
    refute inspect({measured, metadata}) =~ "MARKED"
    metadata
  end

  test "sends JSON and reads JSON" do
    assert call({201, ~s({"a":[1]})}, %{body: [b: "c"], headers: [{"x-y", "z"}]}) ==
             {:ok, %{"a" => [1]}}

    assert_receive {:http, _, %{body: ~s({"b": "c"}), headers: headers}}

    assert %{"content-type" => "application/json", "accept" => "application/json", "x-y" => "z"} =
             headers

    assert event() == %{provider: :test, operation: :try, status: 201, outcome: :ok}
    assert call({200, ""}) == {:ok, nil}
    assert_receive {:http, _, %{body: "", headers: headers}}
    refute is_map_key(headers, "content-type")
  end

  test "tells whose fault a failure is" do
    for {reply, reason, verdict} <- [
          {{200, "<html>"}, :not_json, :answered},
          {{302, ""}, {:http_error, 302}, :answered},
          {{401, ""}, {:http_error, 401}, :answered},
          {{500, ""}, {:http_error, 500}, :failed},
          {{503, ""}, {:http_error, 503}, :failed},
          {{429, ""}, {:http_error, 429}, :failed},
          {{429, [{"Retry-After", "7"}], ""}, {:http_error, 429}, {:failed, 7_000}},
          {{503, [{"Retry-After", "99999"}], ""}, {:http_error, 503}, {:failed, 600_000}},
          {{429, [{"Retry-After", "-1"}], ""}, {:http_error, 429}, :failed},
          {{429, [{"Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"}], ""}, {:http_error, 429},
           :failed},
          {{:raw, ""}, :closed, :failed}
        ] do
      assert {reply, call(reply)} == {reply, {:error, reason, verdict}}
      assert %{outcome: ^reason} = event()
    end

    refused = %{provider: :test, operation: :try, method: :get, url: HttpServer.nowhere()}
    assert Rest.call(refused, []) == {:error, {:connect, :econnrefused}, :failed}
    assert %{status: nil, outcome: {:connect, :econnrefused}} = event()
    # The application's own doing.
    assert Rest.call(refused, http: {Finch, :nobody}) == {:error, :not_available, :answered}
    assert {:error, {:config, _text}, :answered} = Rest.call(refused, http: "x")
    assert %{outcome: :not_available} = event()
    assert %{outcome: :config} = event()
  end

  test "keeps to the time that is left" do
    server = HttpServer.start(fn _ -> :hang end)
    call = %{provider: :test, operation: :try, method: :get, url: server.url}
    started = System.monotonic_time(:millisecond)
    assert Rest.call(call, [http_timeout: 60_000], 200) == {:error, :timeout, :failed}
    assert System.monotonic_time(:millisecond) - started < 10_000
  end

  test "takes user ids that are text" do
    assert Rest.user_text("é") == {:ok, "é"}
    assert Rest.user_text(42) == {:ok, "42"}

    for bad <- [<<0xFF>>, "a\0", %{}, {1}, String.duplicate("a", 491)],
        do: assert(Rest.user_text(bad) == {:error, :bad_user_id})
  end

  test "offers what has a relay in it" do
    turn = %{urls: ["turn:a.example"], username: "u", credential: "c"}
    servers = [%{urls: "turn:a.example", username: "u", credential: "c"}]
    assert {:ok, %{ice_servers: ^servers, expires_at: 9} = offer, 9} = Rest.offer([turn], 9)
    assert Rest.of?(offer, "u")
    refute Rest.of?(offer, "v")
    assert Rest.offer([], 9) == {:error, :no_servers, :answered}
    assert Rest.offer(nil, 9) == {:error, :no_servers, :answered}
    assert Rest.offer([%{urls: "stun:a.example"}], 9) == {:error, :no_relays, :answered}
    assert Rest.offer([%{urls: "turn:a.example"}], 9) == {:error, :no_credentials, :answered}
  end

  test "makes exceptions that say what happened" do
    assert Exception.message(%Http.Error{reason: :timeout}) == "no answer from the API: :timeout"
    assert Exception.message(%Http.Error{reason: {:config, "ttl: must be"}}) == "ttl: must be"
  end
end
