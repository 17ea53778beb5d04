defmodule Cromulent.Turn.TcpPeer do
  @moduledoc false
  # TCP allocations (RFC 6062) as tests speak of them: peers with plain sockets, and data connections,
  # which are plain sockets too once they are bound: `{:gen_tcp | :ssl, socket}`, both passive.

  import ExUnit.Assertions
  import Cromulent.Turn.Wire, only: [code: 1]

  alias Cromulent.Turn.{Client, Stun}

  @wait 10_000
  @tcp {:requested_transport, :tcp}

  # ---- the control connection ----

  @doc "A TCP allocation over this client: `{client, relayed address}`."
  def allocate_tcp(client, more \\ []) do
    {:ok, answer, client} = Client.request(client, :allocate, [@tcp | more])
    {client, Stun.get(answer, :xor_relayed_address)}
  end

  @doc "Connect: the connection's id."
  def connect(client, peer) do
    {:ok, answer, _} = Client.request(client, :connect, xor_peer_address: peer)
    Stun.get(answer, :connection_id)
  end

  def connect_code(client, peer) do
    {:error, {:refused, code, _}, _} = Client.request(client, :connect, xor_peer_address: peer)
    code
  end

  @doc "The next ConnectionAttempt: `{peer, id}`."
  def attempt(%{socket: socket}) do
    receive do
      {:frame, ^socket, <<0x001C::16, _::binary>> = frame} ->
        {:ok, indication} = Stun.decode(frame)
        {Stun.get(indication, :xor_peer_address), Stun.get(indication, :connection_id)}
    after
      @wait -> flunk("no ConnectionAttempt")
    end
  end

  # ---- data connections ----

  @doc "A connection of its own, bound: what the user sends on it goes to the peer. `first` goes with the request."
  def bind!(client, id, first \\ <<>>) do
    {200, data} = bind(client, id, first)
    data
  end

  @doc "ConnectionBind over a new connection: `{code, data connection}`."
  def bind(client, id, first \\ <<>>) do
    data = open(client)
    bind_on(data, client, id, first)
  end

  def bind_on(data, client, id, first \\ <<>>) do
    client = challenge(data, client)
    {message, opts} = Client.prepare(client, :connection_bind, connection_id: id)
    :ok = send_data(data, [Stun.encode(message, opts), first])
    {code(message(data)), data}
  end

  @doc "A data connection that knows a nonce, and the client that has learned it."
  def challenge(data, client) do
    request = Stun.new(:request, :connection_bind, connection_id: 0)
    :ok = send_data(data, Stun.encode(request))
    Client.learn(client, message(data))
  end

  def open(%{transport: transport, server: {ip, port}}), do: open(transport, ip, port)

  defp open(:tcp, ip, port) do
    {:ok, socket} = :gen_tcp.connect(ip, port, plain_options(ip))
    {:gen_tcp, socket}
  end

  defp open(:tls, ip, port) do
    {:ok, socket} = :ssl.connect(ip, port, options(ip) ++ [verify: :verify_none])
    {:ssl, socket}
  end

  defp options(ip) do
    family = if tuple_size(ip) == 4, do: :inet, else: :inet6
    [:binary, family, active: false, nodelay: true]
  end

  # Without `exit_on_close` a socket whose other end is done can still send.
  defp plain_options(ip), do: options(ip) ++ [exit_on_close: false]

  @doc "One STUN message, and not a byte more."
  def message(data) do
    <<_::16, length::16, _::binary>> = header = recv!(data, 20)
    body = if length > 0, do: recv!(data, length), else: <<>>
    {:ok, message} = Stun.decode(header <> body)
    message
  end

  # ---- sockets of either kind ----

  def send_data({module, socket}, bytes), do: module.send(socket, bytes)

  def recv!(socket, size) do
    assert {:ok, bytes} = recv(socket, size)
    bytes
  end

  def recv({module, socket}, size, wait \\ @wait), do: module.recv(socket, size, wait)
  def close({module, socket}), do: module.close(socket)
  def shutdown({module, socket}, how), do: module.shutdown(socket, how)

  @doc "The other end has closed, and nothing came before that."
  def assert_closed(socket) do
    assert {:error, reason} = recv(socket, 0)
    assert reason in [:closed, :econnreset]
  end

  # ---- peers ----

  @doc "A peer that listens: `{listening socket, address}`."
  def listen(ip \\ {127, 0, 0, 1}, opts \\ []) do
    {:ok, socket} = :gen_tcp.listen(0, [ip: ip, backlog: 64] ++ plain_options(ip) ++ opts)
    {:ok, address} = :inet.sockname(socket)
    {socket, address}
  end

  @doc "Who connects to it next, and from where."
  def accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener, @wait)
    {:ok, from} = :inet.peername(socket)
    {{:gen_tcp, socket}, from}
  end

  @doc "A peer that connects to a relayed address: `{socket, its own address}`."
  def dial({ip, port}) do
    {:ok, socket} = :gen_tcp.connect(ip, port, plain_options(ip))
    {:ok, address} = :inet.sockname(socket)
    {{:gen_tcp, socket}, address}
  end

  @doc "An address where nobody listens."
  def closed_port(ip \\ {127, 0, 0, 1}) do
    {socket, address} = listen(ip)
    :gen_tcp.close(socket)
    address
  end
end
