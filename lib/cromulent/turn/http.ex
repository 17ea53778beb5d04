defmodule Cromulent.Turn.Http do
  @moduledoc """
  How this library asks a provider's API: one request, one answer, in bounded time and memory.

  The option `http` names who does it:

    * `:otp` (default) - a client over OTP's own TCP and TLS: TLS 1.2 or later, verified with the certificates of
      the operating system or those of `http_cacertfile` (`TURN_HTTP_CACERTFILE`)
    * `{Finch, MyApp.Finch}` - a pool of the application's; its connections are set up there, so that
      `http_cacertfile` does not apply
    * `Req` - likewise the package of that name
    * a module of the application that has this behaviour

  Finch and Req are no dependencies: they are used when the application has them. Whoever it is, the request
  runs in a process of its own, is over after `http_timeout` milliseconds (`TURN_HTTP_TIMEOUT`, default
  5000) with that process and its connection, follows no redirect, and reads at most 256 KiB of an answer.

  The client over OTP uses no proxy; where one is needed, Finch and Req can be told to.

  Requests carry keys in their URLs and headers: an implementation must not log them, and this library
  takes no text from what it returns into logs or errors.
  """

  alias Cromulent.Turn.{Bounded, Option}
  alias Cromulent.Turn.Http.{FinchClient, Otp, ReqClient}

  @type method :: :get | :post | :delete
  @type headers :: [{name :: String.t(), value :: String.t()}]

  @typedoc "An answer. The names of `headers`, where a client gives them, are in lower case."
  @type response :: %{
          required(:status) => 100..599,
          required(:body) => binary(),
          optional(:headers) => headers()
        }

  @typedoc """
  Why there is no answer. None of it has any part of the request.

    * `:timeout` - not within the time
    * `{:connect, posix}` - no connection, such as `{:connect, :econnrefused}` or `{:connect, :nxdomain}`
    * `{:tls, alert}` - no trusted one, such as `{:tls, :unknown_ca}`, `{:tls, :certificate_expired}` or
      `{:tls, :hostname_check_failed}`; `{:tls, :no_ca_certificates}` when there are none to trust
    * `:closed` - the connection ended within the answer
    * `:too_large` - the answer is longer than 256 KiB
    * `:bad_response` - the answer is not HTTP, or the client's is no answer
    * `:not_available` - the client is not in this build, or its pool is not started
    * `:crashed` - the client raised
    * `:failed` - anything else
  """
  @type reason ::
          :timeout
          | {:connect, atom()}
          | {:tls, atom()}
          | :closed
          | :too_large
          | :bad_response
          | :not_available
          | :crashed
          | :failed

  @typedoc """
  What a client is told: `timeout`, ms for the request in all; `max_body`, bytes; `cacertfile`, the path
  of the certificates to trust instead of the operating system's, if any; `pool`, Finch's.
  """
  @type options :: [
          timeout: pos_integer(),
          max_body: pos_integer(),
          cacertfile: String.t(),
          pool: atom()
        ]

  @doc """
  Sends a request and returns its answer, whatever its status.

  It may be killed when `timeout` is over, so it should keep its connections in its own process, or where
  they end by themselves.
  """
  @callback request(method(), url :: String.t(), headers(), body :: binary(), options()) ::
              {:ok, response()} | {:error, reason()}

  @timeout 5_000
  @max_body 262_144

  @doc """
  Sends a request with the client of the options, which are those of `Cromulent.Turn.ice_servers/2`; of these
  `http`, `http_timeout` (ms) and `http_cacertfile` are read here. `within` shortens the time further.
  """
  @spec request(method(), String.t(), headers(), binary(), keyword()) ::
          {:ok, response()} | {:error, reason()} | Option.error()
  def request(method, url, headers, body, opts \\ []) do
    with {:ok, {client, told}} <- client(opts),
         {:ok, timeout} <- timeout(opts) do
      timeout = min(timeout, opts[:within] || timeout)
      told = [timeout: max(timeout - slack(timeout), 1), max_body: @max_body] ++ told
      fun = fn -> client.request(method, url, headers, body, told) end
      fun |> Bounded.run(timeout) |> check()
    end
  end

  @doc "The milliseconds that a request may take with these options."
  @spec timeout(keyword()) :: {:ok, pos_integer()} | Option.error()
  def timeout(opts), do: or_default(Option.fetch(:http_timeout, opts), @timeout)

  # The client's own deadline comes first, so that it can close what it opened.
  defp slack(timeout), do: min(100, div(timeout, 10))

  defp client(opts) do
    with {:ok, named} <- or_default(Option.fetch(:http, opts), :otp),
         {:ok, told} <- cacertfile(opts) do
      case named do
        :otp -> {:ok, {Otp, told}}
        {Finch, pool} -> {:ok, {FinchClient, [pool: pool] ++ told}}
        Req -> {:ok, {ReqClient, told}}
        module -> {:ok, {module, told}}
      end
    end
  end

  defp cacertfile(opts) do
    case Option.fetch(:http_cacertfile, opts) do
      {:ok, path} -> {:ok, [cacertfile: path]}
      :unset -> {:ok, []}
      error -> error
    end
  end

  defp or_default(:unset, default), do: {:ok, default}
  defp or_default(result, _default), do: result

  # Clients may be anybody's code: what is not in the contract must go no further.
  defp check({:ok, %{status: status, body: body} = response})
       when status in 100..599 and is_binary(body) do
    if byte_size(body) <= @max_body,
      do: {:ok, %{status: status, body: body, headers: headers(response)}},
      else: {:error, :too_large}
  end

  defp check({:error, {kind, detail}}) when kind in [:connect, :tls] and is_atom(detail),
    do: {:error, {kind, detail}}

  defp check({:error, reason})
       when reason in [:timeout, :closed, :too_large, :bad_response, :not_available, :crashed],
       do: {:error, reason}

  defp check({:error, _other}), do: {:error, :failed}
  defp check(_other), do: {:error, :bad_response}

  defp headers(%{headers: headers}) when is_list(headers) do
    for {name, value} <- headers, is_binary(name) and is_binary(value), do: {name, value}
  end

  defp headers(_response), do: []

  @doc false
  # The reason of a transport error as OTP's sockets and Mint give it.
  @spec reason(term()) :: reason()
  def reason({:tls_alert, {alert, text}}) when is_atom(alert), do: {:tls, alert(alert, text)}
  def reason({:options, {:cacertfile, _path, _why}}), do: {:tls, :bad_cacertfile}
  def reason(:timeout), do: :timeout
  def reason(:etimedout), do: :timeout
  def reason(gone) when gone in [:closed, :econnreset, :epipe], do: :closed
  def reason(posix) when is_atom(posix), do: {:connect, posix}
  def reason(_other), do: :failed

  @doc false
  # The reason of an exception of Mint's, Finch's or Req's, all of which have it in `reason`.
  @spec client_reason(term()) :: reason()
  def client_reason(%module{}) when module in [Mint.HTTPError, Req.HTTPError], do: :bad_response

  def client_reason(%{reason: reason}) do
    case reason(reason) do
      {:connect, :pool_not_available} -> :not_available
      other -> other
    end
  end

  def client_reason(_other), do: :failed

  # OTP tells a wrong host name only in the text of the alert.
  defp alert(alert, text) do
    if to_string(text) =~ "hostname_check_failed", do: :hostname_check_failed, else: alert
  rescue
    _ in [ArgumentError, Protocol.UndefinedError] -> alert
  end
end
