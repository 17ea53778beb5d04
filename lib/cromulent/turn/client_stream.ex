defmodule Cromulent.Turn.ClientStream do
  @moduledoc false
  # The connection of a `Cromulent.Turn.Client` over TCP, TLS or DTLS: a process that owns the socket and
  # sends its opener every frame that comes, as `{:frame, pid, frame}`, and in the end
  # `{:closed, pid, reason}`. It ends with its opener.

  use GenServer

  alias Cromulent.Turn.{Address, ChannelData}

  @connect_timeout 10_000

  @typedoc """
  `ip`: the local address. `tls`: options of `:ssl.connect/4`; TLS is spoken where they are given, DTLS
  with `protocol: :dtls` among them.
  """
  @type option :: {:ip, :inet.ip_address()} | {:tls, keyword() | nil}
  @type reason :: :inet.posix() | :timeout | {:tls, String.t()}

  # ---- client functions ----

  @doc "Connects, and becomes the caller's source of frames."
  @spec open({:inet.ip_address(), :inet.port_number()}, [option()]) ::
          {:ok, pid()} | {:error, reason()}
  def open(server, opts) do
    opener = self()
    ref = make_ref()

    # A start that fails is an answer, as in Cromulent.Turn.Relay: no exit signal, no report.
    case GenServer.start(__MODULE__, {opener, ref, server, opts}, timeout: 2 * @connect_timeout) do
      {:ok, pid} -> {:ok, pid}
      :ignore -> receive(do: ({^ref, reason} -> {:error, reason}))
      {:error, :timeout} -> {:error, :timeout}
    end
  end

  @doc "Sends bytes as they are."
  @spec send_bytes(pid(), iodata()) :: :ok | {:error, :inet.posix() | :closed}
  def send_bytes(pid, bytes), do: call(pid, {:send, bytes}, {:error, :closed})

  @doc "The socket's own address and port."
  @spec local(pid()) :: {:inet.ip_address(), :inet.port_number()} | nil
  def local(pid), do: call(pid, :local, nil)

  @doc "What TLS has settled: `protocol`, `cipher`, `alpn` and the server's certificate (`peercert`)."
  @spec tls_info(pid()) :: map()
  def tls_info(pid), do: call(pid, :tls_info, %{})

  @spec close(pid()) :: :ok
  def close(pid), do: call(pid, :close, :ok)

  defp call(pid, request, gone) do
    GenServer.call(pid, request)
  catch
    :exit, _ -> gone
  end

  # ---- callbacks ----

  @impl true
  def init({opener, ref, server, opts}) do
    Process.monitor(opener)

    case connect(server, opts) do
      {:ok, transport, socket} ->
        datagrams? = opts[:tls][:protocol] == :dtls
        state = %{opener: opener, transport: transport, socket: socket, rest: <<>>}
        {:ok, Map.put(state, :datagrams?, datagrams?)}

      {:error, reason} ->
        send(opener, {ref, reason})
        :ignore
    end
  end

  @impl true
  def handle_call({:send, bytes}, _from, state),
    do: {:reply, state.transport.send(state.socket, bytes), state}

  def handle_call(:local, _from, state) do
    local =
      case sockname(state) do
        {:ok, address} -> address
        {:error, _} -> nil
      end

    {:reply, local, state}
  end

  def handle_call(:tls_info, _from, state), do: {:reply, tls(state), state}

  def handle_call(:close, _from, state) do
    state.transport.close(state.socket)
    {:stop, :normal, :ok, state}
  end

  @impl true
  def handle_info({:ssl, socket, packet}, %{socket: socket, datagrams?: true} = state) do
    send(state.opener, {:frame, self(), packet})
    {:noreply, state}
  end

  def handle_info({tag, socket, bytes}, %{socket: socket} = state) when tag in [:tcp, :ssl],
    do: frames(%{state | rest: state.rest <> bytes})

  def handle_info({tag, socket}, %{socket: socket} = state)
      when tag in [:tcp_closed, :ssl_closed],
      do: over(state, :closed)

  def handle_info({tag, socket, reason}, %{socket: socket} = state)
      when tag in [:tcp_error, :ssl_error],
      do: over(state, reason)

  def handle_info({:DOWN, _, :process, opener, _}, %{opener: opener} = state),
    do: {:stop, :normal, state}

  def handle_info(_message, state), do: {:noreply, state}

  # ---- helpers ----

  defp connect({ip, port}, opts) do
    local = Keyword.take(opts, [:ip])
    base = [:binary, Address.family(ip), active: true] ++ local

    if tls = opts[:tls],
      do: connect_tls(ip, port, base ++ tls),
      else:
        with(
          {:ok, socket} <- :gen_tcp.connect(ip, port, [nodelay: true] ++ base, @connect_timeout),
          do: {:ok, :gen_tcp, socket}
        )
  end

  defp connect_tls(ip, port, opts) do
    {:ok, _} = Application.ensure_all_started(:ssl)

    case :ssl.connect(ip, port, [log_level: :none] ++ opts, @connect_timeout) do
      {:ok, socket} -> {:ok, :ssl, socket}
      {:error, {:tls_alert, {_alert, text}}} -> {:error, {:tls, alert(text)}}
      {:error, {:options, reason}} -> {:error, {:tls, inspect(reason)}}
      {:error, reason} -> {:error, reason}
    end
  end

  # Of "TLS client: In state ... generated CLIENT ALERT: Fatal - Unknown CA" the end.
  defp alert(text),
    do: text |> to_string() |> String.split("ALERT: ") |> List.last() |> String.trim()

  defp sockname(%{transport: :ssl, socket: socket}), do: :ssl.sockname(socket)
  defp sockname(%{socket: socket}), do: :inet.sockname(socket)

  defp tls(%{transport: :ssl, socket: socket}) do
    {:ok, info} = :ssl.connection_information(socket, [:protocol, :selected_cipher_suite])
    alpn = with {:ok, name} <- :ssl.negotiated_protocol(socket), do: name, else: (_ -> nil)
    {:ok, certificate} = :ssl.peercert(socket)

    %{
      protocol: info[:protocol],
      cipher: info[:selected_cipher_suite],
      alpn: alpn,
      peercert: certificate
    }
  end

  defp tls(_state), do: %{}

  defp frames(%{rest: rest} = state) do
    case ChannelData.frame_size(rest) do
      {:ok, size} when size <= byte_size(rest) ->
        <<frame::binary-size(size), rest::binary>> = rest
        send(state.opener, {:frame, self(), unpadded(frame)})
        frames(%{state | rest: rest})

      {:error, reason} ->
        over(state, reason)

      _more ->
        {:noreply, state}
    end
  end

  # RFC 8656 §12.5: the padding of ChannelData on a stream is no part of the message.
  defp unpadded(<<1::2, _::14, size::16, _::binary>> = frame), do: binary_part(frame, 0, 4 + size)
  defp unpadded(frame), do: frame

  defp over(state, reason) do
    send(state.opener, {:closed, self(), reason})
    {:stop, :normal, state}
  end
end
