defmodule Cromulent.Turn.OptionTest do
  # The environment is everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Cloudflare, Embedded, Option}

  # The limits that are no numbers.
  @texts_and_switches [:software, :mobility, :keep_dscp, :alternate, :oauth_server_name] ++
                        [
                          :redirect,
                          :alternate_domain,
                          :classic_stun,
                          :permission_events,
                          :tcp_allocations,
                          :mode,
                          :admission,
                          :pair
                        ]

  defp refused(name, value) do
    assert {:error, {:config, text}} = Option.fetch(name, [{name, value}])
    assert text =~ ~r/^option #{name}/
    text
  end

  test "comes from the caller, the application's or the system's environment, in this order" do
    assert Option.fetch(:ttl, []) == :unset
    put_env([{"TURN_TTL", "100"}])
    assert Option.fetch(:ttl, []) == {:ok, 100}
    put_config(ttl: 200)
    assert Option.fetch(:ttl, []) == {:ok, 200}
    assert Option.fetch(:ttl, ttl: 300) == {:ok, 300}
    assert Option.fetch(:ttl, ttl: nil) == {:ok, 200}
  end

  test "is refused with its source, its value and what would be right" do
    put_env([{"TURN_TTL", "1h"}])
    right = "must be a whole number of seconds from 60 to 2592000, such as 3600"
    assert Option.fetch(:ttl, []) == {:error, {:config, "TURN_TTL=\"1h\": " <> right}}
    put_config(ttl: 5)

    assert Option.fetch(:ttl, []) ==
             {:error, {:config, "config :cromulent_turn, ttl: 5: " <> right}}

    assert Option.fetch(:ttl, ttl: "x") == {:error, {:config, "option ttl: \"x\": " <> right}}
    assert Option.fetch(:ttl, [ttl: "x"], :flag) == {:error, {:config, "--ttl \"x\": " <> right}}

    assert Option.refuse(:ttl, [], :option, "no") ==
             {:error, {:config, "config :cromulent_turn, ttl: 5: no"}}
  end

  # {variable, wrong value, part of what would be right}
  for {variable, value, right} <- [
        {"TURN_PROVIDER", "coturm", "must be one of embedded, stun, coturn"},
        {"TURN_REALM", "a\"b", "must be 1 to 127 bytes of text without quotes"},
        {"TURN_REALM", String.duplicate("r", 128), "1 to 127 bytes"},
        {"TURN_REALM", "a\u200Bb", "1 to 127 bytes"},
        {"TURN_USER_QUOTA", "-1", "must be a number from 0 to 16777216"},
        {"TURN_USER_BANDWIDTH", "8Mbit", "must be a number from 0 to 4294967295"},
        {"TURN_LISTEN", "3478", "must be udp:IP:PORT"},
        {"TURN_LISTEN", "sctp:0.0.0.0:3478", "or with tcp:, tls: or dtls:"},
        {"TURN_LISTEN", "udp:0.0.0.0:3478,", "must be udp:IP:PORT"},
        {"TURN_LISTEN", "udp:0.0.0.0:65536", "must be udp:IP:PORT"},
        {"TURN_LISTEN", "udp:::1:3478", "must be udp:IP:PORT"},
        {"TURN_EXTERNAL_IP", "turn.example.org",
         "must be an IP address, or EXTERNAL/LOCAL pairs"},
        {"TURN_EXTERNAL_IP", "203.0.113.5/fd00::1", "must be an IP address"},
        {"TURN_EXTERNAL_IP", "0.0.0.0", "must be an IP address"},
        {"TURN_RELAY_IP", "0.0.0.0", "must be addresses of this host"},
        {"TURN_RELAY_IP", "eth0", "must be addresses of this host"},
        {"TURN_RELAY_PORTS", "1000-2000", "must be a range within 1024-65535"},
        {"TURN_RELAY_PORTS", "50000-40000", "must be a range"},
        {"TURN_RELAY_PORTS", "50000-70000", "must be a range"},
        {"TURN_RELAY_PORTS", "50000", "must be a range"},
        {"TURN_TTL", "59", "must be a whole number of seconds from 60"},
        {"TURN_TTL", "3600s", "must be a whole number of seconds"},
        {"TURN_STUN_URLS", "stun.example.org", "must be STUN URLs"},
        {"TURN_STUN_URLS", "turn:turn.example.org", "must be STUN URLs"},
        {"TURN_WORKERS", "0", "must be a number of threads from 1 to 64"},
        {"TURN_WORKERS", "all", "must be a number of threads"},
        {"TURN_ALLOW_PEERS", "10.0.0.0/99", "must be address blocks"},
        {"TURN_DENY_PEERS", "everybody", "must be address blocks"},
        {"TURN_PROVIDER", "embedded,coturm", "must be one of embedded, stun, coturn"},
        {"TURN_URL", "stun:turn.example.org", "must be TURN URLs"},
        {"TURN_URL", "turn.example.org:3478", "each must begin with stun:, stuns:, turn:"},
        {"TURN_URL", "turn:a.example.org,turn://b.example.org", "must have no //"},
        {"TURN_URL", "turn:${TURN_HOST}", "must have a DNS name"},
        {"TURN_OPAQUE_USERNAMES", "maybe", "must be true or false"},
        {"TURN_MAX_ICE_SERVERS", "0", "must be a number of servers from 1 to 32"},
        {"TURN_MAX_ICE_SERVERS", "33", "must be a number of servers from 1 to 32"},
        {"TURN_HTTP_TIMEOUT", "99", "must be a number of milliseconds from 100 to 60000"},
        {"TURN_HTTP_TIMEOUT", "3s", "must be a number of milliseconds"},
        {"METERED_URL", "app.metered.live", "must be https://APP.metered.live"},
        {"METERED_URL", "http://app.metered.live", "must be https://APP.metered.live"},
        {"METERED_URL", "https://app.metered.live/api", "neither path nor query"},
        {"METERED_URL", "https://", "must be https://APP.metered.live"},
        {"METERED_REGION", "a b", "must be the name of a region"},
        {"CLOUDFLARE_TURN_URL", "ftp://rtc.live.cloudflare.com", "must be https://rtc.live"},
        {"CLOUDFLARE_TURN_SHARED", "2", "must be true or false"},
        {"TURN_PROXY_FROM", "10.0.0.1/8x", "must be address blocks of proxies"}
      ] do
    test "#{variable}=#{String.slice(value, 0, 20)} is refused" do
      put_env([{unquote(variable), unquote(value)}])
      name = Enum.find(Option.names(), &(Option.variable(&1) == unquote(variable)))
      assert {:error, {:config, text}} = Option.fetch(name, [])
      assert String.starts_with?(text, unquote(variable) <> "=\"")
      assert text =~ unquote(right)
    end
  end

  test "an empty variable is an unset one, but for a secret" do
    for name <- Option.names(), variable = Option.variable(name), name != :secret do
      put_env([{variable, " "}])
      assert Option.fetch(name, []) == :unset, variable
    end

    put_env([{"TURN_SECRET", ""}])
    assert {:error, {:config, "TURN_SECRET: must not be empty" <> _}} = Option.fetch(:secret, [])
  end

  test "a secret that is none is refused, and not shown" do
    for wrong <- [
          "",
          "a,,b",
          "${TURN_SECRET}",
          "x${Y}z",
          "$TURN_SECRET",
          String.duplicate("s3cret", 50)
        ] do
      put_env([{"TURN_SECRET", wrong}])
      assert {:error, {:config, "TURN_SECRET: " <> text}} = Option.fetch(:secret, [])

      for part <- String.split(wrong, ["${", "}", ","], trim: true),
          byte_size(part) > 3,
          do: refute(text =~ part)
    end

    for wrong <- [[], [""], [:atom], 42, Enum.map(1..9, &"secret number #{&1}")],
        do: refused(:secret, wrong)
  end

  test "secrets are one, several, or a function" do
    assert Option.fetch(:secret, secret: "one") == {:ok, ["one"]}
    assert Option.fetch(:secret, secret: "new, old") == {:ok, ["new", "old"]}
    assert Option.fetch(:secret, secret: ["with,comma", "old"]) == {:ok, ["with,comma", "old"]}
    assert Option.fetch(:secret, secret: fn -> "late" end) == {:ok, ["late"]}
    refused(:secret, fn -> "" end)
  end

  test "lists are lists, strings with commas, or single values" do
    two = [{:udp, {127, 0, 0, 1}, 1}, {:udp, {0, 0, 0, 0, 0, 0, 0, 1}, 2}]
    assert Option.fetch(:listen, listen: "udp:127.0.0.1:1, udp:[::1]:2") == {:ok, two}
    assert Option.fetch(:listen, listen: ["udp:127.0.0.1:1", "udp:[::1]:2"]) == {:ok, two}
    assert Option.fetch(:listen, listen: two) == {:ok, two}
    assert Option.fetch(:relay_ip, relay_ip: {10, 0, 0, 1}) == {:ok, [{10, 0, 0, 1}]}
    assert Option.fetch(:relay_ip, relay_ip: "10.0.0.1,10.0.0.1") == {:ok, [{10, 0, 0, 1}]}
    refused(:listen, for(port <- 1..17, do: "udp:127.0.0.1:#{port}"))
    refused(:relay_ip, %{})
  end

  test "external addresses are single or in pairs" do
    fetch = &Option.fetch(:external_ip, external_ip: &1)
    assert fetch.("203.0.113.5") == {:ok, [{203, 0, 113, 5}]}
    assert fetch.("203.0.113.5/10.0.0.5") == {:ok, [{{203, 0, 113, 5}, {10, 0, 0, 5}}]}
    assert fetch.({203, 0, 113, 5}) == {:ok, [{203, 0, 113, 5}]}
    assert fetch.([{"203.0.113.5", "10.0.0.5"}]) == {:ok, [{{203, 0, 113, 5}, {10, 0, 0, 5}}]}
  end

  test "port ranges are text, ranges or pairs" do
    for right <- ["20000-30000", " 20000 - 30000 ", 20_000..30_000, {20_000, 30_000}],
        do: assert(Option.fetch(:relay_ports, relay_ports: right) == {:ok, {20_000, 30_000}})

    refused(:relay_ports, 20_000)
  end

  test "hosts are names or addresses" do
    for right <- ["turn.example.org", "192.0.2.1", "2001:db8::1", "[2001:db8::1]"],
        do: assert(Option.fetch(:host, host: right) == {:ok, right})

    for wrong <- ["", "a b", "turn.example.org:3478", "http://x", "-x", 7],
        do: refused(:host, wrong)
  end

  test "limits are numbers in their range" do
    for name <- Option.limits(), name not in @texts_and_switches do
      assert Option.fetch(name, [{name, 1}]) == {:ok, 1}
      assert refused(name, -1) =~ "must be a number from"
      assert refused(name, "x") =~ "must be a number from"
    end

    assert Option.fetch(:software, software: "") == {:ok, ""}
    refused(:software, String.duplicate("s", 128))
  end

  test "the alternate address is one address and a port" do
    for {raw, value} <- [
          {"192.0.2.1:3479", "192.0.2.1:3479"},
          {"[2001:DB8::1]:0", "[2001:db8::1]:0"}
        ],
        do: assert(Option.fetch(:alternate, alternate: raw) == {:ok, value})

    for wrong <- ["", "192.0.2.1", "0.0.0.0:3479", "[::]:1", "udp:192.0.2.1:1", 7],
        do: assert(refused(:alternate, wrong) =~ "must be IP:PORT")
  end

  test "clients are sent to addresses with ports, and to certificates of names" do
    for {raw, value} <- [
          {"192.0.2.9:3478, [2001:DB8::9]:1", ["192.0.2.9:3478", "[2001:db8::9]:1"]},
          {["192.0.2.9:3478"], ["192.0.2.9:3478"]},
          {[], []}
        ],
        do: assert(Option.fetch(:redirect, redirect: raw) == {:ok, value})

    for wrong <- ["192.0.2.9", "192.0.2.9:0", "0.0.0.0:3478", "turn.example.org:3478", 7],
        do: assert(refused(:redirect, wrong) =~ "must be other servers as IP:PORT")

    nine = for n <- 1..9, do: "192.0.2.#{n}:3478"
    assert refused(:redirect, nine) =~ "must be at most 8"

    fetch = &Option.fetch(:alternate_domain, alternate_domain: &1)
    assert fetch.("turn2.example.org") == {:ok, "turn2.example.org"}

    for wrong <- ["192.0.2.1", "::1", "a b", "turn.example.org:1", String.duplicate("d", 256), 7],
        do: assert(refused(:alternate_domain, wrong) =~ "must be a DNS name")
  end

  test "switches are on or off" do
    for name <- [
          :mobility,
          :keep_dscp,
          :permission_events,
          :classic_stun,
          :tcp_allocations,
          :pair
        ] do
      for {raw, value} <- [
            {true, true},
            {"true", true},
            {"1", true},
            {false, false},
            {"0", false}
          ],
          do: assert(Option.fetch(name, [{name, raw}]) == {:ok, value})

      for wrong <- ["yes", 2, ""], do: assert(refused(name, wrong) =~ "must be true or false")
    end
  end

  test "the mode is open or switch" do
    for {raw, value} <- [{:open, :open}, {"open", :open}, {:switch, :switch}, {"switch", :switch}],
        do: assert(Option.fetch(:mode, mode: raw) == {:ok, value})

    for wrong <- ["", "Switch", true, :closed],
        do: assert(refused(:mode, wrong) =~ "must be open or switch")
  end

  test "admission is off, presence or room" do
    for value <- [:off, :presence, :room],
        raw <- [value, to_string(value)],
        do: assert(Option.fetch(:admission, admission: raw) == {:ok, value})

    for wrong <- ["", "Room", true, :rooms],
        do: assert(refused(:admission, wrong) =~ "must be off, presence or room")

    put_env([{"TURN_ADMISSION", "presence"}, {"TURN_WITHDRAW_AFTER", "5000"}])
    assert Option.fetch(:admission, []) == {:ok, :presence}
    assert Option.fetch(:withdraw_after, []) == {:ok, 5000}

    for wrong <- [-1, 600_001, "soon"],
        do: assert(refused(:withdraw_after, wrong) =~ "milliseconds from 0 to 600000")
  end

  @tag :tmp_dir
  test "keys of authorization servers are named by their file and never shown", %{
    tmp_dir: dir
  } do
    secret = Base.url_encode64("12345678901234567890123456789012", padding: false)
    jwk = ~s({"kid": "a", "k": "#{secret}"})
    [file, wrong] = for name <- ["a.jwk", "wrong.jwk"], do: Path.join(dir, name)
    File.write!(file, jwk)
    File.write!(wrong, ~s({"kid": "a", "k": "#{secret}", "alg": "A128GCM"}))
    assert {:ok, [%{kid: "a", key: "12345678901234567890123456789012"}]} = oauth(jwk)
    assert {:ok, [%{kid: "a"}]} = oauth([file])
    assert {:ok, [%{kid: "a"}]} = oauth(fn -> file end)
    assert {:ok, []} = oauth([])
    put_env([{"TURN_OAUTH_KEYS", file}])
    assert {:ok, [%{kid: "a"}]} = Option.fetch(:oauth_keys, [])

    assert refused(:oauth_keys, wrong) =~
             ~s(option oauth_keys: #{inspect(wrong)}: must be of 32 bytes for A256GCM)

    assert {:error, {:config, text}} = Option.fetch(:oauth_keys, [oauth_keys: ["none"]], :flag)

    assert text ==
             ~s(--oauth-key "none": must be a file that can be read: no such file or directory)

    for wrong <- [
          File.read!(wrong),
          [File.read!(wrong)],
          ~s([{"k": "#{secret}"}]),
          fn -> jwk <> "," end
        ] do
      text = refused(:oauth_keys, wrong)
      assert text =~ ~r/^option oauth_keys: must be/
      refute text =~ secret
    end

    for text <- Option.secrets(oauth_keys: jwk), do: assert(text != "")
    assert jwk in Option.secrets(oauth_keys: jwk)
  end

  defp oauth(raw), do: Option.fetch(:oauth_keys, oauth_keys: raw)

  describe "certificates and keys" do
    @describetag :tmp_dir

    setup do: {:ok, made: Cromulent.Turn.Certificates.make()}

    test "are files, or the text itself", %{made: made, tmp_dir: dir} do
      {cert, key} = Cromulent.Turn.Certificates.files(made, dir)
      assert Option.fetch(:cert, cert: cert) == {:ok, made.cert}
      assert Option.fetch(:key, key: key) == {:ok, made.key}
      assert Option.fetch(:cert, cert: made.cert) == {:ok, made.cert}
      assert Option.fetch(:key, key: fn -> made.key end) == {:ok, made.key}
      # as in a file of variables, which has one line for each
      assert Option.fetch(:key, key: String.replace(made.key, "\n", "\\n")) == {:ok, made.key}
    end

    test "are told from each other, and a key is never shown", %{made: made, tmp_dir: dir} do
      {cert, key} = Cromulent.Turn.Certificates.files(made, dir)
      assert refused(:cert, key) =~ "must be a certificate in PEM form"

      assert refused(:key, cert) =~
               "option key: #{inspect(cert)}: must be a private key in PEM form"

      assert refused(:cert, made.key) =~ "must be a certificate in PEM form"

      text = refused(:key, String.replace(made.key, "BEGIN", "BEGGING"))
      assert text =~ "option key: must be a private key in PEM form"

      assert refused(:key, Path.join(dir, "none.pem")) =~
               "must be a file that can be read: no such file"
    end
  end

  test "providers are names or modules" do
    fetch = &Option.fetch(:provider, provider: &1)
    assert fetch.("Embedded") == {:ok, [Embedded]}
    assert fetch.(:embedded) == {:ok, [Embedded]}
    assert fetch.(Cromulent.Turn.Stun) == {:ok, [Cromulent.Turn.Stun]}
    assert refused(:provider, "nobody") =~ "must be one of"
  end

  test "providers may be a chain" do
    fetch = &Option.fetch(:provider, provider: &1)
    chain = {:ok, [Embedded, Cloudflare]}
    assert fetch.("embedded,cloudflare") == chain
    assert fetch.(" embedded , cloudflare, embedded") == chain
    assert fetch.([:embedded, "cloudflare"]) == chain
    assert fetch.([Embedded, Cloudflare]) == chain

    for wrong <- [[], "embedded,", ",", [nil], [:embedded, String], [["embedded"]], 7],
        do: assert(refused(:provider, wrong) =~ "must be one of embedded", inspect(wrong))
  end

  test "URLs of relays are TURN URLs, as they were given" do
    fetch = &Option.fetch(:turn_urls, turn_urls: &1)
    both = {:ok, ["turn:turn.example.org", "turns:turn.example.org:443?transport=tcp"]}
    assert fetch.("turn:turn.example.org, turns:turn.example.org:443?transport=tcp") == both
    assert fetch.(["turn:turn.example.org", "turns:turn.example.org:443?transport=tcp"]) == both
    assert fetch.([]) == {:ok, []}
    for wrong <- [%{}, [nil], ["turn:a", :b], [["turn:a"]]], do: refused(:turn_urls, wrong)
    assert refused(:turn_urls, for(n <- 1..17, do: "turn:t#{n}")) =~ "at most 16 URLs"
  end

  test "switches are true or false" do
    for name <- [:opaque_usernames, :cloudflare_shared] do
      for {raw, value} <- [{"true", true}, {"1", true}, {"FALSE", false}, {"0", false}],
          do: assert(Option.fetch(name, [{name, raw}]) == {:ok, value})

      for {raw, value} <- [{true, true}, {false, false}, {1, true}, {0, false}],
          do: assert(Option.fetch(name, [{name, raw}]) == {:ok, value})

      for wrong <- ["", "yes", 2, :on, []], do: refused(name, wrong)
    end
  end

  test "the HTTP client is named by its shape" do
    fetch = &Option.fetch(:http, http: &1)
    assert fetch.(nil) == :unset
    assert fetch.(:otp) == {:ok, :otp}
    assert fetch.({Finch, MyApp.Finch}) == {:ok, {Finch, MyApp.Finch}}
    assert fetch.({:finch, MyApp.Finch}) == {:ok, {Finch, MyApp.Finch}}
    assert fetch.(Req) == {:ok, Req}
    assert fetch.(:req) == {:ok, Req}
    assert fetch.(Cromulent.Turn.Http.Otp) == {:ok, Cromulent.Turn.Http.Otp}

    for wrong <- [
          Finch,
          {Finch, nil},
          {Finch, "x"},
          NoSuch.Module,
          String,
          :httpc,
          true,
          "otp",
          {Req, []}
        ],
        do: assert(refused(:http, wrong) =~ "must be :otp, {Finch, MyApp.Finch}, Req")
  end

  test "keys go to https hosts, in clear to this host only" do
    for name <- [:metered_url, :cloudflare_url] do
      for right <- [
            "https://app.metered.live",
            "https://app.metered.live:8443",
            "http://localhost:4000",
            "http://127.0.0.1:4000",
            "http://[::1]:4000"
          ] do
        assert Option.fetch(name, [{name, right}]) == {:ok, right}
        assert Option.fetch(name, [{name, right <> "/"}]) == {:ok, right}
      end

      for wrong <- [
            "http://10.0.0.1",
            "http://localhost.example.org",
            "https://user@host",
            "https://host?x=1",
            "https://host#x",
            "https://a b",
            "https://host\n",
            :https
          ],
          do: refused(name, wrong)
    end
  end

  test "keys of other services are secrets too" do
    for name <- [
          :metered_secret_key,
          :metered_api_key,
          :cloudflare_key_id,
          :cloudflare_api_token
        ] do
      assert Option.secret?(name)
      assert Option.fetch(name, [{name, "k-123_x"}]) == {:ok, "k-123_x"}
      assert Option.fetch(name, [{name, fn -> "late" end}]) == {:ok, "late"}
      variable = Option.variable(name)

      for wrong <- ["${THE_HIDDEN_KEY}", "$THE_HIDDEN_KEY", "hidden key", "hidden\u00fc"] do
        put_env([{variable, wrong}])
        assert {:error, {:config, text}} = Option.fetch(name, [])
        assert String.starts_with?(text, variable <> ": ")
        refute text =~ ~r/hidden/i
      end

      refused(name, :atom)
      refused(name, String.duplicate("k", 513))
    end
  end

  test "names that are no option are refused" do
    assert Option.check_names(ttl: 1, listen: "x") == :ok
    assert {:error, {:config, text}} = Option.check_names(ttl: 1, relay_port: "x")
    assert text =~ "option relay_port: there is no such option; there are provider, secret"
  end

  test "names of other providers' options are no relay's" do
    assert {:error, {:config, text}} = Option.check_names(ttl: 1, metered_url: "https://x")

    assert text =~
             "option metered_url: is not one of the relay's; give it as `config :cromulent_turn"
  end

  test "required/2 and default/3 say what is missing, or do without" do
    assert Option.required(:metered_url, []) == {:error, {:not_configured, :metered_url}}
    assert Option.required(:turn_urls, turn_urls: []) == {:error, {:not_configured, :turn_urls}}
    assert Option.required(:metered_region, metered_region: "a") == {:ok, "a"}
    assert Option.default(:ttl, [], 5) == {:ok, 5}
    assert Option.default(:ttl, [ttl: 60], 5) == {:ok, 60}
    assert {:error, {:config, _}} = Option.default(:ttl, [ttl: 1], 5)
  end

  test "flags are named as on the command line" do
    assert Option.flag(:relay_ip) == "--relay-ip"
    assert Option.flag(:relay_ports) == "--ports"
    assert Option.flag(:allow_peers) == "--allow-peer"
    assert Option.flag(:deny_peers) == "--deny-peer"
  end

  test "the documentation has every option and variable" do
    {:docs_v1, _, _, _, %{"en" => text}, _, _} = Code.fetch_docs(Cromulent.Turn)

    for name <- Option.names() do
      assert text =~ "`#{name}`"
      if variable = Option.variable(name), do: assert(text =~ "`#{variable}`")
    end
  end
end
