defmodule Cromulent.Turn.Http.Httpc do
  @moduledoc false
  # The client over OTP's httpc, in a profile of its own: no cookies, no kept connections, no
  # redirects. Three of httpc's habits need care:
  #
  #   * it streams bodies of 200 and 206 only and gathers all others, and headers, without a limit:
  #     what its handler has gathered is looked at every few milliseconds;
  #   * its connection belongs to a process that knows nothing of ours: a request that is given up is
  #     cancelled, and the handler's own timeout ends it when we could not;
  #   * a handler that fails prints the request with its keys: `Httpc.LogFilter` keeps that out.

  @behaviour Cromulent.Turn.Http

  alias Cromulent.Turn.Http
  alias Cromulent.Turn.Http.LogFilter

  # :inets is listed as an application of ours, and so are these; xref of a build without them may not
  # know them.
  @compile {:no_warn_undefined, [:httpc, :inets, :public_key]}

  @profile :cromulent_turn
  @manager :httpc_cromulent_turn
  # httpc's table of requests and their handlers: {request, handler, receiver}.
  @handlers :httpc_cromulent_turn__handler_db
  # How often the handler is looked at, ms.
  @look 10
  # Words of a handler's heap: headers are lists of characters there, and so are the certificates.
  @max_heap_bytes 33_554_432

  @impl true
  @spec request(Http.method(), String.t(), Http.headers(), binary(), Http.options()) ::
          {:ok, Http.response()} | {:error, Http.reason()}
  def request(method, url, headers, body, opts) do
    deadline = now() + opts[:timeout]

    with :ok <- start(),
         {:ok, tls} <- tls(URI.parse(url).scheme, opts),
         {:ok, ref} <- send_request(method, url, headers, body, tls, opts[:timeout]) do
      state = %{
        ref: ref,
        deadline: deadline,
        max: opts[:max_body],
        headers: [],
        body: [],
        size: 0
      }

      await(state)
    end
  end

  # ---- the profile ----

  defp start do
    if Process.whereis(@manager), do: :ok, else: start_profile()
  end

  defp start_profile do
    with {:ok, _} <- Application.ensure_all_started(:ssl),
         {:ok, _} <- Application.ensure_all_started(:inets),
         :ok <- LogFilter.install(@manager),
         {:ok, _pid} <- :inets.start(:httpc, profile: @profile) do
      # IPv6 where there is a route, else IPv4.
      settings = [cookies: :disabled, keep_alive_timeout: 0, max_sessions: 0, ipfamily: :inet6fb4]
      :httpc.set_options(settings, @profile)
    else
      {:error, {:already_started, _pid}} -> :ok
      {:error, _reason} -> {:error, :not_available}
    end
  end

  # ---- the request ----

  defp send_request(method, url, headers, body, tls, timeout) do
    # Both families may be tried, each for so long.
    http = [timeout: timeout, connect_timeout: max(div(timeout, 2), 1), autoredirect: false]
    options = [sync: false, stream: {:self, :once}, body_format: :binary]

    case :httpc.request(method, message(url, headers, body), http ++ tls, options, @profile) do
      {:ok, ref} -> {:ok, ref}
      {:error, _reason} -> {:error, :failed}
    end
  end

  defp message(url, headers, body) do
    all = [{"connection", "close"} | headers]

    listed =
      for {name, value} <- all,
          name != "content-type",
          do: {to_charlist(name), to_charlist(value)}

    case List.keyfind(headers, "content-type", 0) do
      {_, type} -> {to_charlist(url), listed, to_charlist(type), body}
      nil -> {to_charlist(url), listed}
    end
  end

  defp tls("https", opts) do
    with {:ok, trusted} <- trusted(opts[:cacertfile]) do
      match = :public_key.pkix_verify_hostname_match_fun(:https)

      settings = [
        verify: :verify_peer,
        depth: 5,
        versions: [:"tlsv1.3", :"tlsv1.2"],
        customize_hostname_check: [match_fun: match],
        log_level: :none
      ]

      {:ok, [ssl: trusted ++ settings]}
    end
  end

  defp tls(_scheme, _opts), do: {:ok, []}

  defp trusted(nil) do
    {:ok, [cacerts: :public_key.cacerts_get()]}
  rescue
    _ -> {:error, {:tls, :no_ca_certificates}}
  end

  defp trusted(path), do: {:ok, [cacertfile: path]}

  # ---- the answer ----

  defp await(%{ref: ref} = state) do
    receive do
      {:http, {^ref, :stream_start, headers, handler}} ->
        next(%{state | headers: headers(headers)} |> Map.put(:handler, handler))

      {:http, {^ref, :stream, part}} ->
        state = %{state | body: [state.body, part], size: state.size + byte_size(part)}
        if state.size > state.max, do: give_up(state, :too_large), else: next(state)

      # 206 too, which nobody asked for.
      {:http, {^ref, :stream_end, _headers}} ->
        {:ok, %{status: 200, headers: state.headers, body: IO.iodata_to_binary(state.body)}}

      {:http, {^ref, {{_version, status, _phrase}, headers, body}}} ->
        {:ok, %{status: status, headers: headers(headers), body: IO.iodata_to_binary(body)}}

      {:http, {^ref, {:error, reason}}} ->
        {:error, reason(reason)}
    after
      @look -> look(state)
    end
  end

  defp next(state) do
    :httpc.stream_next(state.handler)
    await(state)
  end

  defp look(state) do
    cond do
      now() >= state.deadline -> give_up(state, :timeout)
      gathered_too_much?(state) -> give_up(state, :too_large)
      true -> await(state)
    end
  end

  defp give_up(%{ref: ref}, reason) do
    :httpc.cancel_request(ref, @profile)
    {:error, reason}
  end

  # A body is gathered in one binary, which doubles when it must grow.
  defp gathered_too_much?(state) do
    with [{_ref, handler, _receiver}] <- :ets.lookup(@handlers, state.ref),
         [memory: heap, binary: binaries] <- Process.info(handler, [:memory, :binary]) do
      heap > @max_heap_bytes or Enum.any?(binaries, &(elem(&1, 1) > 4 * state.max))
    else
      _ -> false
    end
  rescue
    # No such table: the profile is gone, or httpc has changed; the deadline holds.
    ArgumentError -> false
  end

  defp headers(headers) do
    for {name, value} <- headers,
        do: {name |> to_string() |> String.downcase(), to_string(value)}
  end

  # `{:inet6, options, why}` and `{:inet, options, why}`: one of them knows more than that there is no route.
  defp reason({:failed_connect, tries}) do
    reasons =
      for {family, _options, why} <- tries, family in [:inet6, :inet], do: Http.reason(why)

    case Enum.find(reasons, List.last(reasons) || :failed, &match?({:tls, _}, &1)) do
      :closed -> {:connect, :closed}
      reason -> reason
    end
  end

  defp reason({:could_not_parse_as_http, _data}), do: :bad_response
  defp reason({:ssl_error, _socket, why}), do: Http.reason(why)
  defp reason({:tcp_error, _socket, _why}), do: :closed
  defp reason(:socket_closed_remotely), do: :closed
  defp reason({:shutdown, :server_closed}), do: :closed
  defp reason({:shutdown, _why}), do: :bad_response
  defp reason(:timeout), do: :timeout
  defp reason(_other), do: :failed

  defp now, do: System.monotonic_time(:millisecond)
end
