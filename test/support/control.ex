defmodule Cromulent.Turn.Control do
  @moduledoc false
  # The relay program, spoken to as docs/control.md says, without the process that usually does.

  import Cromulent.Turn.Helpers, only: [client: 2, address: 1, secret: 0]
  import ExUnit.Assertions

  alias Cromulent.Turn.{Client, Program}

  @timeout 5_000

  def open do
    Port.open(
      {:spawn_executable, Program.path()},
      [:binary, :nouse_stdio, :exit_status, packet: 4]
    )
  end

  def send_term(port, term), do: send_bytes(port, :erlang.term_to_binary(term))

  def send_bytes(port, bytes) do
    Port.command(port, bytes)
    port
  end

  def frame(port) do
    receive do
      {^port, {:data, bytes}} -> :erlang.binary_to_term(bytes)
      {^port, {:exit_status, status}} -> {:exit, status}
    after
      @timeout -> flunk("the relay said nothing for #{@timeout} ms")
    end
  end

  def config(more \\ %{}) do
    Map.merge(
      %{
        listen: ["udp:127.0.0.1:0"],
        realm: "test",
        secrets: [secret()],
        relays: [{"127.0.0.1", "127.0.0.1"}],
        workers: 2,
        allow_peers: ["127.0.0.0/8"]
      },
      more
    )
  end

  def greet(config) do
    open() |> send_term({:hello, 1}) |> send_term({:configure, 1, config})
  end

  def start(more \\ %{}) do
    port = greet(config(more))
    assert {:ready, info} = frame(port)
    {port, info, %{address: address(hd(info.listen))}}
  end

  # The reply to this command; events that come before it are put aside for event/2.
  def call(port, name, args \\ []) do
    ref = System.unique_integer([:positive])
    send_term(port, List.to_tuple([name, ref | args]))
    reply(port, ref)
  end

  def reply(port, ref) do
    case frame(port) do
      {:reply, ^ref, value} ->
        value

      {:event, _, _} = event ->
        send(self(), {:aside, event})
        reply(port, ref)

      other ->
        flunk("instead of a reply came #{inspect(other)}")
    end
  end

  # The next event of that name.
  def event(port, name) do
    event =
      receive do
        {:aside, event} -> event
      after
        0 -> frame(port)
      end

    case event do
      {:event, ^name, map} -> map
      {:event, _, _} -> event(port, name)
    end
  end

  def failure(port) do
    assert {:failed, reason, detail} = frame(port)
    assert {:exit, 1} = frame(port)
    {reason, detail}
  end

  def protocol_failure(port) do
    assert {:protocol, text} = failure(port)
    text
  end

  def refused(change) do
    assert {:config, text} = config() |> change.() |> greet() |> failure()
    text
  end

  # Another thread sees the credit: the reply says that it is there.
  def grant(port, credit) do
    send_term(port, {:credit, credit})
    stats(port)
  end

  def stats(port) do
    assert {:ok, stats} = call(port, :stats)
    stats
  end

  def allocate(relay, opts \\ []) do
    assert {:ok, allocation, client} = Client.allocate(client(relay, opts))
    {client, allocation.relayed}
  end

  def os_pid(port) do
    {:os_pid, os_pid} = Port.info(port, :os_pid)
    os_pid
  end
end
