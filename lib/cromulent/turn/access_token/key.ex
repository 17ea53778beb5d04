defmodule Cromulent.Turn.AccessToken.Key do
  @moduledoc """
  A key that an authorization server and a TURN server share (RFC 7635 §4.1), as the option `oauth_keys` and
  `Cromulent.Turn.AccessToken.encode/3` take it.

  It is written as a JWK of the type "oct" (RFC 7517, RFC 7518 §6.4), in a file or as text, alone or several in
  a JWK set:

      {"kty": "oct", "kid": "2026-11", "alg": "A256GCM",
       "k": "SEdrajMyS0pHaXV5MDk4c2RmYXFiTmpPaWF6NzE5MjM"}

      {"keys": [{"kty": "oct", "kid": "2026-11", ...}, {"kty": "oct", "kid": "2026-12", ...}]}

  | member | |
  |---|---|
  | `kid` | the key's id, 1 to 128 bytes; clients send it as their USERNAME |
  | `k` | the key in Base64url: 32 bytes for `A256GCM`, 16 for `A128GCM` |
  | `alg` | `A256GCM` or `A128GCM`; by the key's length where it is not given |
  | `nbf`, `exp` | Unix seconds from which on, and before which, its tokens are taken; always where not given |

  As in the response of RFC 7635 §4.1.1, `kty` may be missing, `alg` may be called `enc`, and `k` may be in
  plain Base64. Other members are not looked at.
  """

  @derive {Inspect, except: [:key]}
  @enforce_keys [:kid, :key]
  defstruct [:kid, :key, :not_before, :not_after]

  @typedoc "`key` has 32 or 16 bytes and is not shown by `inspect/2`; times are in Unix seconds."
  @type t :: %__MODULE__{
          kid: String.t(),
          key: binary(),
          not_before: non_neg_integer() | nil,
          not_after: non_neg_integer() | nil
        }

  @typedoc "A file's name, a JSON text, a key, or several of them; or a function that gives it."
  @type source :: String.t() | t() | [String.t() | t()] | (() -> source())

  alias Cromulent.Turn.Json

  @most 16
  @kid_most 128
  @time_most 253_402_300_799
  @sizes %{"A256GCM" => 32, "A128GCM" => 16}
  @expected ~s(must be keys as JWK or JWK set, in files or as text, such as {"kty": "oct", "kid": "1", ) <>
              ~s("alg": "A256GCM", "k": BASE64URL OF 32 BYTES})

  @doc """
  The keys of a source; the error is a sentence that says what would be right, and has no key in it.
  Names of files may be several, with commas between them.
  """
  @spec read(source()) :: {:ok, [t()]} | {:error, String.t()}
  def read(source) do
    with {:ok, keys} <- gather(source), do: check_together(keys)
  end

  defp gather(source) when is_function(source, 0), do: gather(source.())
  defp gather(%__MODULE__{} = key), do: with(:ok <- check(key), do: {:ok, [key]})
  defp gather(sources) when is_list(sources), do: gather_all(sources, [])

  defp gather(text) when is_binary(text) do
    if json?(text) or not String.contains?(text, ","),
      do: gather_one(text),
      else: text |> String.split(",") |> gather_all([])
  end

  defp gather(_other), do: {:error, @expected}

  defp gather_all([], keys), do: {:ok, keys}

  defp gather_all([source | rest], keys) do
    source = if is_binary(source), do: gather_one(source), else: gather(source)
    with {:ok, more} <- source, do: gather_all(rest, keys ++ more)
  end

  # In a list a comma is part of a file's name.
  defp gather_one(text) do
    if json?(text), do: parse(text), else: text |> String.trim() |> read_file()
  end

  defp read_file(name) do
    with true <- name != "" and not String.contains?(name, <<0>>),
         {:ok, text} <- File.read(name) do
      parse(text)
    else
      {:error, reason} ->
        {:error, "must be a file that can be read: #{:file.format_error(reason)}"}

      false ->
        {:error, @expected}
    end
  end

  # ---- JSON ----

  defp json?(text), do: text =~ ~r/\A\s*[{\[]/

  defp parse(text) do
    case Json.decode(text) do
      {:ok, %{"keys" => [_ | _] = jwks}} -> parse_all(jwks, [])
      {:ok, %{"kid" => _} = jwk} -> parse_all([jwk], [])
      _ -> {:error, @expected}
    end
  end

  defp parse_all([], keys), do: {:ok, Enum.reverse(keys)}

  defp parse_all([%{"kid" => kid} = jwk | rest], keys) do
    with "oct" <- Map.get(jwk, "kty", "oct"),
         {:ok, bytes} <- base64(jwk["k"]),
         key = %__MODULE__{kid: kid, key: bytes, not_before: jwk["nbf"], not_after: jwk["exp"]},
         :ok <- check(key),
         :ok <- check_algorithm(key, jwk["alg"] || jwk["enc"]) do
      parse_all(rest, [key | keys])
    else
      {:error, _} = error -> error
      _ -> {:error, @expected}
    end
  end

  defp parse_all(_other, _keys), do: {:error, @expected}

  defp base64(text) when is_binary(text) do
    bare = String.trim_trailing(text, "=")

    with :error <- Base.url_decode64(bare, padding: false),
         do: Base.decode64(bare, padding: false)
  end

  defp base64(_other), do: :error

  # ---- checks ----

  defp check(key) do
    cond do
      not (is_binary(key.kid) and byte_size(key.kid) in 1..@kid_most and
             String.printable?(key.kid) and not (key.kid =~ ~r/["[:cntrl:]]/)) ->
        {:error, "must have a kid of 1 to #{@kid_most} bytes of text without quotes"}

      not (is_binary(key.key) and byte_size(key.key) in Map.values(@sizes)) ->
        {:error, named(key, "must have 32 bytes (A256GCM) or 16 (A128GCM)")}

      not (time?(key.not_before) and time?(key.not_after)) or
          (key.not_after || @time_most) <= (key.not_before || 0) ->
        {:error, named(key, "must have Unix seconds as nbf and exp, the second after the first")}

      true ->
        :ok
    end
  end

  defp time?(time), do: time == nil or (is_integer(time) and time in 0..@time_most)

  defp check_algorithm(_key, nil), do: :ok

  defp check_algorithm(key, algorithm) do
    if @sizes[algorithm] == byte_size(key.key),
      do: :ok,
      else:
        {:error,
         named(key, "must be of 32 bytes for A256GCM, or 16 for A128GCM, and of no other kind")}
  end

  defp check_together(keys) do
    kids = Enum.map(keys, & &1.kid)

    cond do
      length(keys) > @most -> {:error, "must be at most #{@most} keys"}
      kids != Enum.uniq(kids) -> {:error, "must have each kid once"}
      true -> {:ok, keys}
    end
  end

  defp named(key, fault), do: fault <> "; the key is #{inspect(key.kid)}"
end
