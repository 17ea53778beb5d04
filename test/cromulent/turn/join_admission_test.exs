defmodule Cromulent.Turn.JoinAdmissionTest do
  # Joins, and what they are worth at a real relay that lets only those in who are in a room.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire, only: [challenged: 2, request_code: 3]
  import ExUnit.CaptureLog

  alias Cromulent.Turn
  alias Cromulent.Turn.{Admission, Client, Config, Joiner, Keeper, OsProcess, Relay}

  @udp {:requested_transport, :udp}
  # ms for what takes a few where nothing else runs.
  @soon 10_000

  setup c do
    {:ok, name: :"#{__MODULE__}.#{c.line}", topic: "voice:#{System.unique_integer([:positive])}"}
  end

  defp admitting(name, more \\ []) do
    pid =
      start_supervised!(
        {Relay, [name: name] ++ options(Keyword.merge([admission: :presence], more))},
        id: name
      )

    open(relay(pid))
  end

  # What a relay does that knows all grants there are.
  defp open(relay) do
    eventually(fn -> allocate_code(relay, "nobody") == 403 end, @soon)
    relay
  end

  defp join(name, topic, user, opts \\ []),
    do: Joiner.join(topic, user, [provider: :embedded, relay: name] ++ opts)

  defp allocate_code(relay, user),
    do: request_code(challenged(relay, user: user), :allocate, [@udp])

  defp grants(relay), do: elem(Relay.stats(relay.pid), 1).grants
  defp allocations(relay), do: elem(Relay.list(1000, relay.pid), 1)

  # A client with the credentials that a join gave.
  defp client_of(relay, %{ice_servers: servers}) do
    # The grant has been sent before the join returned, so that it was there before this is answered.
    {:ok, _} = Relay.stats(relay.pid)
    %{username: username, credential: password} = Enum.find(servers, &is_map_key(&1, :credential))
    options = [username: username, password: password, deadline: @soon]
    {:ok, client} = Client.open(relay.address, options)
    {:ok, allocation, client} = Client.allocate(client)
    {client, allocation.relayed}
  end

  defp allocated!(relay, result) do
    {:ok, payload} = result
    client_of(relay, payload)
  end

  defp assert_withdrawn(username_of) do
    assert_receive {:telemetry, [:cromulent, :turn, :allocation, :ended], _,
                    %{reason: :withdrawn, username: username}},
                   @soon

    if String.ends_with?(username, ":" <> username_of),
      do: :ok,
      else: assert_withdrawn(username_of)
  end

  test "who has joined can allocate, who has left cannot and has nothing left", c do
    :telemetry.listen()
    relay = admitting(c.name)
    user = "alice #{c.topic}"
    {pid, result} = join(c.name, c.topic, user)
    allocated!(relay, result)
    assert grants(relay) == 1
    assert Joiner.run(pid, fn -> Turn.leave(c.topic, user) end) == :ok
    assert_withdrawn(user)
    assert allocations(relay) == []
    assert allocate_code(relay, user) == 403

    assert_receive {:telemetry, [_, _, :admission, :refused], %{count: 1}, %{username: name}},
                   @soon

    assert is_binary(name)
    assert_receive {:telemetry, [_, _, :admission, :opened], %{duration_us: _}, _}, @soon

    assert_receive {:telemetry, [_, _, :admission, :granted], %{count: _, duration_us: _}, _},
                   @soon

    assert_receive {:telemetry, [_, _, :admission, :withdrawn], %{count: _, duration_us: _}, _},
                   @soon
  end

  test "with the last of a user's rooms, and not before", c do
    relay = admitting(c.name)
    {one, result} = join(c.name, c.topic, "alice")
    {two, {:ok, _}} = join(c.name, c.topic <> "2", "alice")
    {client, _} = allocated!(relay, result)
    Joiner.kill(one)
    eventually(fn -> grants(relay) == 1 end, @soon)
    assert {:ok, _, _} = Client.refresh(client)
    Joiner.kill(two)
    eventually(fn -> allocations(relay) == [] end, @soon)
    assert grants(relay) == 0
  end

  test "a holder that is killed takes its user's allocations along", c do
    :telemetry.listen()
    relay = admitting(c.name)
    user = "killed #{c.topic}"
    {pid, result} = join(c.name, c.topic, user)
    {_client, _} = allocated!(relay, result)
    Joiner.kill(pid)
    assert_withdrawn(user)
    assert grants(relay) == 0
  end

  test "a join that fails half-way leaves no grant", c do
    relay = admitting(c.name)

    defmodule Broken do
      @behaviour Cromulent.Turn.Provider
      @impl true
      def get_ice_servers(_user_id), do: exit(:broken)
    end

    # A provider that crashes does not fail a join; who is killed while he waits for one does.
    {pid, {:ok, _}} = join(c.name, c.topic, "bob", provider: Broken)
    eventually(fn -> grants(relay) == 1 end, @soon)
    Joiner.kill(pid)
    eventually(fn -> grants(relay) == 0 end, @soon)

    assert {_, {:error, :already_in_channel}} =
             (
               {_, {:ok, _}} = join(c.name, c.topic, "carol")
               join(c.name, c.topic, "carol")
             )

    assert grants(relay) == 1
  end

  test "a takeover keeps what the user has", c do
    :telemetry.listen()
    relay = admitting(c.name)
    {old, result} = join(c.name, c.topic, "taken")
    {client, _} = allocated!(relay, result)
    {new, {:ok, _}} = join(c.name, c.topic, "taken", on_duplicate: :takeover, grace: 0)
    assert Joiner.ended(old) == {:shutdown, :taken_over}
    # Whatever that has set off is done once this is.
    {other, {:ok, _}} = join(c.name, c.topic <> "2", "other")
    eventually(fn -> grants(relay) == 2 end, @soon)
    assert {:ok, _, _} = Client.refresh(client)
    assert [%{}] = allocations(relay)

    refute_received {:telemetry, [_, _, :allocation, :ended], _,
                     %{reason: :withdrawn, username: _}}

    for pid <- [new, other], do: Joiner.kill(pid)
    eventually(fn -> grants(relay) == 0 end, @soon)
  end

  test "a relay that takes another's place knows who is in which room", c do
    relay = admitting(c.name)
    :ok = Relay.admit("app", "room", relay.pid)
    {_, {:ok, payload}} = join(c.name, c.topic, "alice")
    {gone, {:ok, _}} = join(c.name, c.topic, "gone")

    capture_log(fn ->
      OsProcess.kill(relay.os_pid)
      Joiner.kill(gone)

      eventually(
        fn -> match?({:ok, %{status: :up, restarts: 1}}, Relay.info(relay.pid)) end,
        @soon
      )
    end)

    client_of(relay, payload)
    assert allocate_code(relay, "app") == 200
    for user <- ["gone", "nobody"], do: assert(allocate_code(relay, user) == 403)
    assert grants(relay) == 2
  end

  test "and so does one whose owner crashed", c do
    {:ok, config} = Config.new(options(admission: :presence))
    keeper = :"#{c.name}.Keeper"
    relay_spec = {Relay, [name: c.name, config: config, keeper: keeper]}
    tree = %{strategy: :rest_for_one, max_restarts: 10}

    start_supervised!(%{
      id: :tree,
      type: :supervisor,
      start:
        {Supervisor, :start_link, [[{Keeper, {keeper, config}}, relay_spec], Enum.to_list(tree)]}
    })

    open(relay(c.name))
    :ok = Relay.admit("app", "room", c.name)
    {stays, {:ok, payload}} = join(c.name, c.topic, "alice")
    {gone, {:ok, _}} = join(c.name, c.topic, "gone")

    capture_log(fn ->
      Process.exit(Process.whereis(c.name), :kill)
      Joiner.kill(gone)
      # Nor does a join need the process that is not there.
      {_, {:ok, _}} = join(c.name, c.topic, "between")
      eventually(fn -> match?({:ok, %{status: :up}}, Relay.info(c.name)) end, @soon)
    end)

    # On other ports: the configuration leaves them open.
    relay = open(relay(c.name))
    client_of(relay, payload)
    for user <- ["app", "between"], do: assert(allocate_code(relay, user) == 200)
    for user <- ["gone", "nobody"], do: assert(allocate_code(relay, user) == 403)
    assert {:ok, %{grants: 3}} = Relay.stats(c.name)
    assert Relay.withdraw("app", "room", c.name) == :ok
    Joiner.kill(stays)
    eventually(fn -> match?({:ok, %{grants: 1}}, Relay.stats(c.name)) end, @soon)
  end

  test "with admission to rooms, members of one reach each other and nobody else", c do
    for mode <- [:switch, :open] do
      name = :"#{c.name}.#{mode}"
      relay = admitting(name, admission: :room, mode: mode)
      {_, one} = join(name, c.topic, "alice #{mode}")
      {_, two} = join(name, c.topic, "bob #{mode}")
      {_, three} = join(name, c.topic <> "2", "carol #{mode}")

      [{alice, at_alice}, {bob, at_bob}, {carol, at_carol}] =
        Enum.map([one, two, three], &allocated!(relay, &1))

      {:ok, alice} = Client.permit(alice, [at_bob, at_carol])
      {:ok, bob} = Client.bind(bob, 0x4000, at_alice)
      {:ok, carol} = Client.permit(carol, [at_alice])
      :ok = Client.send_to(alice, at_carol, "not for you")
      :ok = Client.send_to(carol, at_alice, "not for you")
      :ok = Client.send_to(alice, at_bob, "there")
      :ok = Client.send_to(bob, 0x4000, "back")
      assert Client.recv(bob, @soon) == {:ok, {:channel, 0x4000, "there"}}
      assert Client.recv(alice, @soon) == {:ok, {:data, at_bob, "back"}}
      eventually(fn -> elem(Relay.stats(relay.pid), 1).counters.drop_other_room == 2 end, @soon)
      assert Client.recv(carol, 0) == {:error, :timeout}
    end
  end

  test "withdraw_after lets connections come back", c do
    relay = admitting(c.name, withdraw_after: 600_000)
    {pid, result} = join(c.name, c.topic, "alice")
    {client, _} = allocated!(relay, result)
    Joiner.kill(pid)
    {again, {:ok, _}} = join(c.name, c.topic, "alice")
    assert {:ok, _, client} = Client.refresh(client)
    # What is waited for is as long as the option was when the holder ended.
    :ok = Relay.configure([withdraw_after: 200], relay.pid)
    Joiner.kill(again)
    assert {:ok, _, _} = Client.refresh(client)
    assert grants(relay) == 1
    # That of the first holder holds for ten minutes.
    refute Admission.state({c.name, "alice", c.topic}, Admission.now()) == :none

    {pid, {:ok, _}} = join(c.name, c.topic, "bob")
    eventually(fn -> grants(relay) == 2 end, @soon)
    Joiner.kill(pid)
    eventually(fn -> grants(relay) == 1 end, @soon)
    assert allocate_code(relay, "bob") == 403
  end

  test "applications admit and withdraw by themselves", c do
    relay = admitting(c.name, max_grants: 9)
    assert Relay.admit("alice", "a", c.name) == :ok
    assert Relay.admit("alice", "a", c.name) == :ok
    assert grants(relay) == 1
    assert allocate_code(relay, "alice") == 200
    {pid, {:ok, _}} = join(c.name, "a", "alice")
    assert Relay.withdraw("alice", "a", c.name) == :ok
    assert [_] = allocations(relay)
    assert Relay.admit("alice", "a", c.name) == :ok
    Joiner.kill(pid)
    assert Relay.withdraw("alice", "a", c.name) == :ok
    eventually(fn -> allocations(relay) == [] end, @soon)
    assert Relay.withdraw("alice", "a", c.name) == :ok

    for n <- 1..8, do: assert(Relay.admit(7, "#{n}", c.name) == :ok)
    assert Relay.admit(7, "9", c.name) == {:error, :too_many_rooms}
    assert Relay.admit("alice", "a", c.name) == :ok
    assert Relay.admit("bob", "a", c.name) == {:error, :too_many_grants}
    assert Relay.admit({:no, :text}, "a", c.name) == {:error, :bad_user_id}
    assert grants(relay) == 9

    # Who joins then gets his grant when there is room.
    log =
      capture_log(fn ->
        {_, {:ok, payload}} = join(c.name, c.topic, "carol")
        assert Relay.withdraw("alice", "a", c.name) == :ok
        eventually(fn -> grants(relay) == 9 end, 20_000)
        client_of(relay, payload)
      end)

    assert log =~ "carol could not be admitted to #{c.topic}: too_many_grants"

    plain = start_relay()
    assert Relay.admit("alice", "a", plain.pid) == {:error, :admission_off}
    assert Relay.withdraw("alice", "a", plain.pid) == {:error, :admission_off}
    assert Relay.admit("alice", "a", :"#{c.name}.None") == {:error, :not_running}
  end

  test "user ids that are hidden are admitted by the names that hide them", c do
    new = "a new secret of the test of admission"
    relay = admitting(c.name, opaque_usernames: true)
    {_, {:ok, payload}} = join(c.name, c.topic, "alice")
    client_of(relay, payload)
    :ok = Relay.admit("app", "room", c.name)
    :ok = Relay.configure([secret: [new, secret()]], relay.pid)
    {_, {:ok, payload}} = join(c.name, c.topic <> "2", "alice")
    client_of(relay, payload)
    {:ok, servers} = Turn.ice_servers("app", provider: :embedded, relay: c.name)
    client_of(relay, %{ice_servers: servers})
    assert :ok = Relay.withdraw("app", "room", c.name)
    eventually(fn -> grants(relay) == 2 end, @soon)
  end
end
