defmodule Cromulent.Turn.Reason do
  @moduledoc false
  # Why a provider failed, fit to be shown. Reasons come from anybody's code: an exception of an HTTP
  # client may hold the URL that it could not reach, and that URL a key. What goes into a log or an
  # event has passed through here.

  alias Cromulent.Turn.Option

  @hidden "[hidden]"
  @text_most 300
  # A shorter secret would be found in every other word.
  @secret_least 4

  @doc "In words, without secrets, on one line. `opts` are those of the call."
  @spec describe(term(), keyword()) :: String.t()
  def describe(reason, opts \\ []), do: reason |> words() |> scrub(opts)

  @doc """
  The same reason without secrets: atoms, numbers and tuples of these stay as they are, since programs
  match on them; everything else becomes words.
  """
  @spec clean(term(), keyword()) :: term()
  def clean(reason, opts \\ [])
  def clean(reason, _opts) when is_atom(reason) or is_number(reason), do: reason
  def clean(reason, opts) when is_binary(reason), do: scrub(reason, opts)

  def clean(reason, opts) when is_tuple(reason) and tuple_size(reason) in 1..4,
    do: reason |> Tuple.to_list() |> Enum.map(&clean(&1, opts)) |> List.to_tuple()

  def clean(reason, opts), do: describe(reason, opts)

  @doc "What two failures must share to be the same cause: not the details, of which there is no end."
  @spec cause(term()) :: term()
  def cause(%module{}), do: module
  def cause(reason) when is_tuple(reason) and tuple_size(reason) > 0, do: cause(elem(reason, 0))
  def cause(reason) when is_atom(reason), do: reason
  def cause(_reason), do: :other

  @doc """
  A text without secrets, control characters or great length. Hidden are the values of all options that
  are secret, and what looks like one: queries and user parts of URLs, `Bearer` and `Basic` tokens, values
  beside names such as `apiKey` or `password`, and long words of letters and digits.
  """
  @spec scrub(String.t(), keyword()) :: String.t()
  def scrub(text, opts \\ []) do
    text = String.replace(to_valid(text), ~r/[[:cntrl:]\s]+/u, " ")

    opts
    |> secrets()
    |> Enum.reduce(text, &String.replace(&2, &1, @hidden))
    |> scrub_patterns()
    |> String.slice(0, @text_most)
    |> String.trim()
  end

  defp scrub_patterns(text) do
    text
    |> String.replace(~r{(\w+://)[^\s/?#"'@]*@}, "\\1#{@hidden}@")
    |> String.replace(~r{(\w+://[^\s"'?]*)\?[^\s"']*}, "\\1?#{@hidden}")
    |> String.replace(~r/\b(bearer|basic)\s+[^\s"',}\]]+/i, "\\1 #{@hidden}")
    |> String.replace(
      ~r/((?:secret|token|password|credential|api_?key|secret_?key|authorization)\w*["']?\s*(?:=>|[:=,])\s*["']?)[^\s"',}\]&]+/i,
      "\\1#{@hidden}"
    )
    |> String.replace(~r/\b(?=[\w+-]*[0-9])(?=[\w+-]*[A-Za-z])[\w+-]{20,}={0,2}/, @hidden)
  end

  # As they are, and as a URL, a header or an inspected term would hold them. Longest first: one may be
  # part of another.
  defp secrets(opts) do
    known = for secret <- Option.secrets(opts), byte_size(secret) >= @secret_least, do: secret

    known
    |> Enum.flat_map(&forms/1)
    |> Enum.uniq()
    |> Enum.sort_by(&(-byte_size(&1)))
  end

  defp forms(secret) do
    inspected = secret |> inspect(printable_limit: :infinity) |> String.trim("\"")
    [secret, URI.encode_www_form(secret), URI.encode(secret), Base.encode64(secret), inspected]
  end

  defp to_valid(text), do: if(String.valid?(text), do: text, else: inspect(text))

  # ---- words ----

  # Each ends with the reason itself, to be looked for in the documentation.
  @words [
    not_configured: "it is not configured",
    not_running: "no relay runs on this node",
    bad_user_id: "the user id cannot be part of a username",
    no_servers: "it gave no server that a browser would take",
    no_credentials: "its TURN servers came without credentials",
    no_relays: "it gave STUN servers only",
    not_json: "its answer is no JSON",
    bad_answer: "its answer is not what its documentation says",
    bad_response: "its answer is no HTTP",
    too_large: "its answer is too long",
    closed: "the connection broke",
    expired: "its credentials had expired when they came",
    timeout: "no answer in time",
    circuit_open: "it has failed too often, and is left alone for a while",
    overloaded: "too many requests wait for it",
    not_available: "the HTTP client of the configuration does not run"
  ]

  defp words({:config, text}) when is_binary(text), do: text
  defp words({:not_configured, name}) when is_atom(name), do: "#{source(name)} is not set"
  defp words({:not_configured, name}) when is_binary(name), do: name <> " is not set"
  defp words({:http_error, status}) when is_integer(status), do: "HTTP status #{status}"
  defp words({:connect, why}) when is_atom(why), do: "no connection: #{why}"
  defp words({:tls, why}) when is_atom(why), do: "no trusted TLS connection: #{why}"
  defp words({:bad_answer, answer}), do: "it answered #{show(answer)} (bad_answer)"
  defp words({kind, reason}) when kind in [:throw, :exit], do: "#{kind}: #{words(reason)}"

  defp words(%module{} = exception) when is_exception(exception),
    do: "#{inspect(module)}: #{Exception.message(exception)}"

  defp words(text) when is_binary(text), do: text

  defp words(reason) do
    case is_atom(reason) && Keyword.fetch(@words, reason) do
      {:ok, words} -> "#{words} (#{reason})"
      _ -> show(reason)
    end
  end

  defp source(name), do: Option.variable(name) || "config :cromulent_turn, #{name}: ..."

  defp show(term), do: inspect(term, limit: 10, printable_limit: 200)
end
