defmodule Cromulent.Turn.ReasonTest do
  # The environment is everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.Reason

  defmodule Mute do
    defexception [:x]
    @impl true
    def message(_), do: raise("no words")
  end

  @key ~S(Zq-"secret"/key+41==)

  # However it is written, by whichever option or variable it came.
  @forms [
    @key,
    URI.encode_www_form(@key),
    URI.encode(@key),
    Base.encode64(@key),
    ~S(Zq-\"secret\"/key+41==)
  ]

  test "values of secret options are hidden wherever they are" do
    for name <- [:secret, :metered_secret_key, :metered_api_key, :cloudflare_api_token],
        form <- @forms,
        reason <- [
          RuntimeError.exception("odd thing x#{form}x happened"),
          {:exit, {:timeout, {GenServer, :call, [:pool, {:get, "/x/" <> form}, 5000]}}},
          {:bad_answer, %{form => form}},
          [form],
          {:http_error, 503, form}
        ] do
      refute Reason.describe(reason, [{name, @key}]) =~ form
      refute inspect(Reason.clean(reason, [{name, @key}])) =~ form
    end

    put_env([{"METERED_SECRET_KEY", @key}, {"TURN_SECRET", "first secret,second secret"}])
    assert Reason.describe(@key <> " second secret first secret") == "[hidden] [hidden] [hidden]"
    put_config(cloudflare_api_token: fn -> "late token" end)
    assert Reason.describe("a late token") == "a [hidden]"
  end

  test "what looks like a secret is hidden, whoever knows it" do
    for {text, shown} <- [
          {"GET https://x.example.org:8/v1/a?apiKey=abc&x=1 failed",
           "GET https://x.example.org:8/v1/a?[hidden] failed"},
          {"https://user:pa55@x.example.org/", "https://[hidden]@x.example.org/"},
          {"authorization: Bearer abc.def", "authorization: [hidden] [hidden]"},
          {"Basic dXNlcjpw", "Basic [hidden]"},
          {~s([{"authorization", "Bearer abc"}]), ~s([{"authorization", "[hidden] [hidden]"}])},
          {"apiKey=abc&secretKey=def", "apiKey=[hidden]&secretKey=[hidden]"},
          {~s(%{"password" => "p", credential: "c"}),
           ~s(%{"password" => "[hidden]", credential: "[hidden]"})},
          {"key 0123456789abcdef0123456789abcdef is wrong", "key [hidden] is wrong"},
          {"connection refused - econnrefused", "connection refused - econnrefused"}
        ],
        do: assert(Reason.scrub(text) == shown)
  end

  test "a word is one line, and short" do
    assert Reason.scrub("a\n\tb\r\n\0c\u2028d") == "a b c d"
    assert String.length(Reason.scrub(String.duplicate("wörd ", 1_000))) <= 300
    assert String.valid?(Reason.scrub(<<"a", 0xFF, "b">>))
  end

  test "known reasons have words" do
    for {reason, words} <- [
          {:not_running, "no relay runs on this node (not_running)"},
          {{:not_configured, :turn_urls}, "TURN_URL is not set"},
          {{:not_configured, "METERED_URL"}, "METERED_URL is not set"},
          {{:not_configured, :http}, "config :cromulent_turn, http: ... is not set"},
          {:not_configured, "it is not configured (not_configured)"},
          {:too_large, "its answer is too long (too_large)"},
          {{:config, "TURN_TTL=\"1h\": must be"}, "TURN_TTL=\"1h\": must be"},
          {{:http_error, 503}, "HTTP status 503"},
          {{:connect, :econnrefused}, "no connection: econnrefused"},
          {{:tls, :unknown_ca}, "no trusted TLS connection: unknown_ca"},
          {:timeout, "no answer in time (timeout)"},
          {{:odd, 1}, "{:odd, 1}"},
          {"plain", "plain"},
          {{:exit, :left}, "exit: :left"},
          {{:throw, {:a, 1}}, "throw: {:a, 1}"},
          {RuntimeError.exception("no luck"), "RuntimeError: no luck"}
        ],
        do: assert(Reason.describe(reason) == words)

    assert Reason.describe({:bad_answer, :odd}) == "it answered :odd (bad_answer)"
    assert Reason.describe(%Mute{}) =~ "Cromulent.Turn.ReasonTest.Mute: got RuntimeError"
  end

  test "programs can match on cleaned reasons" do
    for reason <- [:not_running, {:http_error, 503}, {:connect, :econnrefused}, {:exit, :left}],
        do: assert(Reason.clean(reason) == reason)

    assert Reason.clean({:config, "a\nb"}) == {:config, "a b"}
    assert Reason.clean(RuntimeError.exception("x")) == "RuntimeError: x"
    assert Reason.clean(%{a: 1}) == "%{a: 1}"
    assert Reason.clean([:a]) == "[:a]"
  end

  test "causes leave the details out" do
    assert Reason.cause(RuntimeError.exception("x")) == RuntimeError
    assert Reason.cause({:http_error, 503}) == :http_error
    assert Reason.cause({{:a, 1}, 2}) == :a
    assert Reason.cause(:timeout) == :timeout
    for other <- ["x", 7, [], {}, %{}], do: assert(Reason.cause(other) == :other)
  end

  test "nothing raises, whatever it is given" do
    for reason <- [nil, {}, <<0xFF>>, self(), fn -> :x end, %Mute{}, [1 | 2], make_ref(), ~c"abc"],
        opts <- [[], [secret: fn -> raise "no" end], [metered_api_key: 7]] do
      assert is_binary(Reason.describe(reason, opts))
      Reason.clean(reason, opts)
      Reason.cause(reason)
    end
  end
end
