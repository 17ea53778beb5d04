defmodule Cromulent.Turn.CheckTest do
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  alias Cromulent.Turn.{Check, Credentials, Relay, Stun}

  @names [
    "binding",
    "allocate",
    "second allocation",
    "permission",
    "relay round trip",
    "refresh",
    "release"
  ]
  @quick [rto: 20, deadline: 200, try_ms: 20]

  defp target(address, more \\ %{}) do
    Map.merge(
      %{address: address, credentials: {:secret, &secret/0}, realm: "cromulent_turn"},
      more
    )
  end

  # The verdict and the steps, in order.
  defp check(target, opts \\ [], then \\ fn _ -> :ok end) do
    me = self()

    verdict =
      Check.run(
        target,
        fn step ->
          send(me, {:step, step})
          then.(step.name)
        end,
        opts
      )

    {verdict, steps()}
  end

  defp steps do
    receive do
      {:step, step} -> [step | steps()]
    after
      0 -> []
    end
  end

  # The step that failed, and why.
  defp failed(target, opts \\ [], then \\ fn _ -> :ok end) do
    assert {:error, steps} = check(target, opts, then)
    assert Enum.map(steps, & &1.name) == Enum.take(@names, length(steps))
    assert [%{name: name, result: {:error, why}} | before] = Enum.reverse(steps)
    for step <- before, do: assert({:ok, _} = step.result)
    {name, why}
  end

  test "passes every step with a relay, and leaves nothing behind" do
    relay = start_relay()

    for address <- [relay.address, relay.address6] do
      assert {:ok, steps} = check(target(address))
      assert Enum.map(steps, & &1.name) == @names
      for step <- steps, do: assert({:ok, <<_, _::binary>>} = step.result)
      for step <- steps, do: assert(step.ms > 0)
      assert Relay.list(10, relay.pid) == {:ok, []}
    end

    {:ok, %{counters: counters}} = Relay.stats(relay.pid)
    assert counters.bindings == 2
    assert counters.allocations_created == 4
    assert counters.allocations_released == 4
    assert {counters.up_packets, counters.up_bytes} == {4, 4 * 512}
    assert {counters.down_packets, counters.down_bytes} == {4, 4 * 512}
  end

  test "takes credentials that were made elsewhere" do
    relay = start_relay()
    made = Credentials.generate("alice", secret())
    given = %{credentials: {made.username, made.credential}, realm: nil}
    assert {:ok, _} = check(target(relay.address, given))
  end

  test "passes where the server has no relay of the address's own family" do
    relay = start_relay(relay_ip: "127.0.0.1")
    assert {:ok, _} = check(target(relay.address6))
  end

  test "says when nothing listens" do
    {socket, address} = peer()
    :gen_udp.close(socket)

    assert {"binding", "unreachable: nothing listens on UDP at 127.0.0.1:" <> _} =
             failed(target(address), @quick)
  end

  test "says when nothing answers" do
    {_socket, address} = peer()
    assert {"binding", why} = failed(target(address), @quick)
    assert why =~ "unreachable: no answer from 127.0.0.1:"
    assert why =~ "within 200 ms"
  end

  test "says when the secret is wrong" do
    relay = start_relay()
    wrong = %{credentials: {:secret, fn -> "another secret altogether" end}}
    assert {"allocate", "401, wrong secret: " <> _} = failed(target(relay.address, wrong))
  end

  test "says when the credential is wrong, and whose" do
    relay = start_relay()
    made = Credentials.generate("alice", secret())
    wrong = %{credentials: {made.username, "nonsense"}}
    assert {"allocate", why} = failed(target(relay.address, wrong))
    assert why =~ "401, wrong credential"
    assert why =~ made.username
    refute why =~ "nonsense"
  end

  test "says when the credential has expired" do
    relay = start_relay()
    made = Credentials.generate("alice", secret(), now: System.os_time(:second) - 1_000, ttl: 60)
    expired = %{credentials: {made.username, made.credential}}
    assert {"allocate", why} = failed(target(relay.address, expired))
    assert why =~ ~r/401, expired: the credential of ".*" ended 94\d s ago/
  end

  test "says when the realm is another" do
    relay = start_relay(realm: "example.org")
    wrong = %{credentials: {"4000000000:alice", "nonsense"}}
    assert {"allocate", why} = failed(target(relay.address, wrong))

    assert why ==
             "401, wrong realm: the server's is \"example.org\", and \"cromulent_turn\" was expected"
  end

  test "says when the server's clock is ahead" do
    relay = start_relay()
    behind = System.os_time(:second) - 10_000
    assert {"allocate", why} = failed(target(relay.address), now: behind)

    assert why =~
             "401, clock skew: credentials that hold for 600 s are refused, and for 86400 s accepted"

    assert Relay.list(10, relay.pid) == {:ok, []}
  end

  test "says when the server is full" do
    relay = start_relay(max_allocations: 1)
    assert {"second allocation", why} = failed(target(relay.address))
    assert why =~ "508"
    assert why =~ ": it is full, or draining"
    assert Relay.list(10, relay.pid) == {:ok, []}
  end

  test "says when the user has too many allocations" do
    relay = start_relay(user_quota: 1)
    assert {"second allocation", "486" <> _} = failed(target(relay.address))
  end

  test "passes whatever is denied: a relay's own addresses are peers of each other" do
    relay = start_relay(relay_ip: "127.0.0.1", allow_peers: [], deny_peers: ["127.0.0.1"])
    assert {:ok, _} = check(target(relay.address))
  end

  test "says when the server refuses its own addresses" do
    {socket, address} = peer()
    pid = spawn_link(fn -> receive(do: (:yours -> forbid(socket))) end)
    :ok = :gen_udp.controlling_process(socket, pid)
    send(pid, :yours)
    assert {"permission", why} = failed(target(address), @quick)

    assert why ==
             "no relay path: 403, the server refuses its own relayed address 192.0.2.1:50000 as a peer"
  end

  # A server without authentication that gives allocations and no permissions.
  defp forbid(socket) do
    receive do
      {:udp, ^socket, ip, port, packet} ->
        {:ok, request} = Stun.decode(packet)
        {class, attributes} = verdict(request.method, {ip, port})

        :ok =
          :gen_udp.send(
            socket,
            ip,
            port,
            Stun.encode(%{request | class: class, attributes: attributes})
          )

        forbid(socket)
    end
  end

  defp verdict(:create_permission, _from), do: {:error, [error_code: {403, "Forbidden"}]}

  defp verdict(_method, from) do
    {:success,
     xor_mapped_address: from, xor_relayed_address: {{192, 0, 2, 1}, 50_000}, lifetime: 600}
  end

  test "says when nothing comes through" do
    relay = start_relay()
    # The allocations go away under its feet.
    cut = fn name -> if name == "permission", do: Relay.kill(:all, relay.pid) end

    assert {"relay round trip", "no relay path: what 127.0.0.1:" <> _} =
             failed(target(relay.address), @quick, cut)
  end

  test "says when the allocation is gone" do
    relay = start_relay()
    cut = fn name -> if name == "relay round trip", do: Relay.kill(:all, relay.pid) end
    assert {"refresh", "437 " <> _} = failed(target(relay.address), [], cut)
  end
end
