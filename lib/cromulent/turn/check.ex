defmodule Cromulent.Turn.Check do
  @moduledoc false
  # Does with a TURN server what a call would do, step by step, and says why a step fails.

  alias Cromulent.Turn.{Address, Client, Credentials}

  @typedoc """
  `credentials`: a username and a password, or the secret to make them from, as a function. `realm`:
  what the server's should be, nil when that is not known. `transport` is `:udp` where it is not given;
  `tls` are options of `:ssl.connect/4`.
  """
  @type target :: %{
          required(:address) => Client.address(),
          required(:credentials) => {String.t(), String.t()} | {:secret, (() -> binary())},
          required(:realm) => String.t() | nil,
          optional(:transport) => :udp | :tcp | :tls | :dtls,
          optional(:tls) => keyword()
        }
  @type step :: %{name: String.t(), ms: float(), result: {:ok, String.t()} | {:error, String.t()}}

  @ttl 600
  # How long credentials must hold, in seconds, for a server whose clock is that much ahead.
  @skews [7_200, 86_400, 30 * 86_400, 31_536_000]
  @defaults [rto: 250, deadline: 5_000, try_ms: 500]
  @payload_size 512
  # Seconds: ten years.
  @past_most 10 * 31_536_000
  @tries 6

  @steps [
    binding: "binding",
    allocate: "allocate",
    allocate_peer: "second allocation",
    permit: "permission",
    relay: "relay round trip",
    refresh: "refresh",
    release: "release"
  ]

  @doc """
  Runs the steps in order, up to the first that fails; each is reported when it is done.

  Options, for tests: `rto` and `deadline` of a request and `try_ms` of a datagram, in ms, and `now`, this
  machine's time in Unix seconds.
  """
  @spec run(target(), (step() -> term()), keyword()) :: :ok | :error
  def run(target, report, opts \\ []) do
    opts = @defaults |> Keyword.put(:now, System.os_time(:second)) |> Keyword.merge(opts)
    state = %{target: target, opts: opts, clients: [], relayed: []}
    {state, result} = Enum.reduce_while(@steps, {state, :ok}, &take(&1, &2, report))
    Enum.each(state.clients, &leave/1)
    result
  end

  defp take({step, name}, {state, _}, report) do
    start = System.monotonic_time(:microsecond)
    result = step(step, state)
    ms = (System.monotonic_time(:microsecond) - start) / 1000

    case result do
      {:ok, text, state} ->
        report.(%{name: name, ms: ms, result: {:ok, text}})
        {:cont, {state, :ok}}

      {:error, reason, state} ->
        report.(%{name: name, ms: ms, result: {:error, explain(step, reason, state)}})
        {:halt, {state, :error}}
    end
  end

  # Nothing is left behind on the server, as far as it can be reached.
  defp leave(client) do
    if client.key, do: Client.refresh(%{client | deadline: 500}, 0)
    Client.close(client)
  end

  # ---- steps ----

  defp step(:binding, state) do
    with {:ok, client} <- open(state, @ttl),
         state = %{state | clients: [client]},
         {:ok, mapped} <- Client.binding(client) do
      {:ok, "seen as #{format(mapped)}", state}
    else
      {:error, reason} -> {:error, reason, state}
    end
  end

  defp step(:allocate, state), do: allocate(hd(state.clients), [], state)

  defp step(:allocate_peer, state) do
    case open(state, @ttl) do
      {:ok, client} -> allocate(client, state.clients, state)
      {:error, reason} -> {:error, reason, state}
    end
  end

  defp step(:permit, %{clients: [one, other], relayed: [first, second]} = state) do
    with {:ok, one} <- Client.permit(one, [second]),
         {:ok, other} <- Client.permit(other, [first]) do
      {:ok, "for each other's address", %{state | clients: [one, other]}}
    else
      {:error, reason, _client} -> {:error, reason, state}
    end
  end

  defp step(:relay, %{clients: [one, other], relayed: [first, second]} = state) do
    data = :crypto.strong_rand_bytes(@payload_size)

    with :ok <- pass({one, first}, {other, second}, data, state.opts[:try_ms], @tries),
         :ok <- pass({other, second}, {one, first}, data, state.opts[:try_ms], @tries) do
      {:ok, "#{@payload_size} bytes there and back", state}
    else
      :lost -> {:error, :no_path, state}
    end
  end

  defp step(:refresh, %{clients: [one, other]} = state) do
    case Client.refresh(one) do
      {:ok, lifetime, one} -> {:ok, "lifetime #{lifetime} s", %{state | clients: [one, other]}}
      {:error, reason, _client} -> {:error, reason, state}
    end
  end

  defp step(:release, %{clients: [one, other]} = state) do
    with {:ok, 0, one} <- Client.refresh(one, 0),
         {:ok, 0, other} <- Client.refresh(other, 0) do
      {:ok, "both", %{state | clients: [%{one | key: nil}, %{other | key: nil}]}}
    else
      {:ok, lifetime, _client} -> {:error, {:lifetime, lifetime}, state}
      {:error, reason, _client} -> {:error, reason, state}
    end
  end

  defp allocate(client, before, state) do
    # A server at an IPv6 address relays from one too: its relay addresses may be of that family only.
    {ip, _port} = state.target.address
    family = if Address.family(ip) == :inet6, do: [requested_address_family: :ipv6], else: []

    case allocate_family(client, family) do
      {:ok, allocation, client} ->
        text = "relayed as #{format(allocation.relayed)}, lifetime #{allocation.lifetime} s"
        relayed = state.relayed ++ [allocation.relayed]
        {:ok, text, %{state | clients: before ++ [client], relayed: relayed}}

      {:error, reason, client} ->
        {:error, reason, %{state | clients: before ++ [client]}}
    end
  end

  # 440: the family is not supported.
  defp allocate_family(client, family) do
    case Client.allocate(client, family) do
      {:error, {:refused, 440, _}, client} when family != [] -> Client.allocate(client, [])
      result -> result
    end
  end

  # UDP may lose a packet on the way, so a lost one is sent again.
  defp pass(_from, _to, _data, _try_ms, 0), do: :lost

  defp pass({from, source} = sender, {to, destination} = receiver, data, try_ms, tries) do
    Client.send_to(from, destination, data)

    case Client.recv(to, try_ms) do
      {:ok, {:data, ^source, ^data}} -> :ok
      _ -> pass(sender, receiver, data, try_ms, tries - 1)
    end
  end

  # A client with credentials that hold for so many seconds, if they are made here.
  defp open(%{target: target, opts: opts}, ttl) do
    {username, password} = credentials(target.credentials, ttl, opts[:now])
    way = Keyword.take(Map.to_list(target), [:transport, :tls])
    patience = Keyword.take(opts, [:rto, :deadline])

    case Client.open(target.address, [username: username, password: password] ++ way ++ patience) do
      {:error, :econnrefused} -> {:error, :unreachable}
      result -> result
    end
  end

  defp credentials({:secret, secret}, ttl, now) do
    made = Credentials.generate("turn.check", secret.(), ttl: ttl, now: now)
    {made.username, made.credential}
  end

  defp credentials({username, password}, _ttl, _now), do: {username, password}

  # ---- why ----

  defp explain(_step, :timeout, state) do
    "unreachable: no answer from #{where(state)} within #{state.opts[:deadline]} ms; " <>
      "is it running, and is its #{port_kind(state)} port open on every firewall between?"
  end

  defp explain(_step, :unreachable, state),
    do: "unreachable: nothing listens on #{port_kind(state)} at #{where(state)}"

  defp explain(_step, {:tls, text}, state), do: "no TLS with #{where(state)}: #{text}"

  defp explain(_step, :closed, state),
    do: "unreachable: #{where(state)} closed the connection; does it speak TURN over TCP there?"

  defp explain(_step, {:send, reason}, state),
    do: "unreachable: cannot send to #{where(state)}: #{reason}"

  defp explain(_step, {:refused, 401, _text}, state), do: explain_401(state)

  defp explain(_step, {:refused, 438, _text}, _state),
    do: "438: the server calls its own fresh nonces stale; does its clock jump?"

  defp explain(:permit, {:refused, 403, _text}, state) do
    "no relay path: 403, the server refuses its own relayed address #{format(hd(state.relayed))} as a peer"
  end

  defp explain(_step, {:refused, code, text}, _state), do: "#{code} #{text}#{hint(code)}"

  defp explain(_step, :no_path, %{relayed: [first, second]}) do
    "no relay path: what #{format(first)} sends to #{format(second)} and back is lost; is the external " <>
      "address right, and are the relay's UDP ports open to itself?"
  end

  defp explain(_step, :bad_answer, state), do: "the answer of #{where(state)} is no TURN server's"
  defp explain(_step, reason, _state), do: inspect(reason)

  defp hint(300), do: ": the server sends clients on; check that one"
  defp hint(437), do: ": the allocation is gone, or the client's address changed on the way"
  defp hint(440), do: ": it has no relay address of that family"
  defp hint(442), do: ": it does not relay UDP"
  defp hint(486), do: ": this user has too many allocations"
  defp hint(508), do: ": it is full, or draining"
  defp hint(_code), do: ""

  defp explain_401(%{target: target} = state) do
    %{realm: realm, username: username} = List.last(state.clients)

    wrong_realm(target.realm, realm) || expired(username, state.opts[:now]) || skewed(state) ||
      refused(target, username)
  end

  defp wrong_realm(expected, realm) when expected in [nil, realm], do: nil

  defp wrong_realm(expected, realm),
    do:
      "401, wrong realm: the server's is #{inspect(realm)}, and #{inspect(expected)} was expected"

  # Time-limited usernames begin with their expiry; a number that is no time of late is just a name.
  defp expired(username, now) do
    with {expiry, rest} when rest == "" or binary_part(rest, 0, 1) == ":" <-
           Integer.parse(username),
         past when past in 0..@past_most <- now - expiry do
      "401, expired: the credential of #{inspect(username)} ended #{past} s ago"
    else
      _ -> nil
    end
  end

  # With the secret at hand credentials of any lifetime can be made: if only longer ones hold, it is
  # the clock of the server that is ahead.
  defp skewed(%{target: %{credentials: {:secret, _}}} = state) do
    with ttl when ttl != nil <- Enum.find(@skews, &accepted?(state, &1)) do
      "401, clock skew: credentials that hold for #{@ttl} s are refused, and for #{ttl} s accepted: " <>
        "the server's clock is ahead of this one by more than #{@ttl} s"
    end
  end

  defp skewed(_state), do: nil

  defp accepted?(state, ttl) do
    {:ok, client} = open(state, ttl)
    {verdict, _, client} = Client.allocate(client)
    leave(client)
    verdict == :ok
  end

  defp refused(%{credentials: {:secret, _}}, _username),
    do: "401, wrong secret: the server does not accept what this secret signs"

  defp refused(_target, username) do
    "401, wrong credential: the server does not accept this credential for the username " <>
      inspect(username)
  end

  defp port_kind(%{target: target}),
    do: if(Map.get(target, :transport, :udp) in [:udp, :dtls], do: "UDP", else: "TCP")

  defp where(state), do: format(state.target.address)
  defp format({ip, port}), do: "#{Address.to_host(ip)}:#{port}"
end
