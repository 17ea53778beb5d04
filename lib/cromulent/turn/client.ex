defmodule Cromulent.Turn.Client do
  @moduledoc false
  # A small TURN client over UDP, TCP, TLS and DTLS (RFC 8656, RFC 8489), for `mix turn.check` and for tests.
  #
  # It is a value, not a process: packets come as messages to the process that opened it, and what is
  # not waited for stays in the mailbox. Functions that talk to the server give back the client, which
  # remembers the server's realm and nonce.

  alias Cromulent.Turn.{
    AccessToken,
    Address,
    ChannelData,
    ClientStream,
    Credentials,
    OpaqueString
  }

  alias Cromulent.Turn.Stun

  @cookie 0x2112A442
  # RFC 8489 §6.2.1: RTO, Rc and Rm.
  @rto 500
  @sends 7
  @last_wait 16
  # RFC 8489 §6.2.2: Ti, over a connection, which loses nothing.
  @stream_wait 39_500
  # 401 once, and 438 for a nonce that aged in between.
  @challenges 2
  @software "cromulent_turn check"

  @enforce_keys [:socket, :server]
  defstruct [
    :socket,
    :server,
    :transport,
    :username,
    :password,
    :realm,
    :nonce,
    :key,
    :integrity,
    algorithms: nil,
    anonymous: false,
    token: nil,
    rto: @rto,
    deadline: 39_500
  ]

  @type address :: {:inet.ip_address(), :inet.port_number()}
  @type t :: %__MODULE__{}
  @type failure ::
          :timeout
          | :unreachable
          | {:refused, code :: 300..699, text :: String.t()}
          | {:send, :inet.posix()}
          | :closed
          | :bad_answer
  @type incoming ::
          {:data, address(), binary()}
          | {:channel, ChannelData.channel(), binary()}
          | {:icmp, address(), {byte(), byte(), non_neg_integer()}}

  # ---- sockets ----

  @doc """
  A client of the server at that address. Options: `transport`, `:udp` (the default), `:tcp`, `:tls` or `:dtls`;
  `username` and `password`, or `token`, a `Cromulent.Turn.AccessToken`; `ip`, the local address; `tls`, options of `:ssl.connect/4`; `rto` and
  `deadline` in ms.
  """
  @spec open(address(), keyword()) :: {:ok, t()} | {:error, ClientStream.reason()}
  def open(server, opts \\ []) do
    {connection, opts} = Keyword.split(opts, [:ip, :tls])
    opts = opts |> Enum.map(&prepared/1) |> Keyword.put_new(:transport, :udp)

    with {:ok, socket} <- connect(opts[:transport], server, connection),
         do: {:ok, with_token(struct!(%__MODULE__{socket: socket, server: server}, opts))}
  end

  defp with_token(%{token: nil} = client), do: client
  defp with_token(client), do: put_token(client, client.token)

  # RFC 8489 §14.3, §9.2.2: what a person typed becomes what the server's side has.
  defp prepared({name, text}) when name in [:username, :password] and is_binary(text),
    do: {name, OpaqueString.prepared(text)}

  defp prepared(other), do: other

  defp connect(:tcp, server, opts), do: ClientStream.open(server, Keyword.delete(opts, :tls))

  defp connect(:tls, server, opts),
    do: ClientStream.open(server, Keyword.put_new(opts, :tls, verify: :verify_none))

  defp connect(:dtls, server, opts) do
    tls = Keyword.put(opts[:tls] || [verify: :verify_none], :protocol, :dtls)
    ClientStream.open(server, Keyword.put(opts, :tls, tls))
  end

  defp connect(:udp, {ip, port}, opts) do
    local = Keyword.take(opts, [:ip])
    socket_opts = [:binary, Address.family(ip), active: true, recbuf: 1_048_576] ++ local

    with {:ok, socket} <- :gen_udp.open(0, socket_opts) do
      case :gen_udp.connect(socket, ip, port) do
        :ok ->
          {:ok, socket}

        error ->
          :gen_udp.close(socket)
          error
      end
    end
  end

  @spec close(t()) :: :ok
  def close(%{transport: :udp} = client), do: :gen_udp.close(client.socket)
  def close(client), do: ClientStream.close(client.socket)

  @doc "The client's own address and port."
  @spec local(t()) :: address()
  def local(%{transport: :udp} = client) do
    {:ok, address} = :inet.sockname(client.socket)
    address
  end

  def local(client), do: ClientStream.local(client.socket)

  @doc "Sends a packet as it is."
  @spec send_packet(t(), iodata()) :: :ok | {:error, :inet.posix() | :closed}
  def send_packet(%{transport: :udp} = client, packet), do: :gen_udp.send(client.socket, packet)
  def send_packet(client, packet), do: ClientStream.send_bytes(client.socket, packet)

  # ---- transactions ----

  @doc "The client's address as the server sees it."
  @spec binding(t()) :: {:ok, address()} | {:error, failure()}
  def binding(client) do
    case transact(client, Stun.new(:request, :binding, software: @software), fingerprint: true) do
      {:ok, %Stun{class: :success} = answer, _packet} -> fetch(answer, :xor_mapped_address)
      {:ok, answer, _packet} -> {:error, refusal(answer)}
      error -> error
    end
  end

  @doc """
  An authenticated request: challenges are answered, the answer's integrity is checked. The answer
  is a success response.
  """
  @spec request(t(), Stun.method(), [Stun.attribute()]) ::
          {:ok, Stun.t(), t()} | {:error, failure(), t()}
  def request(client, method, attributes \\ []),
    do: request(client, method, attributes, @challenges)

  defp request(client, method, attributes, challenges) do
    {message, opts} = prepare(client, method, attributes)

    case transact(client, message, opts) do
      {:ok, %Stun{class: :success} = answer, _packet} -> {:ok, answer, client}
      {:ok, answer, _packet} -> challenged(client, method, attributes, answer, challenges)
      {:error, reason} -> {:error, reason, client}
    end
  end

  defp challenged(client, method, attributes, answer, challenges) do
    {:refused, code, _text} = refusal = refusal(answer)

    # A 401 to credentials that were sent is the last word; without any it asks for them.
    if challenges > 0 and client.username != nil and
         (code == 438 or (code == 401 and client.key == nil)),
       do: client |> learn(answer) |> request(method, attributes, challenges - 1),
       else: {:error, refusal, client}
  end

  @doc "The request's message, with credentials where they are known, and the options to encode it."
  @spec prepare(t(), Stun.method(), [Stun.attribute()]) :: {Stun.t(), keyword()}
  def prepare(client, method, attributes) do
    attributes =
      attributes ++ token(client, method) ++ [software: @software] ++ credentials(client)

    integrity = if client.key, do: [integrity: {client.integrity, client.key}], else: []
    {Stun.new(:request, method, attributes), [{:fingerprint, true} | integrity]}
  end

  # RFC 7635 §9: in these two only.
  defp token(%{token: %AccessToken{token: token}, key: key}, method)
       when key != nil and method in [:allocate, :refresh],
       do: [access_token: token]

  defp token(_client, _method), do: []

  @doc "Another token for the requests from now on."
  @spec put_token(t(), AccessToken.t()) :: t()
  def put_token(client, token) do
    key = if client.key, do: token.mac_key
    %{client | token: token, username: token.kid, key: key}
  end

  @doc "What a challenge (401, 438) teaches: realm, nonce, and which key the server takes."
  @spec learn(t(), Stun.t()) :: t()
  def learn(client, answer) do
    realm = Stun.get(answer, :realm)
    algorithms = Stun.get(answer, :password_algorithms)
    # RFC 8489 §9.2.5; without the list it is the MD5 of old.
    strong? = {:sha256, ""} in (algorithms || [])
    {algorithm, integrity} = if strong?, do: {:sha256, :sha256}, else: {:md5, :sha1}

    %{
      client
      | realm: realm,
        nonce: Stun.get(answer, :nonce),
        algorithms: algorithms,
        anonymous: client.token == nil and anonymous?(Stun.get(answer, :nonce)),
        integrity: integrity,
        key: key(client, realm, algorithm)
    }
  end

  # That of a token is used as it is.
  defp key(%{token: %AccessToken{mac_key: key}}, _realm, _algorithm), do: key

  defp key(client, realm, algorithm),
    do: Credentials.key(client.username, realm, client.password, algorithm)

  # The second feature bit of a nonce cookie asks for USERHASH (RFC 8489 §9.2.5, §18.1).
  defp anonymous?(<<"obMatJos2", bits::binary-size(4), _::binary>>),
    do: match?({:ok, <<_::1, 1::1, _::22>>}, Base.decode64(bits))

  defp anonymous?(_nonce), do: false

  defp credentials(%{key: nil}), do: []

  defp credentials(client) do
    user =
      if client.anonymous,
        do: [userhash: Credentials.userhash(client.username, client.realm)],
        else: [username: client.username]

    base = user ++ [realm: client.realm, nonce: client.nonce]

    if client.algorithms do
      algorithm = if client.integrity == :sha256, do: :sha256, else: :md5
      base ++ [password_algorithms: client.algorithms, password_algorithm: {algorithm, ""}]
    else
      base
    end
  end

  @doc """
  Sends a request, again and again as RFC 8489 §6.2.1 has it, until its answer comes. An answer that
  is not protected as the request was is taken only where it may be: challenges are not.
  """
  @spec transact(t(), Stun.t(), keyword()) :: {:ok, Stun.t(), binary()} | {:error, failure()}
  def transact(client, %Stun{} = message, opts \\ []) do
    packet = Stun.encode(message, opts)
    # Only what was asked with integrity is answered with it.
    client = if opts[:integrity], do: client, else: %{client | key: nil}
    start = now()
    {schedule, patience} = schedule(client)
    send_times = Enum.map(schedule, &(&1 + start))
    deadline = start + min(client.deadline, patience)
    exchange(client, packet, message.transaction_id, send_times, deadline)
  end

  # When to send, in ms from the start: 0, 500, 1500, 3500, ...; and when to give up.
  defp schedule(%{transport: transport, rto: rto}) when transport in [:udp, :dtls] do
    times = for n <- 0..(@sends - 1), do: (Bitwise.bsl(1, n) - 1) * rto
    {times, List.last(times) + @last_wait * rto}
  end

  defp schedule(_client), do: {[0], @stream_wait}

  defp exchange(client, packet, id, [_now | later], deadline) do
    with :ok <- send_packet(client, packet) do
      until = Enum.min([deadline | later])

      case await(client, id, until) do
        :timeout when until < deadline -> exchange(client, packet, id, later, deadline)
        :timeout -> {:error, :timeout}
        result -> result
      end
    else
      {:error, :econnrefused} -> {:error, :unreachable}
      {:error, :closed} -> {:error, :closed}
      {:error, reason} -> {:error, {:send, reason}}
    end
  end

  defp await(%{socket: socket} = client, id, until) do
    receive do
      {:udp, ^socket, _, _,
       <<0::2, _::30, @cookie::32, ^id::binary-size(12), _::binary>> = packet} ->
        with :discard <- answer(client, packet), do: await(client, id, until)

      {:frame, ^socket, <<0::2, _::30, @cookie::32, ^id::binary-size(12), _::binary>> = packet} ->
        with :discard <- answer(client, packet), do: await(client, id, until)

      {:closed, ^socket, _reason} = closed ->
        # Whoever asks next is to know it too.
        send(self(), closed)
        {:error, :closed}

      {:udp_error, ^socket, :econnrefused} ->
        {:error, :unreachable}
    after
      max(until - now(), 0) -> :timeout
    end
  end

  # RFC 8489 §9.2.5: an answer that fails its integrity check is as good as none; of errors, only one that
  # would lead elsewhere has to be protected here.
  defp answer(client, packet) do
    with {:ok, %Stun{class: class} = message} when class in [:success, :error] <-
           Stun.decode(packet),
         true <- (class == :error and not redirection?(message)) or trusted?(client, packet) do
      {:ok, message, packet}
    else
      _ -> :discard
    end
  end

  defp redirection?(message), do: match?({300, _}, Stun.get(message, :error_code))

  defp trusted?(%{key: nil}, _packet), do: true
  defp trusted?(client, packet), do: Stun.verify(packet, client.key, client.integrity) == :ok

  # ---- TURN ----

  @doc "An allocation: `relayed` and `mapped` addresses, `lifetime` in seconds, `token` if one was asked for."
  @spec allocate(t(), [Stun.attribute()]) :: {:ok, map(), t()} | {:error, failure(), t()}
  def allocate(client, attributes \\ []) do
    with {:ok, answer, client} <-
           request(client, :allocate, [{:requested_transport, :udp} | attributes]) do
      allocation = %{
        relayed: Stun.get(answer, :xor_relayed_address),
        mapped: Stun.get(answer, :xor_mapped_address),
        lifetime: Stun.get(answer, :lifetime),
        token: Stun.get(answer, :reservation_token)
      }

      if allocation.relayed && allocation.lifetime,
        do: {:ok, allocation, client},
        else: {:error, :bad_answer, client}
    end
  end

  @doc "Refreshes the allocation, or ends it with a lifetime of 0. Gives the lifetime in seconds."
  @spec refresh(t(), non_neg_integer()) ::
          {:ok, non_neg_integer(), t()} | {:error, failure(), t()}
  def refresh(client, lifetime \\ 600) do
    with {:ok, answer, client} <- request(client, :refresh, lifetime: lifetime),
         do: {:ok, Stun.get(answer, :lifetime), client}
  end

  @doc "Permissions for these peers."
  @spec permit(t(), [address()]) :: {:ok, t()} | {:error, failure(), t()}
  def permit(client, peers) do
    attributes = for peer <- peers, do: {:xor_peer_address, peer}
    with {:ok, _, client} <- request(client, :create_permission, attributes), do: {:ok, client}
  end

  @doc "Binds a channel to a peer."
  @spec bind(t(), ChannelData.channel(), address()) :: {:ok, t()} | {:error, failure(), t()}
  def bind(client, channel, peer) do
    attributes = [channel_number: channel, xor_peer_address: peer]
    with {:ok, _, client} <- request(client, :channel_bind, attributes), do: {:ok, client}
  end

  @doc "Sends to a peer, by an address (a Send indication) or by a channel (ChannelData)."
  @spec send_to(t(), address() | ChannelData.channel(), binary()) ::
          :ok | {:error, :inet.posix() | :closed}
  def send_to(client, channel, data) when is_integer(channel) do
    send_packet(
      client,
      ChannelData.encode(channel, data, stream?: client.transport in [:tcp, :tls])
    )
  end

  def send_to(client, peer, data) do
    send_packet(
      client,
      Stun.encode(Stun.new(:indication, :send, xor_peer_address: peer, data: data))
    )
  end

  @doc "The next thing that was relayed to this client, within that many ms."
  @spec recv(t(), timeout_ms :: non_neg_integer()) :: {:ok, incoming()} | {:error, :timeout}
  def recv(client, timeout_ms), do: recv_until(client, now() + timeout_ms)

  defp recv_until(%{socket: socket} = client, until) do
    receive do
      {:udp, ^socket, _, _, packet} ->
        take_or_wait(client, packet, until)

      {:frame, ^socket, packet} ->
        take_or_wait(client, packet, until)
    after
      max(until - now(), 0) -> {:error, :timeout}
    end
  end

  defp take_or_wait(client, packet, until) do
    case incoming(packet) do
      nil -> recv_until(client, until)
      incoming -> {:ok, incoming}
    end
  end

  defp incoming(<<1::2, _::bitstring>> = frame) do
    with {:ok, {channel, data}} <- ChannelData.decode(frame),
         do: {:channel, channel, data},
         else: (_ -> nil)
  end

  defp incoming(packet) do
    with {:ok, %Stun{class: :indication, method: :data} = message} <- Stun.decode(packet),
         {_, _} = peer <- Stun.get(message, :xor_peer_address) do
      case Stun.get(message, :icmp) do
        nil -> {:data, peer, Stun.get(message, :data)}
        icmp -> {:icmp, peer, icmp}
      end
    else
      _ -> nil
    end
  end

  # ---- answers ----

  defp fetch(answer, name) do
    case Stun.get(answer, name) do
      nil -> {:error, :bad_answer}
      value -> {:ok, value}
    end
  end

  defp refusal(answer) do
    {code, text} = Stun.get(answer, :error_code, {500, "no error code"})
    {:refused, code, text <> alternates(answer)}
  end

  # Where a 300 leads to (RFC 8489 §10); elsewhere there is nothing to add.
  defp alternates(answer) do
    servers =
      for {:alternate_server, {ip, port}} <- answer.attributes,
          do: "#{Address.to_host(ip)}:#{port}"

    domain = Stun.get(answer, :alternate_domain)

    case {servers, domain} do
      {[], _} -> ""
      {servers, nil} -> ": " <> Enum.join(servers, ", ")
      {servers, domain} -> ": " <> Enum.join(servers, ", ") <> ", certificate of " <> domain
    end
  end

  defp now, do: System.monotonic_time(:millisecond)
end
