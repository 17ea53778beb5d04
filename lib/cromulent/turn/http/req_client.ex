defmodule Cromulent.Turn.Http.ReqClient do
  @moduledoc false
  # The client over Req, with all that Req does beyond one request and one answer switched off: it must
  # not follow, repeat, unpack or decode.

  @behaviour Cromulent.Turn.Http

  alias Cromulent.Turn.Http

  @compile {:no_warn_undefined, [Req]}

  @impl true
  @spec request(Http.method(), String.t(), Http.headers(), binary(), Http.options()) ::
          {:ok, Http.response()} | {:error, Http.reason()}
  def request(method, url, headers, body, opts) do
    if Code.ensure_loaded?(Req),
      do: [method: method, url: url, headers: headers, body: body] |> ask(opts),
      else: {:error, :not_available}
  end

  defp ask(request, opts) do
    case Req.request(request ++ settings(opts)) do
      {:ok, %{status: status} = response} -> answer(status, response)
      {:error, exception} -> {:error, Http.client_reason(exception)}
    end
  end

  defp settings(opts) do
    trusted =
      if opts[:cacertfile], do: [transport_opts: [cacertfile: opts[:cacertfile]]], else: []

    max = opts[:max_body]

    [
      redirect: false,
      retry: false,
      compressed: false,
      raw: true,
      receive_timeout: opts[:timeout],
      pool_timeout: opts[:timeout],
      connect_options: [timeout: opts[:timeout]] ++ trusted,
      into: fn {:data, part}, {request, response} -> gather(part, request, response, max) end
    ]
  end

  # Collected in the private part of the response; `:halt` closes the connection.
  defp gather(part, request, response, max) do
    {size, read} = Map.get(response.private, :cromulent_turn, {0, []})
    size = size + byte_size(part)
    private = Map.put(response.private, :cromulent_turn, {size, [read, part]})
    response = %{response | private: private}
    if size > max, do: {:halt, {request, response}}, else: {:cont, {request, response}}
  end

  # The size of what was gathered tells the caller when it is too large.
  defp answer(status, response) do
    {_size, read} = Map.get(response.private, :cromulent_turn, {0, []})

    headers =
      for {name, value} <- response.headers, do: {name, value |> List.wrap() |> Enum.join(", ")}

    {:ok, %{status: status, headers: headers, body: IO.iodata_to_binary(read)}}
  end
end
