defmodule Cromulent.Turn.GreetingTest do
  # Real relays that greet are in relay_test.exs.
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Greeting

  @ready %{
    os_pid: 42,
    listen: ["udp:127.0.0.1:1"],
    version: "0",
    protocol: 1,
    relays: [],
    workers: 1,
    udp: :uv
  }

  # A message that a port sends, from one that is there already.
  defp await(message) do
    {port, timer} = {make_ref(), make_ref()}

    if message == :late,
      do: send(self(), {:start_timeout, timer}),
      else: send(self(), message.(port))

    Greeting.await(port, timer, 50)
  end

  defp frame(term), do: await(&{&1, {:data, :erlang.term_to_binary(term)}})

  test "is that the relay is ready, or why not" do
    assert frame({:ready, @ready}) == {:ok, @ready}
    assert frame({:failed, :config, "why"}) == {:error, {:config, "why"}}
    assert {:error, {:protocol, "the relay spoke before" <> _}} = frame({:reply, 1, :ok})
    assert {:error, {:protocol, "the relay sent " <> _}} = frame(:hello)
  end

  test "or does not come" do
    assert await(&{&1, {:exit_status, 137}}) == {:error, Greeting.early_exit(137)}

    assert {:system, "the relay ended before it was ready: killed by signal 9"} =
             Greeting.early_exit(137)

    assert await(&{:EXIT, &1, :epipe}) == {:error, Greeting.cut_off(:epipe)}
    assert {:system, "the control channel broke: epipe"} = Greeting.cut_off(:epipe)
    assert await(:late) == {:error, Greeting.missing(50)}
    assert {:system, "the relay did not get ready within 50 ms"} = Greeting.missing(50)
  end
end
