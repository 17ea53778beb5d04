defmodule Cromulent.Turn.WireAdmissionTest do
  # Admission (docs/control.md): a real relay that is told who may have allocations, and where to.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Control
  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire, only: [challenged: 2, request_code: 3]

  alias Cromulent.Turn.Client

  @udp {:requested_transport, :udp}

  # A relay that has been told that these are all grants so far.
  defp admitting(scope, grants, more \\ %{}) do
    {port, _info, relay} = start(Map.put(more, :admission, scope))
    assert call(port, :admit, [grants]) == {:ok, []}
    assert call(port, :open) == :ok
    {port, relay}
  end

  defp counters(port), do: stats(port).counters

  defp allocate_code(relay, user),
    do: request_code(challenged(relay, user: user), :allocate, [@udp])

  test "a user without a grant is forbidden, and that is told" do
    {port, relay} = admitting(:presence, [{"alice", "lobby"}])
    grant(port, 10)
    assert allocate_code(relay, "alice") == 200
    assert allocate_code(relay, "bob") == 403
    assert %{username: name, client: client} = event(port, :admission_refused)
    assert String.ends_with?(name, ":bob")
    assert is_binary(client)
    assert %{refused_admission: 1, forbidden: 1, allocations_created: 1} = counters(port)
    assert call(port, :admit, [[{"bob", "lobby"}]]) == {:ok, []}
    assert allocate_code(relay, "bob") == 200
    assert stats(port).grants == 2
  end

  test "before the grants are complete nobody is refused, but left to ask again" do
    {port, _info, relay} = start(%{admission: :presence})
    # one request, asked again after its RTO
    asking = Task.async(fn -> allocate_code(relay, "alice") end)
    eventually(fn -> counters(port).drop_early > 0 end, 10_000)
    assert call(port, :admit, [[{"alice", "lobby"}]]) == {:ok, []}
    assert Task.await(asking, 20_000) == 200
    assert call(port, :open) == :ok
    assert allocate_code(relay, "bob") == 403
    assert counters(port).refused_admission == 1
  end

  test "who is withdrawn from everywhere loses all allocations before the answer comes" do
    for scope <- [:presence, :room] do
      grants = [{"alice", "lobby"}, {"alice", "stage"}, {"bob", "lobby"}]
      {port, relay} = admitting(scope, grants)
      grant(port, 100)
      for _ <- 1..6, do: allocate(relay, user: "alice")
      {bob, _} = allocate(relay, user: "bob")
      assert call(port, :withdraw, [[{"alice", "lobby"}]]) == :ok
      assert stats(port).allocations == 7
      assert call(port, :withdraw, [[{"alice", "stage"}, {"carol", "lobby"}]]) == :ok
      assert %{allocations: 1, grants: 1, counters: counters} = stats(port)
      assert counters.allocations_withdrawn == 6
      for _ <- 1..6, do: assert(event(port, :allocation_ended).reason == :withdrawn)
      assert allocate_code(relay, "alice") == 403
      assert {:ok, _, _} = Client.refresh(bob, 600)
    end
  end

  test "no allocation that is just being made escapes a withdrawal" do
    for scope <- [:presence, :room] do
      {port, relay} = admitting(scope, [], %{workers: 2})
      clients = for _ <- 1..8, do: Task.async(fn -> allocate_again_and_again(relay) end)

      for _ <- 1..100 do
        assert call(port, :admit, [[{"alice", "lobby"}]]) == {:ok, []}
        # they come now, one after the other, and are in the middle of it
        eventually(fn -> stats(port).allocations > 0 end, 10_000)
        assert call(port, :withdraw, [[{"alice", "lobby"}]]) == :ok
        assert call(port, :list, [100]) == {:ok, []}
      end

      for task <- clients, do: Task.shutdown(task, :brutal_kill)
      assert counters(port).allocations_withdrawn > 100
    end
  end

  # Until somebody ends it.
  defp allocate_again_and_again(relay) do
    client = client(relay, user: "alice")
    {_, _, client} = Client.allocate(client)
    Client.close(client)
    allocate_again_and_again(relay)
  end

  test "what cannot be granted is told" do
    {port, relay} = admitting(:presence, [], %{max_grants: 9})
    rooms = for n <- 1..9, do: {"alice", "room #{n}"}
    assert call(port, :admit, [rooms]) == {:ok, [{"alice", "room 9", :too_many_rooms}]}
    # a pair that is there takes no other place
    assert call(port, :admit, [tl(rooms)]) == {:ok, [{"alice", "room 9", :too_many_rooms}]}

    assert call(port, :admit, [[{"bob", "x"}, {"carol", "x"}]]) ==
             {:ok, [{"carol", "x", :too_many_grants}]}

    assert stats(port).grants == 9
    assert allocate_code(relay, "bob") == 200
    assert allocate_code(relay, "carol") == 403
  end

  test "without admission the commands are refused, and nobody else is" do
    {port, _info, relay} = start()
    assert call(port, :admit, [[{"alice", "lobby"}]]) == {:error, :admission_off}
    assert call(port, :withdraw, [[{"alice", "lobby"}]]) == {:error, :admission_off}
    assert call(port, :open) == {:error, :admission_off}
    assert allocate_code(relay, "alice") == 200
    assert stats(port).grants == 0
  end

  test "in scope room data goes only between users of one room, while they are" do
    for workers <- [1, 2], mode <- [:open, :switch] do
      grants = [{"alice", "a"}, {"bob", "a"}, {"bob", "b"}, {"carol", "b"}]
      {port, relay} = admitting(:room, grants, %{workers: workers, mode: mode})
      {alice, at_alice} = allocate(relay, user: "alice")
      {bob, at_bob} = allocate(relay, user: "bob")
      {carol, at_carol} = allocate(relay, user: "carol")
      {:ok, alice} = Client.permit(alice, [at_bob, at_carol])
      {:ok, bob} = Client.bind(bob, 0x4000, at_alice)
      {:ok, carol} = Client.permit(carol, [at_alice, at_bob])

      # both ways, Send and channel
      :ok = Client.send_to(alice, at_bob, "to bob")
      assert Client.recv(bob, 5_000) == {:ok, {:channel, 0x4000, "to bob"}}
      :ok = Client.send_to(bob, 0x4000, "to alice")
      assert Client.recv(alice, 5_000) == {:ok, {:data, at_bob, "to alice"}}

      # in no room with each other
      :ok = Client.send_to(alice, at_carol, "to carol")
      :ok = Client.send_to(carol, at_alice, "from carol")
      eventually(fn -> counters(port).drop_other_room == 2 end)

      # bob leaves one room and is still in the other
      assert call(port, :withdraw, [[{"bob", "a"}]]) == :ok
      :ok = Client.send_to(bob, 0x4000, "too late")
      :ok = Client.send_to(alice, at_bob, "too late")
      eventually(fn -> counters(port).drop_other_room == 4 end)
      {:ok, bob} = Client.permit(bob, [at_carol])
      :ok = Client.send_to(bob, at_carol, "to carol")
      assert Client.recv(carol, 5_000) == {:ok, {:data, at_bob, "to carol"}}

      # and alice comes after him
      assert call(port, :admit, [[{"alice", "b"}]]) == {:ok, []}
      :ok = Client.send_to(alice, at_bob, "again")
      assert Client.recv(bob, 5_000) == {:ok, {:channel, 0x4000, "again"}}
      assert counters(port).drop_other_room == 4
      Port.close(port)
    end
  end

  test "in scope room nothing outside is a peer, and nothing from outside arrives" do
    {port, relay} = admitting(:room, [{"alice", "lobby"}])
    {socket, peer} = peer()
    {alice, at_alice} = allocate(relay, user: "alice")
    {elsewhere, _} = peer({127, 0, 0, 2})
    grant(port, 10)

    for stranger <- [{{127, 0, 0, 2}, 9}, {{8, 8, 8, 8}, 53}] do
      assert request_code(alice, :create_permission, xor_peer_address: stranger) == 403
      assert event(port, :peer_forbidden).rule == :admission
    end

    # the relay's own IP may be permitted, but only its relayed ports are there
    {:ok, alice} = Client.permit(alice, [peer])
    :ok = Client.send_to(alice, peer, "out")
    eventually(fn -> counters(port).drop_no_permission == 1 end)
    {ip, relayed_port} = at_alice
    :ok = :gen_udp.send(socket, ip, relayed_port, "in")
    :ok = :gen_udp.send(elsewhere, ip, relayed_port, "in")
    eventually(fn -> counters(port).drop_other_room == 2 end)
    assert counters(port).down_packets == 0
    assert Client.recv(alice, 0) == {:error, :timeout}

    # nor is TCP relayed (RFC 6062): no room would be asked
    tcp = challenged(relay, user: "alice")
    assert request_code(tcp, :allocate, requested_transport: :tcp) == 442
  end

  test "a pair that is none ends the channel" do
    pair = {"alice", "lobby"}
    long = :binary.copy("x", 509)

    for bad <- [
          :all,
          [pair | :no],
          [:alice],
          [{"alice"}],
          [{"alice", "lobby", "more"}],
          [{"", "lobby"}],
          [{"alice", ""}],
          [{long, "lobby"}],
          [{"alice", binary_part(long, 0, 256)}],
          [pair, {:alice, "lobby"}]
        ],
        name <- [:admit, :withdraw] do
      {port, _info, _relay} = start(%{admission: :presence})
      send_term(port, {name, 1, bad})
      text = protocol_failure(port)
      assert text =~ ~r/^#{name}: must be {#{name}, Ref, \[{User, Room}\]}/ or bad == [pair | :no]
    end
  end

  test "the longest names are granted, and frames of a thousand" do
    {port, _info, _relay} = start(%{admission: :presence})
    longest = {:binary.copy("u", 508), :binary.copy("r", 255)}
    assert call(port, :admit, [[longest]]) == {:ok, []}

    for frame <- 1..20 do
      pairs = for n <- 1..1000, do: {"user #{frame} #{n}", "room #{n}"}
      send_term(port, {:admit, frame, pairs})
    end

    for frame <- 1..20, do: assert(reply(port, frame) == {:ok, []})
    assert stats(port).grants == 20_001
    assert call(port, :withdraw, [[longest]]) == :ok
    assert stats(port).grants == 20_000
  end

  test "configuration: what must stay and what cannot go together" do
    oauth = [%{kid: "k", key: :binary.copy("k", 32)}]

    assert refused(&Map.put(&1, :admission, :everybody)) ==
             "admission: must be off, presence or room, not everybody"

    assert refused(&Map.merge(&1, %{admission: :presence, oauth_keys: oauth})) =~ "admission: "
    assert refused(&Map.merge(&1, %{admission: :room, pair: false})) =~ "pair: "
    assert refused(&Map.put(&1, :max_grants, 0)) =~ "max_grants: "

    {port, info, relay} = start(%{admission: :presence})
    same = config(%{admission: :presence, listen: info.listen})
    assert call(port, :configure, [same]) == :ok

    for change <- [%{admission: :off}, %{admission: :room}, %{max_grants: 5}] do
      assert {:error, {:config, text}} = call(port, :configure, [Map.merge(same, change)])
      assert text =~ "must be what it was"
    end

    # and the grants are still there
    assert call(port, :admit, [[{"alice", "lobby"}]]) == {:ok, []}
    assert call(port, :configure, [same]) == :ok
    assert allocate_code(relay, "alice") == 200
  end
end
