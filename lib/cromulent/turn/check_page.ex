defmodule Cromulent.Turn.CheckPage do
  @moduledoc false
  # The check page over OTP's own web server (inets).
  #
  # Its files are part of this module: no path of a request ever reaches the file system, and a
  # release needs no assets beside it. They keep their places of `assets/`, so that the page's
  # imports mean the same there and here.

  require Record

  alias Cromulent.Turn.Json

  # inets/include/httpd.hrl, which not every packaged OTP has.
  Record.defrecordp(:mod, [
    :init_data,
    :data,
    :socket_type,
    :socket,
    :config_db,
    :method,
    :absolute_uri,
    :request_uri,
    :http_version,
    :request_line,
    :parsed_header,
    :entity_body,
    :connection
  ])

  @assets Path.expand("../../../assets", __DIR__)
  @types %{".html" => "text/html", ".css" => "text/css", ".js" => "text/javascript"}
  @sources Path.wildcard(Path.join(@assets, "{check,js}/*.{html,css,js}"))
  for source <- @sources, do: @external_resource(source)

  @files Map.new(@sources, fn source ->
           {"/" <> Path.relative_to(source, @assets),
            {@types[Path.extname(source)] <> "; charset=utf-8", File.read!(source)}}
         end)

  @page "/check/"
  @policy "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " <>
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
  @headers [
    {:cache_control, "no-store"},
    {"content-security-policy", @policy},
    {"referrer-policy", "no-referrer"},
    {"x-content-type-options", "nosniff"}
  ]

  @doc """
  Serves the page at `http://IP:PORT/`, and what `ice_servers` returns at `/ice_servers.json`.

  It takes a free port for port 0, and returns the real one. The server runs until `stop/1`, or until
  the application `:inets` ends, which must be running.
  """
  @spec start(:inet.ip_address(), :inet.port_number(), (() -> [map()])) ::
          {:ok, pid(), :inet.port_number()} | {:error, :inet.posix() | tuple()}
  def start(ip, port, ice_servers) when is_function(ice_servers, 0) do
    case :inets.start(:httpd, config(ip, port, ice_servers)) do
      {:ok, pid} ->
        [port: port] = :httpd.info(pid, [:port])
        {:ok, pid, port}

      {:error, {:already_started, _pid}} ->
        {:error, :eaddrinuse}

      {:error, reason} ->
        {:error, listen_error(reason) || reason}
    end
  end

  # The supervisors of inets wrap it in one more tuple each.
  defp listen_error({:listen, reason}) when is_atom(reason), do: reason

  defp listen_error(reason) when is_tuple(reason),
    do: reason |> Tuple.to_list() |> Enum.find_value(&listen_error/1)

  defp listen_error(_), do: nil

  @spec stop(pid()) :: :ok
  def stop(pid), do: :inets.stop(:httpd, pid)

  # The server wants two directories, although it never looks into them.
  defp config(ip, port, ice_servers) do
    root = String.to_charlist(Application.app_dir(:cromulent_turn))

    [
      bind_address: ip,
      ipfamily: if(tuple_size(ip) == 4, do: :inet, else: :inet6),
      port: port,
      server_name: ~c"cromulent_turn",
      server_root: root,
      document_root: root,
      modules: [__MODULE__],
      server_tokens: :none,
      max_clients: 50,
      max_header_size: 16_384,
      max_body_size: 1,
      keep_alive_timeout: 30,
      ice_servers: ice_servers
    ]
  end

  # ---- the callback of httpd ----

  @doc false
  def unquote(:do)(request) do
    [path | _query] = request |> mod(:request_uri) |> to_string() |> String.split("?", parts: 2)
    ice_servers = :httpd_util.lookup(mod(request, :config_db), :ice_servers)
    method = mod(request, :method)
    {code, headers, body} = answer(method, path, ice_servers)

    headers = [{:content_length, Integer.to_string(byte_size(body))} | headers ++ @headers]
    head = for {name, value} <- headers, do: {name(name), String.to_charlist(value)}
    body = if method == ~c"HEAD", do: :nobody, else: [body]
    {:proceed, [response: {:response, [{:code, code} | head], body}]}
  end

  defp answer(method, path, ice_servers) when method in [~c"GET", ~c"HEAD"],
    do: resource(path, ice_servers)

  defp answer(_method, _path, _ice_servers), do: text(405, "GET only", [{"allow", "GET, HEAD"}])

  defp resource("/", _ice_servers), do: text(302, "It is at #{@page}", [{:location, @page}])

  defp resource("/ice_servers.json", ice_servers),
    do: {200, [content_type: "application/json"], Json.encode(ice_servers.())}

  defp resource(@page, ice_servers), do: resource(@page <> "index.html", ice_servers)

  defp resource(path, _ice_servers) do
    case @files do
      %{^path => {type, body}} -> {200, [content_type: type], body}
      _ -> text(404, "Not found", [])
    end
  end

  defp text(code, body, headers),
    do: {code, [{:content_type, "text/plain; charset=utf-8"} | headers], body <> "\n"}

  # The server knows common headers by atoms and takes all others as character lists.
  defp name(name) when is_atom(name), do: name
  defp name(name), do: String.to_charlist(name)
end
