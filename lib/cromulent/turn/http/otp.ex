defmodule Cromulent.Turn.Http.Otp do
  @moduledoc false
  # HTTP/1.1 (RFC 9112) over OTP's own TCP and TLS: one connection, one request, one answer, everything
  # in the calling process, with a limit for each thing that is read and one deadline for all.
  #
  # OTP's httpc would be the natural choice, and cannot keep this library's promises: it prints the whole
  # request, keys and all, when a connection breaks inside TLS; it gathers headers and the bodies of all
  # answers but 200 and 206 without a limit; it sends a request again, for ever if need be and whatever
  # became of the caller, when the answer is 503 with Retry-After; and its connections outlive the caller.

  @behaviour Cromulent.Turn.Http

  alias Cromulent.Turn.Http

  # Bytes of a head, of the trailers, and of a chunk's first line.
  @max_head 32_768
  @max_line 1_024

  # What is left of the connection: `buffer` was received and not read yet.
  @enforce_keys [:transport, :socket, :deadline, :max_body]
  defstruct [:transport, :socket, :deadline, :max_body, buffer: ""]

  @impl true
  @spec request(Http.method(), String.t(), Http.headers(), binary(), Http.options()) ::
          {:ok, Http.response()} | {:error, Http.reason()}
  def request(method, url, headers, body, opts) do
    uri = URI.parse(url)
    deadline = now() + opts[:timeout]

    with {:ok, text} <- compose(method, uri, headers, body),
         {:ok, transport, settings} <- transport(uri.scheme, opts),
         {:ok, socket} <- connect(transport, uri, settings, deadline) do
      state = %__MODULE__{
        transport: transport,
        socket: socket,
        deadline: deadline,
        max_body: opts[:max_body]
      }

      try do
        exchange(state, text)
      after
        transport.close(socket)
      end
    end
  end

  defp exchange(%{transport: transport, socket: socket} = state, text) do
    with :ok <- transport.send(socket, text) do
      read_response(state)
    else
      {:error, reason} -> {:error, Http.reason(reason)}
    end
  catch
    {:failed, reason} -> {:error, reason}
  end

  # ---- the request ----

  defp compose(method, %URI{host: host} = uri, headers, body) when is_binary(host) do
    target = (uri.path || "/") <> if(uri.query, do: "?" <> uri.query, else: "")
    verb = method |> Atom.to_string() |> String.upcase()
    length = if method == :get, do: [], else: [{"content-length", "#{byte_size(body)}"}]
    lines = [{"host", authority(uri)}, {"connection", "close"}] ++ length ++ headers
    texts = [target | Enum.flat_map(lines, &Tuple.to_list/1)]

    if host != "" and Enum.all?(texts, &one_line?/1) and not (target =~ " ") do
      head = for {name, value} <- lines, do: [name, ": ", value, "\r\n"]
      {:ok, [verb, " ", target, " HTTP/1.1\r\n", head, "\r\n", body]}
    else
      {:error, :failed}
    end
  end

  defp compose(_method, _uri, _headers, _body), do: {:error, :failed}

  # Nothing that could end a line of the head.
  defp one_line?(text), do: not (text =~ ~r/[\x00-\x1F\x7F]/)

  defp authority(%URI{host: host, port: port} = uri) do
    host = if host =~ ":", do: "[#{host}]", else: host
    if port == URI.default_port(uri.scheme), do: host, else: "#{host}:#{port}"
  end

  # ---- the connection ----

  @tcp [:binary, active: false, nodelay: true, send_timeout: 5_000, send_timeout_close: true]

  defp transport("http", _opts), do: {:ok, :gen_tcp, @tcp}

  defp transport("https", opts) do
    with {:ok, _} <- Application.ensure_all_started(:ssl),
         {:ok, trusted} <- trusted(opts[:cacertfile]) do
      match = :public_key.pkix_verify_hostname_match_fun(:https)

      tls = [
        verify: :verify_peer,
        depth: 5,
        versions: [:"tlsv1.3", :"tlsv1.2"],
        customize_hostname_check: [match_fun: match],
        log_level: :none
      ]

      {:ok, :ssl, @tcp ++ trusted ++ tls}
    else
      {:error, {:tls, _}} = error -> error
      {:error, _not_started} -> {:error, :not_available}
    end
  end

  defp transport(_scheme, _opts), do: {:error, :failed}

  defp trusted(nil) do
    {:ok, [cacerts: :public_key.cacerts_get()]}
  rescue
    # The operating system has none, or they are nowhere that OTP knows.
    _ -> {:error, {:tls, :no_ca_certificates}}
  end

  defp trusted(path), do: {:ok, [cacertfile: path]}

  # IPv6 where there is a route to it, else IPv4, which gets half of the time at least.
  defp connect(transport, uri, settings, deadline) do
    host = to_charlist(uri.host)

    case :inet.parse_strict_address(host) do
      {:ok, ip} when tuple_size(ip) == 8 ->
        connect(transport, host, uri.port, [:inet6 | settings], left(deadline))

      {:ok, _ip} ->
        connect(transport, host, uri.port, settings, left(deadline))

      {:error, _name} ->
        connect_name(transport, host, uri.port, settings, deadline)
    end
  end

  defp connect_name(transport, host, port, settings, deadline) do
    half = max(div(left(deadline), 2), 1)

    # What TLS refuses once it refuses again.
    case connect(transport, host, port, [:inet6 | settings], half) do
      {:ok, socket} -> {:ok, socket}
      {:error, {:tls, _}} = error -> error
      {:error, _} -> connect(transport, host, port, settings, left(deadline))
    end
  end

  defp connect(transport, host, port, settings, ms) do
    case transport.connect(host, port, settings, ms) do
      {:ok, socket} -> {:ok, socket}
      {:error, :closed} -> {:error, {:connect, :closed}}
      {:error, reason} -> {:error, Http.reason(reason)}
    end
  end

  # ---- the answer ----

  defp read_response(state) do
    {head, state} = take_until(state, "\r\n\r\n", @max_head, :bad_response)

    case parse_head(head <> "\r\n\r\n") do
      # Of no concern to us (RFC 9110 §15.2).
      {status, _headers} when status in 100..199 and status != 101 ->
        read_response(state)

      {status, headers} ->
        {:ok, %{status: status, headers: headers, body: body(status, headers, state)}}
    end
  end

  defp parse_head(head) do
    case :erlang.decode_packet(:http_bin, head, []) do
      {:ok, {:http_response, {1, _minor}, status, _phrase}, rest} when status in 100..599 ->
        {status, parse_headers(rest, [])}

      _other ->
        fail(:bad_response)
    end
  end

  defp parse_headers(text, read) do
    case :erlang.decode_packet(:httph_bin, text, []) do
      {:ok, {:http_header, _, name, _, value}, rest} ->
        parse_headers(rest, [{name |> to_string() |> String.downcase(), value} | read])

      {:ok, :http_eoh, _rest} ->
        Enum.reverse(read)

      _other ->
        fail(:bad_response)
    end
  end

  # RFC 9112 §6.3.
  defp body(status, headers, state) do
    codings = for {"transfer-encoding", value} <- headers, do: String.downcase(value)
    lengths = for {"content-length", value} <- headers, uniq: true, do: value

    case {codings, lengths} do
      _ when status in [204, 304] -> ""
      {["chunked"], _} -> chunks(state, [], 0)
      {[], [length]} -> sized(state, parse_length(length))
      {[], []} -> until_closed(state, [state.buffer], byte_size(state.buffer))
      _other -> fail(:bad_response)
    end
  end

  defp parse_length(text) do
    if text =~ ~r/\A[0-9]{1,18}\z/, do: String.to_integer(text), else: fail(:bad_response)
  end

  defp sized(%{max_body: max}, length) when length > max, do: fail(:too_large)

  defp sized(state, length) do
    {body, _state} = take(state, length)
    body
  end

  defp until_closed(%{max_body: max}, _parts, size) when size > max, do: fail(:too_large)

  defp until_closed(state, parts, size) do
    case receive_some(state) do
      {:ok, part} -> until_closed(state, [parts, part], size + byte_size(part))
      {:error, :closed} -> IO.iodata_to_binary(parts)
      {:error, reason} -> fail(Http.reason(reason))
    end
  end

  # RFC 9112 §7.1.
  defp chunks(state, parts, size) do
    {line, state} = take_until(state, "\r\n", @max_line, :bad_response)

    case chunk_size(line) do
      0 ->
        trailers(state, 0)
        IO.iodata_to_binary(parts)

      more when size + more > state.max_body ->
        fail(:too_large)

      more ->
        {part, state} = take(state, more + 2)
        if binary_part(part, more, 2) != "\r\n", do: fail(:bad_response)
        chunks(state, [parts, binary_part(part, 0, more)], size + more)
    end
  end

  # Extensions follow a semicolon.
  defp chunk_size(line) do
    with [digits | _extensions] <- String.split(line, ";", parts: 2),
         {size, rest} when size >= 0 <- Integer.parse(digits, 16),
         "" <- String.trim(rest) do
      size
    else
      _ -> fail(:bad_response)
    end
  end

  defp trailers(_state, size) when size > @max_head, do: fail(:too_large)

  defp trailers(state, size) do
    case take_until(state, "\r\n", @max_line, :bad_response) do
      {"", _state} -> :ok
      {line, state} -> trailers(state, size + byte_size(line) + 2)
    end
  end

  # ---- bytes ----

  # What comes before `mark`, which is within `most` bytes.
  defp take_until(state, mark, most, otherwise) do
    case :binary.split(state.buffer, mark) do
      [taken, rest] when byte_size(taken) <= most ->
        {taken, %{state | buffer: rest}}

      [buffer] when byte_size(buffer) <= most ->
        state |> more() |> take_until(mark, most, otherwise)

      _too_long ->
        fail(otherwise)
    end
  end

  defp take(%{buffer: buffer} = state, n) when byte_size(buffer) >= n do
    <<taken::binary-size(n), rest::binary>> = buffer
    {taken, %{state | buffer: rest}}
  end

  defp take(state, n), do: state |> more() |> take(n)

  defp more(state) do
    case receive_some(state) do
      {:ok, bytes} -> %{state | buffer: state.buffer <> bytes}
      {:error, reason} -> fail(Http.reason(reason))
    end
  end

  defp receive_some(state) do
    case left(state.deadline) do
      0 -> {:error, :timeout}
      ms -> state.transport.recv(state.socket, 0, ms)
    end
  end

  @spec fail(Http.reason()) :: no_return()
  defp fail(reason), do: throw({:failed, reason})

  defp left(deadline), do: max(deadline - now(), 0)
  defp now, do: System.monotonic_time(:millisecond)
end
