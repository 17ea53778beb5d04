defmodule Cromulent.Turn.Check do
  @moduledoc false
  # Does with a TURN server what a call would do, step by step, and says why a step fails.

  alias Cromulent.Turn.{Address, Client, Credentials}

  @typedoc """
  `credentials`: a username and a password, or the secret to make them from, as a function. `realm`:
  what the server's should be, nil when that is not known.
  """
  @type target :: %{
          address: Client.address(),
          credentials: {String.t(), String.t()} | {:secret, (() -> binary())},
          realm: String.t() | nil
        }
  @type step :: %{name: String.t(), ms: float(), result: {:ok, String.t()} | {:error, String.t()}}

  @ttl 600
  # How long credentials must hold, in seconds, for a server whose clock is that much ahead.
  @skews [7_200, 86_400, 30 * 86_400, 31_536_000]
  @patience %{rto: 250, deadline: 5_000}
  @payload_size 512
  @tries 6
  @try_ms 500

  @steps [
    binding: "binding",
    allocate: "allocate",
    allocate_peer: "second allocation",
    permit: "permission",
    relay: "relay round trip",
    refresh: "refresh",
    release: "release"
  ]

  @doc "Runs the steps in order, up to the first that fails; each is reported when it is done."
  @spec run(target(), (step() -> term())) :: :ok | :error
  def run(target, report) do
    {username, password} = credentials(target.credentials, @ttl)
    opts = [username: username, password: password] ++ Map.to_list(@patience)
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
    with {:ok, client} <- Client.open(state.target.address, state.opts),
         state = %{state | clients: [client]},
         {:ok, mapped} <- Client.binding(client) do
      {:ok, "seen as #{format(mapped)}", state}
    else
      {:error, reason} -> {:error, reason, state}
    end
  end

  defp step(:allocate, state), do: allocate(hd(state.clients), [], state)

  defp step(:allocate_peer, state) do
    case Client.open(state.target.address, state.opts) do
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

    with :ok <- pass(one, other, first, second, data),
         :ok <- pass(other, one, second, first, data) do
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
  defp pass(from, to, source, destination, data, tries \\ @tries)
  defp pass(_from, _to, _source, _destination, _data, 0), do: :lost

  defp pass(from, to, source, destination, data, tries) do
    Client.send_to(from, destination, data)

    case Client.recv(to, @try_ms) do
      {:ok, {:data, ^source, ^data}} -> :ok
      _ -> pass(from, to, source, destination, data, tries - 1)
    end
  end

  # ---- why ----

  defp explain(_step, :timeout, state) do
    "unreachable: no answer from #{where(state)} within #{div(@patience.deadline, 1000)} s; " <>
      "is it running, and is its UDP port open on every firewall between?"
  end

  defp explain(_step, :unreachable, state),
    do: "unreachable: nothing listens on UDP at #{where(state)}"

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

  defp hint(437), do: ": the allocation is gone, or the client's address changed on the way"
  defp hint(440), do: ": it has no relay address of that family"
  defp hint(442), do: ": it does not relay UDP"
  defp hint(486), do: ": this user has too many allocations"
  defp hint(508), do: ": it is full, or draining"
  defp hint(_code), do: ""

  defp explain_401(%{target: target, opts: opts} = state) do
    realm = state.clients |> List.last() |> Map.get(:realm)

    wrong_realm(target.realm, realm) || expired(opts[:username]) || skewed(target) ||
      refused(target, opts)
  end

  defp wrong_realm(expected, realm) when expected in [nil, realm], do: nil

  defp wrong_realm(expected, realm),
    do:
      "401, wrong realm: the server's is #{inspect(realm)}, and #{inspect(expected)} was expected"

  # Time-limited usernames begin with their expiry.
  defp expired(username) do
    with {expiry, rest} when rest == "" or binary_part(rest, 0, 1) == ":" <-
           Integer.parse(username),
         past when past >= 0 and past < 100 * 31_536_000 <- System.os_time(:second) - expiry do
      "401, expired: the credential of #{inspect(username)} ended #{past} s ago"
    else
      _ -> nil
    end
  end

  # With the secret at hand credentials of any lifetime can be made: if only longer ones hold, it is
  # the clock of the server that is ahead.
  defp skewed(%{credentials: {:secret, _}} = target) do
    with ttl when ttl != nil <- Enum.find(@skews, &accepted?(target, &1)) do
      "401, clock skew: credentials that hold for #{@ttl} s are refused, and for #{ttl} s accepted: " <>
        "the server's clock is ahead of this one by more than #{@ttl} s"
    end
  end

  defp skewed(_target), do: nil

  defp accepted?(target, ttl) do
    {username, password} = credentials(target.credentials, ttl)
    opts = [username: username, password: password] ++ Map.to_list(@patience)
    {:ok, client} = Client.open(target.address, opts)
    {verdict, _, client} = Client.allocate(client)
    leave(client)
    verdict == :ok
  end

  defp refused(%{credentials: {:secret, _}}, _opts),
    do: "401, wrong secret: the server does not accept what this secret signs"

  defp refused(_target, opts) do
    "401, wrong credential: the server does not accept this credential for the username " <>
      inspect(opts[:username])
  end

  defp credentials({:secret, secret}, ttl) do
    made = Credentials.generate("turn.check", secret.(), ttl: ttl)
    {made.username, made.credential}
  end

  defp credentials({username, password}, _ttl), do: {username, password}

  defp where(state), do: format(state.target.address)
  defp format({ip, port}), do: "#{Address.to_host(ip)}:#{port}"
end
