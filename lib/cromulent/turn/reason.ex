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

  defp words({:config, text}) when is_binary(text), do: text
  defp words({:not_configured, name}) when is_atom(name), do: "#{source(name)} is not set"
  defp words({:not_configured, name}) when is_binary(name), do: name <> " is not set"
  defp words(:not_configured), do: "it is not configured"
  defp words(:not_running), do: "no relay runs on this node"
  defp words(:bad_user_id), do: "the user id cannot be part of a username (bad_user_id)"
  defp words(:no_servers), do: "it gave no server that a browser would take (no_servers)"
  defp words(:no_credentials), do: "its TURN servers came without credentials (no_credentials)"
  defp words({:http_error, status}) when is_integer(status), do: "HTTP status #{status}"
  defp words({:connect, why}) when is_atom(why), do: "no connection: #{why}"
  defp words({:tls, why}) when is_atom(why), do: "no trusted TLS connection: #{why}"
  defp words(:timeout), do: "no answer in time (timeout)"

  defp words(:circuit_open),
    do: "it has failed too often, and is left alone for a while (circuit_open)"

  defp words(:overloaded), do: "too many requests wait for it (overloaded)"
  defp words({:bad_answer, answer}), do: "it answered #{show(answer)} (bad_answer)"
  defp words({kind, reason}) when kind in [:throw, :exit], do: "#{kind}: #{words(reason)}"

  defp words(%module{} = exception) when is_exception(exception),
    do: "#{inspect(module)}: #{Exception.message(exception)}"

  defp words(text) when is_binary(text), do: text
  defp words(reason), do: show(reason)

  defp source(name), do: Option.variable(name) || "config :cromulent_turn, #{name}: ..."

  defp show(term), do: inspect(term, limit: 10, printable_limit: 200)
end
