defmodule Cromulent.Turn.WireOauthTest do
  # Third-party authorization (RFC 7635) as a client sees it. The engine's own tests have what goes wrong.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers
  import Cromulent.Turn.Wire

  alias Cromulent.Turn.{AccessToken, Certificates, Client, Relay, Stun}
  alias Cromulent.Turn.AccessToken.Key

  @udp {:requested_transport, :udp}
  @name "turn.example.org"
  @long %Key{kid: "2026-11", key: "a key of 32 bytes, shared by two"}
  @short %Key{kid: "2026-12", key: "16 bytes are few"}

  defp start(more \\ []),
    do: start_relay(Keyword.merge([oauth_keys: [@long, @short], oauth_server_name: @name], more))

  defp token(key \\ @long, opts \\ []), do: AccessToken.encode(key, @name, opts)

  defp unchallenged(client) do
    {:ok, answer, packet} = Client.transact(client, Stun.new(:request, :allocate, [@udp]))
    {answer, packet}
  end

  # What a request with this token gets that has seen a challenge.
  defp code_with(relay, token) do
    client = client(relay, token: token)
    {answer, _} = unchallenged(client)
    {answer, _} = once(Client.learn(client, answer), :allocate, [@udp])
    code(answer)
  end

  test "is offered with the server's name" do
    {answer, _} = unchallenged(client(start()))
    assert code(answer) == 401
    assert Stun.get(answer, :third_party_authorization) == @name
    assert Stun.get(answer, :realm) == "cromulent_turn"
    assert Stun.get(answer, :software) =~ "cromulent_turn"

    {answer, _} = unchallenged(client(start_relay(oauth_keys: [@long])))
    assert Stun.get(answer, :third_party_authorization) == "cromulent_turn"

    {answer, _} = unchallenged(client(start_relay()))
    assert Stun.get(answer, :third_party_authorization) == nil
  end

  for {key, name} <- [{@long, "A256GCM"}, {@short, "A128GCM"}] do
    test "lets a client relay, with #{name}" do
      relay = start()
      {socket, peer} = peer()
      token = token(unquote(Macro.escape(key)))
      {client, relayed} = allocated(relay, token: token)
      {:ok, client} = Client.permit(client, [peer])
      :ok = Client.send_to(client, peer, "there")
      assert peer_recv(socket) == {relayed, "there"}
      {:ok, client} = Client.bind(client, 0x4000, peer)
      :ok = :gen_udp.send(socket, elem(relayed, 0), elem(relayed, 1), "and back")
      assert Client.recv(client, 5_000) == {:ok, {:channel, 0x4000, "and back"}}
      assert {:ok, [%{username: kid}]} = Relay.list(10, relay.pid)
      assert kid == token.kid
      assert {:ok, 600, client} = Client.refresh(client)
      assert {:ok, 0, _} = Client.refresh(client, 0)
      assert Relay.list(10, relay.pid) == {:ok, []}
    end
  end

  @tag :tmp_dir
  test "works over TCP, TLS and DTLS", %{tmp_dir: dir} do
    {cert, key} = Certificates.files(Certificates.make(), dir)
    relay = start(listen: ["tcp:127.0.0.1:0", "dtls:127.0.0.1:0"], cert: cert, key: key)
    [tcp, dtls] = Enum.map(relay.info.listen, &address/1)

    for {transport, address} <- [tcp: tcp, tls: tcp, dtls: dtls] do
      {client, _} = allocated(relay, token: token(), transport: transport, address: address)
      assert {:ok, _, _} = Client.refresh(client, 0)
      Client.close(client)
    end
  end

  test "answers with the token's key, and needs no token in other requests" do
    relay = start()
    client = client(relay, token: token())
    {answer, _} = unchallenged(client)
    client = Client.learn(client, answer)

    # request_code/3 checks the integrity of what comes.
    assert request_code(client, :allocate, [@udp]) == 200
    assert request_code(client, :create_permission, xor_peer_address: {{127, 0, 0, 1}, 9}) == 200
    assert request_code(client, :create_permission, []) == 400
    {message, _} = Client.prepare(client, :create_permission, [])
    assert Stun.get(message, :access_token) == nil
  end

  test "refuses tokens of other keys and servers, old ones, and other keys of messages" do
    relay = start()
    :telemetry.listen()
    other = %{@long | key: "another key of just as many byte"}

    for {token, reason} <- [
          {token(%{@long | kid: "2026-10"}), :unknown_kid},
          {token(other), :bad_token},
          {AccessToken.encode(@long, "turn.example.com"), :bad_token},
          {token(@long, lifetime: 60, now: System.os_time(:second) - 120), :expired},
          {token(@long, lifetime: 60, now: System.os_time(:second) + 120), :expired},
          {%{token() | mac_key: "somebody else's key."}, :bad_password},
          {%{token() | token: ""}, :bad_token},
          {%{token() | token: <<12::16, "cut off">>}, :bad_token}
        ] do
      assert code_with(relay, token) == 401
      %{kid: kid} = token

      assert_receive {:telemetry, [:cromulent, :turn, :auth, :failed], _,
                      %{username: ^kid, reason: ^reason}},
                     5_000
    end

    assert code_with(relay, token()) == 200
  end

  test "grants no more time than the token has" do
    relay = start()
    now = System.os_time(:second)

    for {asked, left} <- [{3600, 700}, {3600, 300}, {0, 300}] do
      token = token(@long, lifetime: left + 1000, now: now - 1000)
      client = client(relay, token: token)
      {:ok, allocation, client} = Client.allocate(client, lifetime: asked)
      most = min(left + 5, max(asked, 600))
      assert allocation.lifetime in (most - 60)..most
      assert {:ok, lifetime, _} = Client.refresh(client, 3600)
      assert lifetime in (left - 60)..(left + 5)
    end
  end

  test "a new token, of another key too, refreshes what an old one made" do
    relay = start()
    {old, _} = allocated(relay, token: token(@long, lifetime: 120))
    client = Client.put_token(old, token(@short, lifetime: 3600))
    assert {:ok, 3000, client} = Client.refresh(client, 3000)
    assert {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 9}])
    assert {:error, {:refused, 401, _}, _} = Client.permit(old, [{{127, 0, 0, 1}, 9}])
    assert {:ok, [%{username: "2026-12"}]} = Relay.list(10, relay.pid)
    assert {:ok, 0, _} = Client.refresh(client, 0)
  end

  test "one token makes several allocations, as many as a user may have" do
    relay = start(user_quota: 2)
    token = token()
    for _ <- 1..2, do: allocated(relay, token: token)
    assert code_with(relay, token) == 486
    assert code_with(relay, token()) == 200
  end

  test "stands beside time-limited credentials" do
    relay = start()
    {client, _} = allocated(relay)
    assert {:ok, 600, _} = Client.refresh(client)
    {client, _} = allocated(relay, token: token())
    assert {:ok, 600, _} = Client.refresh(client)
    assert {:ok, 1} = Relay.kill({:user, "2026-11"}, relay.pid)
    assert {:ok, 1} = Relay.kill({:user, "alice"}, relay.pid)
  end

  test "a token that was not asked for is an unknown attribute" do
    relay = start_relay()
    client = client(relay, token: token())
    {answer, _} = unchallenged(client)
    {answer, _} = once(Client.learn(client, answer), :allocate, [@udp])
    assert code(answer) == 420
    assert Stun.get(answer, :unknown_attributes) == [0x001B]
    assert allocate_code(relay, [@udp, {:access_token, "x"}]) == 420
  end

  test "keys change while the relay runs" do
    relay = start(oauth_keys: [@long])
    {client, _} = allocated(relay, token: token())
    assert Relay.configure([oauth_keys: [@short]], relay.pid) == :ok
    assert code_with(relay, token()) == 401
    assert code_with(relay, token(@short)) == 200
    # The allocation has its own key still, and needs a new token in time.
    assert {:ok, client} = Client.permit(client, [{{127, 0, 0, 1}, 9}])
    assert {:error, {:refused, 401, _}, _} = Client.refresh(client)
    assert {:ok, 600, _} = Client.refresh(Client.put_token(client, token(@short)))
    assert Relay.configure([oauth_keys: []], relay.pid) == :ok
    assert code_with(relay, token(@short)) == 420

    expired = %{@long | not_after: System.os_time(:second) - 1}
    assert Relay.configure([oauth_keys: [expired]], relay.pid) == :ok
    assert code_with(relay, token()) == 401
    assert {:error, {:config, text}} = Relay.configure([oauth_keys: "{"], relay.pid)
    assert text =~ "option oauth_keys: must be"
  end
end
