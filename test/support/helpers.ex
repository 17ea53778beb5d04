defmodule Cromulent.Turn.Helpers do
  @moduledoc false
  # What the tests share: real relays on free ports, clients of them, peers, and waiting without
  # sleeping blindly.

  import ExUnit.Assertions
  import ExUnit.Callbacks

  alias Cromulent.Turn.{Client, Config, Credentials, Relay}

  @secret "a secret for the tests of turn"

  def secret, do: @secret

  @doc "Options of a relay on free ports of the loopback addresses, to peers on those too."
  def options(more \\ []) do
    Keyword.merge(
      [
        listen: ["udp:127.0.0.1:0", "udp:[::1]:0"],
        relay_ip: ["127.0.0.1", "::1"],
        secret: @secret,
        workers: 2,
        allow_peers: ["127.0.0.0/8", "::1/128"]
      ],
      more
    )
  end

  @doc "A relay without a name, which ends with the test. `address` is that of its IPv4 listener."
  def start_relay(more \\ []) do
    pid = start_supervised!({Relay, [name: nil] ++ options(more)}, id: make_ref())
    relay(pid)
  end

  def relay(server) do
    {:ok, info} = Relay.info(server)
    # Its first commands are done when this one is: what happens from now on is an event.
    {:ok, _} = Relay.stats(server)
    [address | rest] = Enum.map(info.listen, &address/1)
    %{pid: server, os_pid: info.os_pid, info: info, address: address, address6: List.first(rest)}
  end

  def address(text) do
    {:ok, {_transport, ip, port}} = Config.parse_listener(text)
    {ip, port}
  end

  @doc "A client with credentials of its own; the socket is closed with the test."
  def client(relay, opts \\ []) do
    {user, opts} = Keyword.pop(opts, :user, "alice")
    {address, opts} = Keyword.pop(opts, :address, relay.address)
    made = Credentials.generate(user, @secret)
    defaults = [username: made.username, password: made.credential, deadline: 5_000]
    {:ok, client} = Client.open(address, Keyword.merge(defaults, opts))
    client
  end

  @doc "A client with an allocation: `{client, relayed address}`."
  def allocated(relay, opts \\ []) do
    {attributes, opts} = Keyword.pop(opts, :attributes, [])
    {:ok, allocation, client} = Client.allocate(client(relay, opts), attributes)
    {client, allocation.relayed}
  end

  @doc "A plain UDP socket, as a peer has it: `{socket, address}`."
  def peer(ip \\ {127, 0, 0, 1}) do
    family = if tuple_size(ip) == 4, do: :inet, else: :inet6
    {:ok, socket} = :gen_udp.open(0, [:binary, family, ip: ip, active: true])
    {:ok, address} = :inet.sockname(socket)
    {socket, address}
  end

  @doc "What the peer gets next: `{from, data}`."
  def peer_recv(socket, timeout \\ 2_000) do
    receive do
      {:udp, ^socket, ip, port, data} -> {{ip, port}, data}
    after
      timeout -> flunk("nothing came to the peer within #{timeout} ms")
    end
  end

  @doc "Asks until the answer is true, and fails when it has not been within that many ms."
  def eventually(question, ms \\ 2_000) do
    deadline = System.monotonic_time(:millisecond) + ms
    ask(question, deadline, ms)
  end

  defp ask(question, deadline, ms) do
    cond do
      answer = question.() ->
        answer

      System.monotonic_time(:millisecond) > deadline ->
        flunk("not true within #{ms} ms")

      true ->
        Process.sleep(2)
        ask(question, deadline, ms)
    end
  end

  @doc "Sets environment variables for one test, which must not be async."
  def put_env(variables) do
    before = for {name, _} <- variables, do: {name, System.get_env(name)}
    on_exit(fn -> System.put_env(before) end)
    System.put_env(variables)
  end

  @doc "Sets the application's environment for one test, which must not be async."
  def put_config(config) do
    before = for {key, _} <- config, do: {key, Application.fetch_env(:cromulent_turn, key)}

    on_exit(fn ->
      for {key, value} <- before do
        case value do
          {:ok, value} -> Application.put_env(:cromulent_turn, key, value)
          :error -> Application.delete_env(:cromulent_turn, key)
        end
      end
    end)

    for {key, value} <- config, do: Application.put_env(:cromulent_turn, key, value)
  end

  @doc "A program of test/ports."
  def fake(name), do: Path.expand("../ports/#{name}", __DIR__)
end
