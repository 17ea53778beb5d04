defmodule Cromulent.Turn.Embedded do
  @moduledoc """
  The provider that gives out this node's own relay.

  Entries are a STUN URL and a TURN URL per address at which clients reach a listener, and the STUN
  URLs of `TURN_STUN_URLS`. The address is the `host` option where it is given; else the external
  address, the listener's own, or, where it listens on every address, that of the relay. Credentials
  are made here, in one call and without asking the relay: they name the user, and hold for `ttl`
  seconds ("A REST API for access to TURN services", draft-uberti-behave-turn-rest-00, 2.2).
  """

  @behaviour Cromulent.Turn.Provider

  alias Cromulent.Turn.{Address, Config, Credentials, Relay, StunServers}

  @typedoc "What a running relay offers; all but the credentials."
  @opaque offer :: %{
            stun: [Cromulent.Turn.Provider.ice_server()],
            turn: [String.t()],
            ttl: pos_integer(),
            secrets: (() -> [binary(), ...])
          }

  @doc """
  The ICE servers of a user: a string, or what `to_string/1` makes one of.

  `{:error, :not_running}` when no relay runs, `{:error, :bad_user_id}` when the id cannot be part of
  a username: it must be UTF-8 without control characters, and not much longer than 490 bytes.
  """
  @impl true
  @spec get_ice_servers(term(), keyword()) ::
          {:ok, [Cromulent.Turn.Provider.ice_server()]} | {:error, :not_running | :bad_user_id}
  def get_ice_servers(user_id, opts \\ []) do
    with {:ok, offer} <- offered(opts[:relay] || Relay),
         {:ok, made} <- mint(offer, user_id, opts[:ttl] || offer.ttl) do
      {:ok, offer.stun ++ Enum.map(offer.turn, &entry(&1, made))}
    end
  end

  @doc false
  @spec running?(atom()) :: boolean()
  def running?(relay \\ Relay), do: :ets.whereis(relay) != :undefined

  @doc false
  @spec offer(Config.t(), [String.t()]) :: offer()
  def offer(%Config{} = config, listen) do
    hosts = listen |> Enum.flat_map(&hosts(&1, config)) |> Enum.uniq()
    own = for {:udp, host} <- hosts, do: "stun:" <> host

    %{
      stun: StunServers.entries(Enum.uniq(own ++ config.stun_urls)),
      turn: Enum.flat_map(hosts, &turn_urls(&1, config)),
      ttl: config.ttl,
      secrets: config.secrets
    }
  end

  defp offered(relay) do
    case :ets.lookup(relay, :offer) do
      [{:offer, offer}] -> {:ok, offer}
      [] -> {:error, :not_running}
    end
  rescue
    ArgumentError -> {:error, :not_running}
  end

  defp mint(offer, user_id, ttl) do
    {:ok, Credentials.generate(to_string(user_id), hd(offer.secrets.()), ttl: ttl)}
  rescue
    # Secret and ttl were checked when the relay started.
    _ in [ArgumentError, Protocol.UndefinedError] -> {:error, :bad_user_id}
  end

  defp entry(url, made), do: %{urls: url, username: made.username, credential: made.credential}

  # The transport and `host:port` of each address at which clients reach this listener.
  defp hosts(text, config) do
    {:ok, {transport, ip, port}} = Config.parse_listener(text)
    for host <- reached_at(ip, config), do: {transport, "#{host}:#{port}"}
  end

  # RFC 7065 §3.1. With a certificate a TCP listener speaks TLS too.
  defp turn_urls({:udp, host}, _config), do: ["turn:#{host}?transport=udp"]
  defp turn_urls({:dtls, host}, _config), do: ["turns:#{host}?transport=udp"]
  defp turn_urls({:tls, host}, _config), do: ["turns:#{host}?transport=tcp"]
  defp turn_urls({:tcp, host}, %{cert: nil}), do: ["turn:#{host}?transport=tcp"]

  defp turn_urls({:tcp, host}, _config),
    do: ["turn:#{host}?transport=tcp", "turns:#{host}?transport=tcp"]

  defp reached_at(_ip, %{host: host}) when is_binary(host) do
    case Address.parse(host) do
      {:ok, ip} -> [Address.to_host(ip)]
      :error -> [host]
    end
  end

  defp reached_at(ip, config) do
    relays =
      for {bind, external} <- config.relays,
          Address.family(bind) == Address.family(ip),
          do: {bind, external}

    cond do
      Address.wildcard?(ip) -> for {_bind, external} <- relays, do: Address.to_host(external)
      Address.loopback?(ip) -> [Address.to_host(ip)]
      true -> [Address.to_host(external_of(ip, relays))]
    end
  end

  # A listener on one address is reached there, unless a 1:1 NAT stands before that address.
  defp external_of(ip, relays) do
    Enum.find_value(relays, ip, fn {bind, external} -> bind == ip && external end)
  end
end
