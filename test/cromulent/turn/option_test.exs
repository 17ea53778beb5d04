defmodule Cromulent.Turn.OptionTest do
  # The environment is everybody's.
  use ExUnit.Case, async: false

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.Option

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
    for name <- Option.limits() -- [:software] do
      assert Option.fetch(name, [{name, 1}]) == {:ok, 1}
      assert refused(name, -1) =~ "must be a number from"
      assert refused(name, "x") =~ "must be a number from"
    end

    assert Option.fetch(:software, software: "") == {:ok, ""}
    refused(:software, String.duplicate("s", 128))
  end

  describe "certificates and keys" do
    @describetag :tmp_dir

    setup do: {:ok, made: Cromulent.Turn.Certificates.make()}

    test "are files, or the text itself", %{made: made, tmp_dir: dir} do
      {cert, key} = Cromulent.Turn.Certificates.files(made, dir)
      assert Option.fetch(:cert, cert: cert) == {:ok, made.cert}
      assert Option.fetch(:key, key: key) == {:ok, made.key}
      assert Option.fetch(:cert, cert: made.cert) == {:ok, made.cert}
      assert Option.fetch(:key, key: fn -> made.key end) == {:ok, made.key}
    end

    test "are told from each other, and a key is never shown", %{made: made, tmp_dir: dir} do
      {cert, key} = Cromulent.Turn.Certificates.files(made, dir)
      assert refused(:cert, key) =~ "that file is not in the PEM form that is wanted here"

      assert refused(:key, cert) =~
               "option key: #{inspect(cert)}: that file is not in the PEM form"

      assert refused(:cert, made.key) =~ "is not in the PEM form that is wanted here"

      text = refused(:key, String.replace(made.key, "BEGIN", "BEGGING"))
      assert text =~ "option key: is not in the PEM form"
      assert refused(:key, Path.join(dir, "none.pem")) =~ "cannot be read: no such file"
    end
  end

  test "providers are names or modules" do
    assert Option.fetch(:provider, provider: "Embedded") == {:ok, Cromulent.Turn.Embedded}
    assert Option.fetch(:provider, provider: Cromulent.Turn.Stun) == {:ok, Cromulent.Turn.Stun}
    assert refused(:provider, "nobody") =~ "must be one of"
  end

  test "names that are no option are refused" do
    assert Option.check_names(ttl: 1, listen: "x") == :ok
    assert {:error, {:config, text}} = Option.check_names(ttl: 1, relay_port: "x")
    assert text =~ "option relay_port: there is no such option; there are provider, secret"
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
