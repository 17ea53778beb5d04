defmodule Cromulent.Turn.HttpServer do
  @moduledoc false
  # An HTTP/1.1 server for tests, over TCP or TLS, that may misbehave in every way a real one can. What it
  # answers is decided by a function of the request, which runs in the process of the connection.

  import ExUnit.Callbacks

  @type request :: %{
          method: String.t(),
          path: String.t(),
          query: %{String.t() => String.t()},
          headers: %{String.t() => String.t()},
          body: binary()
        }

  # `:hang` never answers. `{:trickle, bytes}` sends those one every 20 ms, for ever. `{:raw, bytes}`
  # sends them as they are and closes; `{:raw, bytes, :hang}` leaves the connection open.
  # `{:huge, status}` sends 10 MB, `{:endless, status}` chunks without an end, `{:spoil, tcp_bytes}` bytes
  # below TLS.
  @type reply ::
          {100..599, binary()}
          | {100..599, [{String.t(), String.t()}], binary()}
          | :hang
          | {:trickle, binary()}
          | {:raw, iodata()}
          | {:raw, iodata(), :hang}
          | {:huge, 100..599}
          | {:endless, 100..599}
          | {:spoil, iodata()}

  @doc """
  Starts a server that ends with the test. `tls` has options of `:ssl.listen/2`. The test's process gets
  `{:http, url, request}` for each request.
  """
  def start(reply, opts \\ []) do
    test = self()
    {transport, listener, port} = listen_anew(opts[:tls])
    scheme = if opts[:tls], do: "https", else: "http"
    host = opts[:host] || if(opts[:tls], do: "localhost", else: "127.0.0.1")
    counter = :counters.new(3, [])
    url = "#{scheme}://#{host}:#{port}"
    state = %{reply: reply, transport: transport, counter: counter, test: test, url: url}

    acceptor = start_supervised!({Task, fn -> accept(listener, state) end}, id: make_ref())
    transport.give(listener, acceptor)
    %{url: url, port: port, counter: counter}
  end

  @doc "How many requests it has read."
  def requests(server), do: :counters.get(server.counter, 1)

  @doc "How many connections it has now."
  def connections(server), do: :counters.get(server.counter, 2) - :counters.get(server.counter, 3)

  @doc "A URL where nobody listens."
  def nowhere do
    {transport, listener, port} = listen_anew(nil)
    transport.close(listener)
    "http://127.0.0.1:#{port}"
  end

  @doc "Makes the table of the ports that were used; it lives as long as its maker."
  def init, do: :ets.new(__MODULE__, [:named_table, :public])

  # On a port that no server of this run had: the library remembers what was answered there.
  defp listen_anew(tls) do
    {transport, listener} = listen(tls)
    {:ok, {_ip, port}} = transport.name(listener)

    if :ets.insert_new(__MODULE__, {port}) do
      {transport, listener, port}
    else
      other = listen_anew(tls)
      transport.close(listener)
      other
    end
  end

  # ---- transports ----

  defmodule Tcp do
    @moduledoc false
    def name(listener), do: :inet.sockname(listener)
    def give(listener, pid), do: :gen_tcp.controlling_process(listener, pid)
    def accept(listener), do: :gen_tcp.accept(listener)
    def handshake(socket), do: {:ok, socket}
    def owner(socket, pid), do: :gen_tcp.controlling_process(socket, pid)
    def recv(socket, n, ms \\ :infinity), do: :gen_tcp.recv(socket, n, ms)
    def send(socket, data), do: :gen_tcp.send(socket, data)
    def close(socket), do: :gen_tcp.close(socket)
    def under(socket), do: socket
  end

  defmodule Tls do
    @moduledoc false
    def name(listener), do: :ssl.sockname(listener)
    def give(_listener, _pid), do: :ok
    def accept(listener), do: :ssl.transport_accept(listener)
    def handshake(socket), do: :ssl.handshake(socket, 5_000)
    def owner(socket, pid), do: :ssl.controlling_process(socket, pid)
    def recv(socket, n, ms \\ :infinity), do: :ssl.recv(socket, n, ms)
    def send(socket, data), do: :ssl.send(socket, data)
    def close(socket), do: :ssl.close(socket)

    # The port in the record {sslsocket, {gen_tcp, {port, ...} | port, ...}, ...}, wherever it is.
    def under(socket), do: socket |> find() |> hd()

    defp find(port) when is_port(port), do: [port]
    defp find(term) when is_tuple(term), do: term |> Tuple.to_list() |> find()
    defp find([head | tail]), do: find(head) ++ find(tail)
    defp find(_other), do: []
  end

  @listen [
    :binary,
    ip: {127, 0, 0, 1},
    active: false,
    reuseaddr: true,
    backlog: 1024,
    nodelay: true
  ]

  defp listen(nil) do
    {:ok, listener} = :gen_tcp.listen(0, @listen)
    {Tcp, listener}
  end

  defp listen(tls) do
    {:ok, _} = Application.ensure_all_started(:ssl)
    {:ok, listener} = :ssl.listen(0, @listen ++ [log_level: :none] ++ tls)
    {Tls, listener}
  end

  # ---- connections ----

  defp accept(listener, %{transport: transport} = state) do
    case transport.accept(listener) do
      {:ok, socket} ->
        :counters.add(state.counter, 2, 1)
        {:ok, pid} = Task.start_link(fn -> receive(do: (:yours -> connection(socket, state))) end)
        _ = transport.owner(socket, pid)
        send(pid, :yours)
        accept(listener, state)

      {:error, _closed} ->
        :ok
    end
  end

  defp connection(socket, %{transport: transport} = state) do
    with {:ok, socket} <- transport.handshake(socket) do
      with {:ok, request} <- read(transport, socket, "") do
        :counters.add(state.counter, 1, 1)
        send(state.test, {:http, state.url, request})
        answer(state.reply.(request), transport, socket)
      end

      transport.close(socket)
    end
  after
    :counters.add(state.counter, 3, 1)
  end

  defp read(transport, socket, got) do
    case String.split(got, "\r\n\r\n", parts: 2) do
      [head, body] -> parse(head, body, transport, socket)
      _ -> with {:ok, more} <- transport.recv(socket, 0), do: read(transport, socket, got <> more)
    end
  end

  defp parse(head, body, transport, socket) do
    [first | lines] = String.split(head, "\r\n")
    [method, target, _version] = String.split(first, " ")
    uri = URI.parse(target)

    headers =
      for line <- lines, [name, value] = String.split(line, ":", parts: 2), into: %{} do
        {String.downcase(name), String.trim(value)}
      end

    missing = String.to_integer(Map.get(headers, "content-length", "0")) - byte_size(body)

    with {:ok, rest} <- if(missing > 0, do: transport.recv(socket, missing), else: {:ok, ""}) do
      query = URI.decode_query(uri.query || "")
      request = %{method: method, path: uri.path, query: query, headers: headers}
      {:ok, Map.put(request, :body, body <> rest)}
    end
  end

  defp answer({status, body}, transport, socket) when is_integer(status),
    do: answer({status, [], body}, transport, socket)

  defp answer({status, headers, body}, transport, socket) when is_integer(status) do
    headers = [{"content-length", byte_size(body)}, {"connection", "close"} | headers]
    transport.send(socket, [head(status, headers), body])
  end

  defp answer({:raw, bytes}, transport, socket), do: transport.send(socket, bytes)

  defp answer({:raw, bytes, :hang}, transport, socket) do
    transport.send(socket, bytes)
    answer(:hang, transport, socket)
  end

  defp answer({:trickle, bytes}, transport, socket), do: trickle(bytes, bytes, transport, socket)

  defp answer({:huge, status}, transport, socket),
    do: answer({status, :binary.copy("x", 10_000_000)}, transport, socket)

  defp answer({:endless, status}, transport, socket) do
    transport.send(socket, head(status, [{"transfer-encoding", "chunked"}]))
    endless(["4000\r\n", :binary.copy(" ", 0x4000), "\r\n"], transport, socket)
  end

  # Bytes that TLS has not seen, and then, so that nothing is lost with them, the client's turn to close.
  defp answer({:spoil, bytes}, transport, socket) do
    true = Port.command(transport.under(socket), bytes)
    answer(:hang, transport, socket)
  end

  # Until the client closes.
  defp answer(:hang, transport, socket) do
    with {:ok, _ignored} <- transport.recv(socket, 0), do: answer(:hang, transport, socket)
  end

  defp trickle(bytes, "", transport, socket), do: trickle(bytes, bytes, transport, socket)

  defp trickle(bytes, <<byte, rest::binary>>, transport, socket) do
    with :ok <- transport.send(socket, <<byte>>),
         {:error, :timeout} <- transport.recv(socket, 1, 20),
         do: trickle(bytes, rest, transport, socket)
  end

  defp endless(chunk, transport, socket) do
    with :ok <- transport.send(socket, chunk), do: endless(chunk, transport, socket)
  end

  defp head(status, headers) do
    [
      "HTTP/1.1 #{status} Status\r\n",
      for({name, value} <- headers, do: "#{name}: #{value}\r\n"),
      "\r\n"
    ]
  end
end
