defmodule CromulentWeb.VoiceChannelTest do
  # The places of channels, and the option on_duplicate, are the node's.
  use CromulentWeb.ChannelCase, async: false

  import ExUnit.CaptureLog

  alias CromulentWeb.{Presence, VoiceChannel}

  @soon 5_000

  setup do
    on_exit(fn -> eventually(fn -> channel_processes() == [] end) end)

    %{
      lounge: voice_id("Lounge"),
      workshop: voice_id("Workshop"),
      back_room: voice_id("Back room")
    }
  end

  defp configure(options) do
    before = Application.get_env(:cromulent, VoiceChannel)
    Application.put_env(:cromulent, VoiceChannel, options)
    on_exit(fn -> Application.put_env(:cromulent, VoiceChannel, before) end)
  end

  defp client(name, channel_id) do
    user = VoiceClient.log_in(name)
    {:ok, client, _reply} = VoiceClient.join(user, channel_id)
    assert_receive {^client, "presence_state", _state}, @soon
    {client, user.id}
  end

  defp metas(channel_id, user_id) do
    case Presence.get_by_key("voice:" <> channel_id, user_id) do
      [] -> []
      %{metas: metas} -> metas
    end
  end

  describe "joining" do
    test "gives the user's id, ICE servers with credentials, and when these expire", c do
      user = VoiceClient.log_in("Ada")
      assert {:ok, _client, reply} = VoiceClient.join(user, c.lounge)
      assert reply.user_id == user.id
      assert reply.expires_at > System.system_time(:second)

      assert %{username: _, credential: _} =
               Enum.find(reply.ice_servers, &(&1.urls =~ ~r/^turn:/))

      assert {:ok, _json} = Jason.encode(reply)
    end

    test "tells the newcomer who is here, and the others who came", c do
      {ada, ada_id} = client("Ada", c.lounge)
      bob = VoiceClient.log_in("Bob")
      {:ok, client, _reply} = VoiceClient.join(bob, c.lounge)

      assert_receive {^ada, "peer_joined", %{user_id: bob_id}}, @soon
      assert bob_id == bob.id
      assert_receive {^client, "presence_state", state}, @soon
      assert state |> Map.keys() |> Enum.sort() == Enum.sort([ada_id, bob.id])
      assert [%{name: "Bob", user_id: ^bob_id, muted: false}] = state[bob.id].metas
      refute_received {^client, "peer_joined", _self}
    end

    test "puts the newcomer into Presence before anybody hears of them", c do
      test = self()
      topic = "voice:" <> c.lounge

      # This process hears peer_joined as soon as it is said.
      spawn_link(fn ->
        CromulentWeb.Endpoint.subscribe(topic)
        send(test, :listening)

        receive do
          %{event: "peer_joined", payload: %{user_id: id}} ->
            send(test, {:present, Presence.get_by_key(topic, id) != []})
        end
      end)

      assert_receive :listening, @soon
      {_client, _id} = client("Ada", c.lounge)
      assert_receive {:present, true}, @soon
    end

    test "is refused where there is no such channel, whatever the id is", c do
      user = VoiceClient.log_in("Ada")
      text = hd(Cromulent.Channels.list(:text)).id

      log =
        capture_log(fn ->
          for id <- ["", "1", "nobody", c.lounge <> "x", "..", "a:b", <<255>>, "%00", text] do
            assert {:error, %{reason: "not found"}} = VoiceClient.join(user, id)
          end

          eventually(fn -> channel_processes() == [] end)
        end)

      refute log =~ "rror"
    end

    test "is refused to who is no member", c do
      assert {:error, %{reason: "unauthorized"}} =
               VoiceClient.join(VoiceClient.log_in("Bob"), c.back_room)

      assert {:ok, _client, _reply} = VoiceClient.join(VoiceClient.log_in("Ada"), c.back_room)
    end

    test "is refused to a user whom nobody knows", c do
      assert {:error, %{reason: "unauthorized"}} =
               VoiceClient.join(%{id: "00000000-0000-4000-8000-000000000000"}, c.lounge)
    end

    test "is for two channels at a time as well", c do
      user = VoiceClient.log_in("Ada")
      assert {:ok, _client, _reply} = VoiceClient.join(user, c.lounge)
      assert {:ok, _client, _reply} = VoiceClient.join(user, c.workshop)
    end
  end

  describe "a second join of the same user" do
    test "is refused, without a crash and without harm to the first", c do
      user = VoiceClient.log_in("Ada")
      {:ok, first, _reply} = VoiceClient.join(user, c.lounge)
      {bob, _bob_id} = client("Bob", c.lounge)

      log =
        capture_log(fn ->
          assert {:error, %{reason: "already_in_channel"}} = VoiceClient.join(user, c.lounge)
          eventually(fn -> length(channel_processes()) == 2 end)
        end)

      assert log == ""
      assert :ok = VoiceClient.push(first, "toggle_mute", %{"muted" => true})
      refute_received {^bob, "peer_left", _}
      assert [_one] = metas(c.lounge, user.id)
    end

    test "is welcome as soon as the first has gone, however it went", c do
      user = VoiceClient.log_in("Ada")
      {:ok, first, _reply} = VoiceClient.join(user, c.lounge)
      :ok = VoiceClient.cut(first)
      assert {:ok, second, _reply} = VoiceClient.join(user, c.lounge)

      Process.exit(VoiceClient.channel(second), :kill)
      eventually(fn -> channel_processes() == [] end)
      assert {:ok, _third, _reply} = VoiceClient.join(user, c.lounge)
    end

    test "takes the place of the first, where that is configured", c do
      configure(on_duplicate: :takeover)
      user = VoiceClient.log_in("Ada")
      {:ok, first, _reply} = VoiceClient.join(user, c.lounge)
      assert_receive {^first, "presence_state", _state}, @soon
      {bob, _bob_id} = client("Bob", c.lounge)
      old = VoiceClient.channel(first)
      monitor = Process.monitor(old)

      log =
        capture_log(fn ->
          assert {:ok, _second, _reply} = VoiceClient.join(user, c.lounge)
          assert_receive {^first, "taken_over", %{}}, @soon
          assert_receive {:DOWN, ^monitor, _, _, {:shutdown, :taken_over}}, @soon
        end)

      assert log == ""
      assert_receive {^bob, "peer_joined", %{user_id: id}}, @soon
      assert id == user.id
      # The old channel is gone, and has not said so to those who talk to the new one.
      refute_received {^bob, "peer_left", _}
      eventually(fn -> length(metas(c.lounge, user.id)) == 1 end)
    end
  end

  describe "leaving" do
    test "is told to the others, in good order and otherwise", c do
      {ada, _id} = client("Ada", c.lounge)
      {bob, bob_id} = client("Bob", c.lounge)
      VoiceClient.leave(bob)
      assert_receive {^ada, "peer_left", %{user_id: ^bob_id}}, @soon

      {grace, grace_id} = client("Grace", c.lounge)
      VoiceClient.cut(grace)
      assert_receive {^ada, "peer_left", %{user_id: ^grace_id}}, @soon
    end
  end

  describe "signalling" do
    setup c do
      {ada, ada_id} = client("Ada", c.lounge)
      {bob, bob_id} = client("Bob", c.lounge)
      {grace, _id} = client("Grace", c.lounge)
      %{ada: ada, ada_id: ada_id, bob: bob, bob_id: bob_id, grace: grace}
    end

    test "reaches the one it is for, and nobody else", c do
      %{ada: ada, ada_id: ada_id, bob: bob, bob_id: bob_id, grace: grace} = c
      offer = %{"type" => "offer", "sdp" => "v=0\r\n"}
      candidate = %{"candidate" => "candidate:1", "sdpMid" => "0", "sdpMLineIndex" => 0}

      assert :ok = VoiceClient.push(ada, "sdp_offer", %{"to" => bob_id, "sdp" => offer})
      assert :ok = VoiceClient.push(bob, "sdp_answer", %{"to" => ada_id, "sdp" => "v=0\r\n"})
      message = %{"to" => bob_id, "candidate" => Map.put(candidate, "more", 1)}
      assert :ok = VoiceClient.push(ada, "ice_candidate", message)
      assert :ok = VoiceClient.push(ada, "ice_candidate", %{message | "candidate" => nil})

      assert_receive {^bob, "sdp_offer", got}, @soon
      assert got == %{"from" => ada_id, "to" => bob_id, "sdp" => offer}
      assert_receive {^ada, "sdp_answer", %{"from" => ^bob_id, "sdp" => "v=0\r\n"}}, @soon
      assert_receive {^bob, "ice_candidate", %{"candidate" => ^candidate}}, @soon
      assert_receive {^bob, "ice_candidate", %{"candidate" => nil}}, @soon

      for event <- ["sdp_offer", "sdp_answer", "ice_candidate"] do
        refute_received {^grace, ^event, _}
      end

      refute_received {^ada, "sdp_offer", _}
    end

    test "is from whom it is, whatever it says", c do
      message = %{"to" => c.bob_id, "from" => c.bob_id, "sdp" => "v=0"}
      %{ada_id: ada_id, bob: bob} = c
      assert :ok = VoiceClient.push(c.ada, "sdp_offer", message)
      assert_receive {^bob, "sdp_offer", %{"from" => ^ada_id}}, @soon
    end

    test "is refused to who is not in the channel", c do
      {_client, elsewhere} = client("Edsger", c.workshop)

      for to <- [elsewhere, "nobody", ""] do
        assert {:error, %{reason: "not_here"}} =
                 VoiceClient.push(c.ada, "sdp_offer", %{"to" => to, "sdp" => "v=0"})
      end
    end

    test "is refused when it is not what it should be, and the channel lives on", c do
      long = String.duplicate("x", 70_000)
      id = c.bob_id

      for {event, payload} <- [
            {"sdp_offer", %{}},
            {"sdp_offer", %{"to" => id}},
            {"sdp_offer", %{"to" => 1, "sdp" => "v=0"}},
            {"sdp_offer", %{"to" => id, "sdp" => ""}},
            {"sdp_offer", %{"to" => id, "sdp" => long}},
            {"sdp_offer", %{"to" => id, "sdp" => %{"type" => "rollback", "sdp" => "v=0"}}},
            {"sdp_answer", %{"to" => id, "sdp" => %{"type" => "answer", "sdp" => long}}},
            {"ice_candidate", %{"to" => id, "candidate" => "candidate:1"}},
            {"ice_candidate", %{"to" => id, "candidate" => %{"candidate" => long}}},
            {"ice_candidate",
             %{"to" => id, "candidate" => %{"candidate" => "", "sdpMLineIndex" => -1}}},
            {"toggle_mute", %{"muted" => "yes"}},
            {"toggle_deafen", %{}},
            {"ptt_state", %{"active" => 1}},
            {"no such event", %{}}
          ] do
        reply = VoiceClient.push(c.ada, event, payload)
        assert {:error, %{reason: "invalid"}} = reply, "#{event} #{inspect(payload, limit: 5)}"
      end

      bob = c.bob
      refute_received {^bob, "sdp_offer", _}
      assert :ok = VoiceClient.push(c.ada, "sdp_offer", %{"to" => id, "sdp" => "v=0"})
    end

    test "is refused to who sends too much", c do
      replies =
        for _ <- 1..700 do
          VoiceClient.push(c.ada, "ice_candidate", %{"to" => c.bob_id, "candidate" => nil})
        end

      assert hd(replies) == :ok
      assert {:error, %{reason: "rate_limited"}} in replies
      assert Enum.count(replies, &(&1 == :ok)) >= 600
      assert :ok = VoiceClient.push(c.grace, "sdp_offer", %{"to" => c.bob_id, "sdp" => "v=0"})
    end
  end

  describe "Presence" do
    test "says who is muted, deafened and talking", c do
      {ada, ada_id} = client("Ada", c.lounge)
      {bob, _id} = client("Bob", c.lounge)
      assert :ok = VoiceClient.push(ada, "toggle_mute", %{"muted" => true})
      assert :ok = VoiceClient.push(ada, "toggle_deafen", %{"deafened" => true})
      assert [%{muted: true, deafened: true, talking: false}] = metas(c.lounge, ada_id)

      assert :ok = VoiceClient.push(ada, "ptt_state", %{"active" => true})
      assert [%{muted: true, talking: true, name: "Ada"}] = metas(c.lounge, ada_id)
      assert_receive {^bob, "ptt_state", %{user_id: ^ada_id, active: true}}, @soon
    end

    test "is empty when everybody has gone", c do
      {ada, ada_id} = client("Ada", c.lounge)
      VoiceClient.cut(ada)
      eventually(fn -> metas(c.lounge, ada_id) == [] end)
    end
  end

  describe "what the library tells the holder" do
    test "reaches the browser: new credentials before the old ones expire", c do
      configure(provider: CromulentWeb.ShortLived)
      user = VoiceClient.log_in("Ada")
      {:ok, client, first} = VoiceClient.join(user, c.lounge)
      assert_receive {^client, "ice_servers", renewed}, 10_000
      assert renewed.expires_at > first.expires_at
      assert Enum.any?(renewed.ice_servers, &Map.has_key?(&1, :credential))
      assert renewed |> Map.keys() |> Enum.sort() == [:expires_at, :ice_servers]
    end

    test "may be anything: it does not end the channel", c do
      {ada, _id} = client("Ada", c.lounge)
      send(VoiceClient.channel(ada), :something_else)
      assert :ok = VoiceClient.push(ada, "toggle_mute", %{"muted" => true})
    end
  end
end
