defmodule Cromulent.Turn.Chain do
  @moduledoc """
  Asks the providers of `TURN_PROVIDER`, one after the other, until one answers.

  A provider that raises, exits, throws, gives an error, nothing, or nothing that a browser would take has
  failed. When there is another after it, the event `[:cromulent, :turn, :provider, :failed]` is sent,
  one line per cause and minute is logged, and that one is asked. What is left to do when the last one has failed is
  the caller's: `Cromulent.Turn.ice_servers/2` falls back to STUN.

  All of it runs in the caller's process, which the providers of this library keep for `http_timeout` each at most.
  """

  alias Cromulent.Turn.{Embedded, Option, Payload, Provider, Reason, Stun, Telemetry}

  @typedoc "What the browser needs, ready for it; `provider` is who answered."
  @type answer :: %{
          ice_servers: [Provider.ice_server(), ...],
          expires_at: pos_integer() | nil,
          provider: module()
        }

  @typedoc """
  What the last provider said, or that it has `:no_servers`, no `:no_credentials` for its relays, or gave a
  `:bad_answer`, or how it crashed. It may hold anything: `Cromulent.Turn.ice_servers/2` shows none
  of it before secrets are hidden.
  """
  @type reason :: term()

  @doc """
  The answer of the first provider that has one.

  `opts` are those of `Cromulent.Turn.ice_servers/2`; each provider gets them all.
  """
  @spec ask(user_id :: term(), keyword()) :: {:ok, answer()} | {:error, reason()}
  def ask(user_id, opts \\ []) do
    with {:ok, providers} <- providers(opts), do: walk(providers, user_id, opts)
  end

  @doc "The providers in their order: those that are named, else the relay of this node, else STUN."
  @spec providers(keyword()) :: {:ok, [module(), ...]} | Option.error()
  def providers(opts) do
    case Option.fetch(:provider, opts) do
      :unset -> {:ok, [if(Embedded.running?(opts[:relay]), do: Embedded, else: Stun)]}
      result -> result
    end
  end

  defp walk([provider | others], user_id, opts) do
    case try_one(provider, user_id, opts) do
      {:ok, answer} ->
        {:ok, answer}

      {:error, reason} when others == [] ->
        {:error, reason}

      {:error, reason} ->
        report(provider, hd(others), reason, user_id, opts)
        walk(others, user_id, opts)
    end
  end

  # Providers may be anybody's code, and a user who joins a call must not suffer from it.
  defp try_one(provider, user_id, opts) do
    call(provider, user_id, opts)
  rescue
    exception -> {:error, exception}
  catch
    kind, reason -> {:error, {kind, reason}}
  end

  # Its servers were arranged when the relay started.
  defp call(Embedded, user_id, opts) do
    with {:ok, offer} <- Embedded.offer(user_id, opts),
         do: {:ok, Map.put(offer, :provider, Embedded)}
  end

  defp call(provider, user_id, opts) do
    with {:ok, servers, expiry} <- provider |> ask_module(user_id, opts) |> understand(),
         {:ok, entries} <- Payload.read(servers) do
      servers = Payload.arrange(entries, settings(opts))
      {:ok, %{ice_servers: servers, expires_at: expires_at(servers, expiry), provider: provider}}
    end
  end

  defp ask_module(provider, user_id, opts) do
    Code.ensure_loaded(provider)

    cond do
      function_exported?(provider, :offer, 2) -> provider.offer(user_id, opts)
      function_exported?(provider, :get_ice_servers, 2) -> provider.get_ice_servers(user_id, opts)
      true -> provider.get_ice_servers(user_id)
    end
  end

  defp understand({:ok, %{ice_servers: servers, expires_at: expiry}})
       when is_integer(expiry) and expiry > 0,
       do: {:ok, servers, expiry}

  defp understand({:ok, %{ice_servers: servers}}), do: {:ok, servers, :unknown}
  defp understand({:ok, servers}), do: {:ok, servers, :unknown}
  defp understand({:error, reason}), do: {:error, reason}
  defp understand(other), do: {:error, {:bad_answer, other}}

  # The provider knows best; without relays there is nothing that expires.
  defp expires_at(servers, :unknown), do: Payload.expires_at(servers)

  defp expires_at(servers, expiry),
    do: if(Enum.any?(servers, &Map.has_key?(&1, :credential)), do: expiry)

  # A wrong setting is no reason to go without a relay.
  defp settings(opts) do
    for name <- [:stun_urls, :max_ice_servers],
        {:ok, value} <- [fetch(name, opts)],
        do: {name, value}
  end

  defp fetch(name, opts) do
    with {:error, reason} <- Option.fetch(name, opts) do
      Telemetry.once(:error, {:setting, name}, fn ->
        "TURN: #{Reason.describe(reason, opts)}; going on without it"
      end)
    end
  end

  defp report(provider, next, reason, user_id, opts) do
    name = Provider.name(provider)
    metadata = %{provider: name, reason: Reason.clean(reason, opts), user_id: user_id}
    Telemetry.execute([:provider, :failed], %{count: 1}, metadata)

    Telemetry.once(:warning, {:failed, name, Reason.cause(reason)}, fn ->
      "TURN provider #{inspect(name)} failed, asking #{inspect(Provider.name(next))} instead: " <>
        Reason.describe(reason, opts)
    end)
  end
end
