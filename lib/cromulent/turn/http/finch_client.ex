defmodule Cromulent.Turn.Http.FinchClient do
  @moduledoc false
  # The client over a Finch pool of the application's. Finch takes a connection out of its pool for the
  # calling process, and closes it when that ends before the answer has.

  @behaviour Cromulent.Turn.Http

  alias Cromulent.Turn.Http

  @compile {:no_warn_undefined, [Finch]}

  @impl true
  @spec request(Http.method(), String.t(), Http.headers(), binary(), Http.options()) ::
          {:ok, Http.response()} | {:error, Http.reason()}
  def request(method, url, headers, body, opts) do
    if Code.ensure_loaded?(Finch) and Process.whereis(opts[:pool]),
      do: method |> Finch.build(url, headers, body) |> stream(opts),
      else: {:error, :not_available}
  end

  defp stream(request, opts) do
    limits = [receive_timeout: opts[:timeout], pool_timeout: opts[:timeout]]
    empty = %{status: nil, headers: [], body: [], size: 0}

    # The arity of errors differs between Finch 0.18 and later ones.
    case Finch.stream(request, opts[:pool], empty, &gather(&1, &2, opts[:max_body]), limits) do
      {:ok, %{status: status} = read} when is_integer(status) ->
        {:ok, %{status: status, headers: read.headers, body: IO.iodata_to_binary(read.body)}}

      {:ok, _nothing} ->
        {:error, :bad_response}

      failed when elem(failed, 0) == :error ->
        {:error, Http.client_reason(elem(failed, 1))}
    end
  catch
    :throw, :too_large -> {:error, :too_large}
  end

  defp gather({:status, status}, read, _max), do: %{read | status: status}
  defp gather({:headers, headers}, read, _max), do: %{read | headers: headers}

  defp gather({:data, part}, read, max) do
    size = read.size + byte_size(part)
    if size > max, do: throw(:too_large), else: %{read | body: [read.body, part], size: size}
  end

  defp gather(_trailers, read, _max), do: read
end
