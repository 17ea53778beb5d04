defmodule Cromulent.Turn.Payload do
  @moduledoc """
  The list of ICE servers that a browser gets, from whatever a provider gave. Pure.

  `RTCPeerConnection` throws at a whole list for one wrong entry: at a TURN URL without username and
  credential, at null, at a URL that is none (W3C WebRTC, "set the ICE servers"). So an entry that it
  would not take is left out here, and what is left has one shape,
  `t:Cromulent.Turn.Provider.ice_server/0`.
  """

  alias Cromulent.Turn.{Provider, Url}

  @typedoc "An entry that is right; `key` is the same for those that say the same."
  @type entry :: %{
          kind: Url.kind(),
          key: {String.t(), String.t() | nil},
          server: Provider.ice_server()
        }

  @type option :: {:stun_urls, [String.t()]} | {:max_ice_servers, pos_integer()}

  @max_ice_servers 8
  # RFC 8489 §14.3: fewer than 509 bytes; browsers refuse longer ones.
  @username_most 508
  @credential_most 1024
  # What a client tries first, and what it needs most when it may have only a few.
  @order %{stun: 0, udp: 1, tcp: 2, tls: 3}
  @need %{udp: 0, tls: 1, tcp: 2, stun: 3}
  # A number in a username is an expiry from here on (2001-09-09), in Unix seconds.
  @expiry_least 1_000_000_000
  @expiry_most 253_402_300_799

  @doc """
  The servers of a provider's answer, ready for `RTCPeerConnection` and for JSON.

  `servers` is a list of maps, or one map, with string or atom keys: `urls` (text, or a list of texts) or
  `url`, `username`, and `credential` or `password`. Everything else in it is ignored. The result has one
  entry per URL, in lower case, no URL twice for the same username, and `username` and `credential` with TURN URLs
  only. TURN URLs without both are left out.

  The order is STUN, TURN over UDP, over TCP, over TLS; within these, the given one.

  Options:

    * `:stun_urls` - the application's own STUN servers, after those of the provider
    * `:max_ice_servers` - how many entries at most, default #{@max_ice_servers}; where there are more, the first of each
      of TURN over UDP, TLS and TCP and of STUN is taken, then the second of each, and so on
  """
  @spec build(term(), [option()]) :: [Provider.ice_server()]
  def build(servers, opts \\ []), do: servers |> entries() |> arrange(opts)

  @doc """
  The entries of a provider's answer that are right; an error where none is, or where there are TURN URLs
  and none came with credentials.
  """
  @spec read(term()) :: {:ok, [entry(), ...]} | {:error, :no_servers | :no_credentials}
  def read(servers) do
    entries = entries(servers)

    cond do
      Enum.any?(entries, &(&1.kind != :stun)) -> {:ok, entries}
      turn?(servers) -> {:error, :no_credentials}
      entries == [] -> {:error, :no_servers}
      true -> {:ok, entries}
    end
  end

  @doc "Merges, limits and orders entries, as `build/2` does."
  @spec arrange([entry()], [option()]) :: [Provider.ice_server()]
  def arrange(entries, opts) do
    own = entries(%{urls: Keyword.get(opts, :stun_urls, [])})
    most = Keyword.get(opts, :max_ice_servers, @max_ice_servers)

    (entries ++ own)
    |> Enum.uniq_by(& &1.key)
    |> number()
    |> Enum.sort_by(fn {entry, n} -> {n, @need[entry.kind]} end)
    |> Enum.take(most)
    |> Enum.sort_by(fn {entry, n} -> {@order[entry.kind], n} end)
    |> Enum.map(fn {entry, _n} -> entry.server end)
  end

  @doc """
  When the first of these servers' credentials expires, in Unix seconds, as far as their usernames say so
  (`"<expiry>:<user>"` or `"<expiry>"`, draft-uberti-rtcweb-turn-rest-00 §2.2); nil where none does.
  """
  @spec expires_at([Provider.ice_server()]) :: pos_integer() | nil
  def expires_at(servers) do
    expiries =
      for %{username: username} <- servers, expiry = expiry(username), expiry != nil, do: expiry

    Enum.min(expiries, fn -> nil end)
  end

  defp expiry(username) do
    case Integer.parse(username) do
      {expiry, rest} when expiry in @expiry_least..@expiry_most ->
        if rest == "" or String.starts_with?(rest, ":"), do: expiry

      _ ->
        nil
    end
  end

  # Each entry with its place among those of its kind.
  defp number(entries) do
    {numbered, _seen} =
      Enum.map_reduce(entries, %{}, fn entry, seen ->
        n = Map.get(seen, entry.kind, 0)
        {{entry, n}, Map.put(seen, entry.kind, n + 1)}
      end)

    numbered
  end

  # ---- what a provider gave ----

  defp entries(servers) do
    for server <- servers(servers), url <- urls(server), entry = entry(url, server), do: entry
  end

  defp servers(server) when is_map(server), do: [server]
  defp servers(servers), do: servers |> items() |> Enum.filter(&is_map/1)

  defp urls(server) do
    case field(server, [:urls, "urls", :url, "url"]) do
      url when is_binary(url) -> [String.trim(url)]
      urls -> for url <- items(urls), is_binary(url), do: String.trim(url)
    end
  end

  defp entry(text, server) do
    with {:ok, url} <- Url.parse(text), {:ok, credentials} <- credentials(url, server) do
      # Chromium knows no "?TRANSPORT=UDP".
      server = Map.put(credentials, :urls, String.downcase(text, :ascii))
      %{kind: Url.kind(url), key: {Url.build(url), server[:username]}, server: server}
    else
      _ -> nil
    end
  end

  defp credentials(url, server) do
    username = field(server, [:username, "username"])
    credential = field(server, [:credential, "credential", :password, "password"])

    cond do
      not Url.turn?(url) -> {:ok, %{}}
      not text?(username, @username_most) or not text?(credential, @credential_most) -> :error
      true -> {:ok, %{username: username, credential: credential}}
    end
  end

  defp text?(text, most),
    do: is_binary(text) and byte_size(text) in 1..most and String.valid?(text)

  defp turn?(servers) do
    texts = for server <- servers(servers), url <- urls(server), do: url

    Enum.any?(
      texts,
      &match?({:ok, %{scheme: scheme}} when scheme in [:turn, :turns], Url.parse(&1))
    )
  end

  # The first of these keys that has a value: structs have no Access.
  defp field(map, keys), do: Enum.find_value(keys, &Map.get(map, &1))

  # The elements of a list, proper or not.
  defp items([item | rest]), do: [item | items(rest)]
  defp items(_end), do: []
end
