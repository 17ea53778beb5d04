defmodule Cromulent.Turn.Option do
  @moduledoc false
  # Every option there is, and where its value comes from: in rising precedence its default, its
  # environment variable, the application's environment, the options of the caller. What a right value
  # is, `Cromulent.Turn.OptionValue` knows. Everything is read when asked for, nothing when compiled.

  alias Cromulent.Turn.OptionValue

  @type name :: atom()
  # How options of the caller are called in messages: `option ttl: "1h"` or `--ttl "1h"`.
  @type style :: :option | :flag
  @type error :: {:error, {:config, String.t()}}

  # What a relay is started with; `provider` decides whether it is.
  @relay [
    provider: "TURN_PROVIDER",
    secret: "TURN_SECRET",
    realm: "TURN_REALM",
    listen: "TURN_LISTEN",
    cert: "TURN_TLS_CERT",
    key: "TURN_TLS_KEY",
    proxy_from: "TURN_PROXY_FROM",
    external_ip: "TURN_EXTERNAL_IP",
    relay_ip: "TURN_RELAY_IP",
    relay_ports: "TURN_RELAY_PORTS",
    ttl: "TURN_TTL",
    stun_urls: "TURN_STUN_URLS",
    workers: "TURN_WORKERS",
    allow_peers: "TURN_ALLOW_PEERS",
    deny_peers: "TURN_DENY_PEERS",
    mobility: "TURN_MOBILITY",
    oauth_keys: "TURN_OAUTH_KEYS",
    oauth_server_name: "TURN_OAUTH_SERVER_NAME",
    keep_dscp: "TURN_KEEP_DSCP",
    alternate: "TURN_ALTERNATE",
    tcp_allocations: "TURN_TCP_ALLOCATIONS",
    mode: "TURN_MODE",
    admission: "TURN_ADMISSION",
    withdraw_after: "TURN_WITHDRAW_AFTER",
    classic_stun: "TURN_CLASSIC_STUN",
    redirect: "TURN_REDIRECT",
    alternate_domain: "TURN_ALTERNATE_DOMAIN",
    user_quota: "TURN_USER_QUOTA",
    user_bandwidth: "TURN_USER_BANDWIDTH",
    opaque_usernames: "TURN_OPAQUE_USERNAMES",
    max_ice_servers: "TURN_MAX_ICE_SERVERS"
  ]

  # What only the other providers ask for. Without a variable: a term that only code can give.
  @foreign [
    turn_urls: "TURN_URL",
    http: nil,
    http_timeout: "TURN_HTTP_TIMEOUT",
    http_cacertfile: "TURN_HTTP_CACERTFILE",
    metered_url: "METERED_URL",
    metered_secret_key: "METERED_SECRET_KEY",
    metered_api_key: "METERED_API_KEY",
    metered_region: "METERED_REGION",
    cloudflare_key_id: "CLOUDFLARE_TURN_KEY_ID",
    cloudflare_api_token: "CLOUDFLARE_TURN_API_TOKEN",
    cloudflare_url: "CLOUDFLARE_TURN_URL",
    cloudflare_shared: "CLOUDFLARE_TURN_SHARED"
  ]

  @variables for {name, variable} <- @relay ++ @foreign, variable, do: {name, variable}
  @limits OptionValue.limits()
  @handed_on [:software, :mobility, :keep_dscp, :alternate, :permission_events] ++
               [:oauth_server_name, :redirect, :alternate_domain, :classic_stun] ++
               [:tcp_allocations, :mode, :pair, :admission]
  @relay_names Enum.uniq(
                 Keyword.keys(@relay) ++ [:host, :software, :permission_events, :pair] ++ @limits
               )
  @foreign_names Keyword.keys(@foreign)

  # Never shown, not even wrong ones. A key id is no secret, but where one is set by mistake for the
  # other it is.
  @secrets [
    :secret,
    :key,
    :oauth_keys,
    :metered_secret_key,
    :metered_api_key,
    :cloudflare_key_id,
    :cloudflare_api_token
  ]

  @spec names() :: [name()]
  def names, do: @relay_names ++ @foreign_names

  @doc "The options that are handed to the relay as they are."
  @spec limits() :: [name()]
  def limits, do: @handed_on ++ @limits

  @doc "The environment variable of an option; nil when it has none."
  @spec variable(name()) :: String.t() | nil
  def variable(name), do: @variables[name]

  @doc """
  The checked value of an option from the source that wins; `:unset` when there is none. An empty
  environment variable counts as unset, but for `secret`: there it is a mistake to be told.
  """
  @spec fetch(name(), keyword(), style()) :: {:ok, term()} | :unset | error()
  def fetch(name, opts, style \\ :option) do
    case source(name, opts, style) do
      nil -> :unset
      {source, raw} -> check(name, source, raw)
    end
  end

  @doc "The value of an option that must be there; an empty list is none."
  @spec required(name(), keyword()) ::
          {:ok, term()} | {:error, {:not_configured, name()}} | error()
  def required(name, opts) do
    case fetch(name, opts) do
      none when none in [:unset, {:ok, []}] -> {:error, {:not_configured, name}}
      result -> result
    end
  end

  @doc "The value of an option, or a default."
  @spec default(name(), keyword(), term()) :: {:ok, term()} | error()
  def default(name, opts, default),
    do: with(:unset <- fetch(name, opts), do: {:ok, default})

  @doc "The error that refuses an option's value for a reason that only others know."
  @spec refuse(name(), keyword(), style(), String.t()) :: error()
  def refuse(name, opts, style, expected) do
    {source, raw} = source(name, opts, style) || {{:option, name}, nil}
    error(name, source, raw, expected)
  end

  @doc "Whether an option's value must not be shown."
  @spec secret?(name()) :: boolean()
  def secret?(name), do: name in @secrets

  @doc "What every source has for the options that must not be shown, right or not."
  @spec secrets(keyword()) :: [String.t()]
  def secrets(opts) do
    for name <- @secrets,
        {_source, raw} <- [
          from_caller(name, opts, :option),
          from_application(name),
          from_environment(name)
        ],
        text <- OptionValue.texts(raw),
        do: text
  end

  @doc "Refuses names that are no option of a relay."
  @spec check_names(keyword()) :: :ok | error()
  def check_names(opts) do
    case Keyword.keys(opts) -- @relay_names do
      [] -> :ok
      [name | _] when name in @foreign_names -> {:error, {:config, foreign(name)}}
      [name | _] -> {:error, {:config, unknown(name)}}
    end
  end

  defp foreign(name) do
    "option #{name}: is not one of the relay's; give it as `config :cromulent_turn, #{name}: ...` " <>
      "or to Cromulent.Turn.ice_servers/2"
  end

  defp unknown(name) do
    known = Enum.map_join(@relay_names, ", ", &to_string/1)
    "option #{name}: there is no such option; there are #{known}"
  end

  defp source(name, opts, style) do
    with :error <- from_caller(name, opts, style),
         :error <- from_application(name),
         :error <- from_environment(name) do
      nil
    end
  end

  defp from_caller(name, opts, style) do
    with {:ok, raw} when raw != nil <- Keyword.fetch(opts, name),
         do: {{style, name}, raw},
         else: (_ -> :error)
  end

  defp from_application(name) do
    with {:ok, raw} when raw != nil <- Application.fetch_env(:cromulent_turn, name),
         do: {{:application, name}, raw},
         else: (_ -> :error)
  end

  defp from_environment(name) do
    with variable when variable != nil <- @variables[name],
         raw when raw != nil <- System.get_env(variable),
         raw = String.trim(raw),
         true <- name == :secret or raw != "" do
      {{:environment, variable}, raw}
    else
      _ -> :error
    end
  end

  defp check(name, source, [_ | _] = raw) do
    if List.improper?(raw),
      do: error(name, source, raw, "must be a proper list"),
      else: check_value(name, source, raw)
  end

  defp check(name, source, raw), do: check_value(name, source, raw)

  defp check_value(name, source, raw) do
    case OptionValue.parse(name, raw) do
      {:ok, value} -> {:ok, value}
      {:error, expected} -> error(name, source, raw, expected)
    end
  end

  # A secret is never shown, not even a wrong one; of a key only the name of its file.
  defp error(name, source, raw, expected) do
    hidden? = secret?(name) and not (name in [:key, :oauth_keys] and files?(raw))
    shown = if hidden?, do: "", else: show(raw)
    {:error, {:config, describe(source, shown) <> ": " <> expected}}
  end

  defp files?(raw), do: raw |> List.wrap() |> Enum.all?(&OptionValue.file?/1)

  defp describe({:environment, variable}, ""), do: variable
  defp describe({:environment, variable}, shown), do: variable <> "=" <> shown
  defp describe({:application, name}, shown), do: "config :cromulent_turn, " <> pair(name, shown)
  defp describe({:option, name}, shown), do: "option " <> pair(name, shown)
  defp describe({:flag, name}, shown), do: String.trim_trailing(flag(name) <> " " <> shown)

  defp pair(name, ""), do: "#{name}"
  defp pair(name, shown), do: "#{name}: #{shown}"

  defp show([one]) when is_binary(one), do: inspect(one)
  defp show(raw), do: inspect(raw, limit: 20, printable_limit: 200)

  @doc "The command line flag of an option."
  @spec flag(name()) :: String.t()
  def flag(:relay_ports), do: "--ports"
  def flag(:allow_peers), do: "--allow-peer"
  def flag(:deny_peers), do: "--deny-peer"
  def flag(:oauth_keys), do: "--oauth-key"
  def flag(name), do: "--" <> String.replace(to_string(name), "_", "-")
end
