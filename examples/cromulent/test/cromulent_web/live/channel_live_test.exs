defmodule CromulentWeb.ChannelLiveTest do
  # Who is in which channel is the node's.
  use CromulentWeb.ConnCase, async: false

  alias Cromulent.Channels
  alias CromulentWeb.{ChannelCase, VoiceClient}

  setup %{conn: conn} do
    {conn, user} = log_in(conn, "Ada")
    %{conn: conn, user: user, lounge: voice("Lounge"), workshop: voice("Workshop")}
  end

  defp voice(name), do: Enum.find(Channels.list(:voice), &(&1.name == name))

  defp open(conn) do
    {:ok, view, _html} = live(conn, "/")
    view
  end

  defp join(view, channel), do: view |> element("#voice-#{channel.id} > button") |> render_click()

  defp click(view, label),
    do: view |> element("#voice-bar button[aria-label='#{label}']") |> render_click()

  defp browser_says(view, state, channel, more \\ %{}) do
    payload = Map.merge(%{"state" => state, "channel_id" => channel.id}, more)
    view |> element("#voice-bar") |> render_hook("voice_state_changed", payload)
  end

  defp bar(view), do: view |> element("#voice-bar") |> render()

  # What was pushed to the browser's hook, in order.
  defp pushed(view, count) do
    %{proxy: {ref, _topic, _pid}} = view

    for _ <- 1..count do
      assert_receive {^ref, {:push_event, "voice:" <> event, payload}}, 1_000
      {event, payload}
    end
  end

  test "who has not logged in is asked to" do
    assert {:error, {:redirect, %{to: "/login"}}} = live(build_conn(), "/")
  end

  test "logging in and out" do
    conn = get(build_conn(), "/login")
    assert html_response(conn, 200) =~ "Your name"

    conn = post(build_conn(), "/login", %{"name" => "  Grace "})
    assert redirected_to(conn) == "/"
    {:ok, _view, html} = live(recycle(conn), "/")
    assert html =~ "Grace"

    conn = delete(recycle(conn), "/logout")
    assert redirected_to(conn) == "/login"
    assert {:error, {:redirect, %{to: "/login"}}} = live(recycle(conn), "/")
  end

  test "a name that is none is refused" do
    for name <- ["", "   ", String.duplicate("x", 33), "a\nb", nil, %{"a" => "b"}] do
      conn = post(build_conn(), "/login", %{"name" => name})
      assert html_response(conn, 422) =~ "A name has 1 to 32 characters"
    end
  end

  test "outside of a channel there is no bar to see", %{conn: conn} do
    view = open(conn)
    assert bar(view) =~ "hidden"
    refute bar(view) =~ "voice-bar__status"
  end

  test "joining hands the browser all that it needs, and the bar is yellow", c do
    view = open(c.conn)
    join(view, c.lounge)

    assert [{"join", payload}] = pushed(view, 1)
    assert payload.channel_id == c.lounge.id
    assert payload.user_id == c.user.id
    assert payload.voice_mode == "voice"

    for key <- [:ice_servers, :vad_threshold, :mic_device_id, :speaker_device_id] do
      assert Map.has_key?(payload, key)
    end

    assert {:ok, c.user.id} ==
             Phoenix.Token.verify(@endpoint, "user socket", payload.user_token, max_age: 86_400)

    assert bar(view) =~ "Connecting..."
    assert bar(view) =~ ~s(data-state="connecting")
  end

  test "the bar is green with the channel's name, then red", c do
    view = open(c.conn)
    join(view, c.lounge)
    browser_says(view, "connected", c.lounge)
    assert bar(view) =~ ~s(data-state="connected")
    assert view |> element("#voice-bar .voice-bar__label") |> render() =~ "Lounge"

    browser_says(view, "disconnected", c.lounge, %{"reason" => "already_in_channel"})
    assert bar(view) =~ ~s(data-state="disconnected")
    assert view |> element("#voice-bar .voice-bar__label") |> render() =~ "Disconnected"
    assert bar(view) =~ "in this channel already"
  end

  test "it may be said without the channel's id, too", c do
    view = open(c.conn)
    join(view, c.lounge)
    view |> element("#voice-bar") |> render_hook("voice_state_changed", %{"state" => "connected"})
    assert bar(view) =~ ~s(data-state="connected")
  end

  test "the state of the channel that was left comes too late", c do
    view = open(c.conn)
    join(view, c.lounge)
    join(view, c.workshop)
    browser_says(view, "disconnected", c.lounge)
    assert bar(view) =~ ~s(data-state="connecting")
    click(view, "Leave")
    browser_says(view, "disconnected", c.workshop)
    assert bar(view) =~ "hidden"
  end

  test "what the browser should not say changes nothing", c do
    view = open(c.conn)
    browser_says(view, "connected", %{id: "no such channel"})
    assert bar(view) =~ "hidden"
    join(view, c.lounge)
    browser_says(view, "on fire", c.lounge)
    view |> element("#voice-bar") |> render_hook("voice_state_changed", %{"state" => 1})
    assert bar(view) =~ "Connecting..."
  end

  test "switching leaves the one channel before it joins the other", c do
    view = open(c.conn)
    join(view, c.lounge)
    browser_says(view, "connected", c.lounge)
    join(view, c.workshop)
    id = c.workshop.id
    assert [{"join", _}, {"leave", %{}}, {"join", %{channel_id: ^id}}] = pushed(view, 3)
    assert bar(view) =~ "Connecting..."
  end

  test "joining the channel that one is in does nothing, unless it is lost", c do
    view = open(c.conn)
    join(view, c.lounge)
    join(view, c.lounge)
    browser_says(view, "disconnected", c.lounge)
    click(view, "Join again")
    assert [{"join", _}, {"leave", _}, {"join", _}] = pushed(view, 3)
    assert bar(view) =~ "Connecting..."
  end

  test "leaving", c do
    view = open(c.conn)
    join(view, c.lounge)
    click(view, "Leave")
    assert [{"join", _}, {"leave", %{}}] = pushed(view, 2)
    assert bar(view) =~ "hidden"
  end

  test "muting, deafening, pushing to talk", c do
    view = open(c.conn)
    join(view, c.lounge)
    browser_says(view, "connected", c.lounge)
    pushed(view, 1)

    click(view, "Mute")
    assert [{"set_mute", %{muted: true}}] = pushed(view, 1)
    assert bar(view) =~ ~r/aria-pressed="true"[^>]*aria-label="Mute"/

    click(view, "Deafen")
    assert [{"set_deafen", %{deafened: true, muted: true}}] = pushed(view, 1)
    click(view, "Deafen")
    # Who was muted before stays so.
    assert [{"set_deafen", %{deafened: false, muted: true}}] = pushed(view, 1)

    refute bar(view) =~ "Hold to talk"
    # The mode is a part of the join.
    click(view, "Push to talk")
    id = c.lounge.id
    assert [{"leave", _}, {"join", %{channel_id: ^id, voice_mode: "ptt"}}] = pushed(view, 2)
    assert bar(view) =~ "Hold to talk"

    # The next channel is joined as this one was left.
    join(view, c.workshop)
    assert [{"leave", _}, {"join", %{voice_mode: "ptt"}}] = pushed(view, 2)
    assert bar(view) =~ ~r/aria-pressed="true"[^>]*aria-label="Mute"/
  end

  test "a LiveView that is mounted anew learns from the browser where that is", c do
    {:ok, client, _reply} = VoiceClient.join(c.user, c.lounge.id)
    view = open(c.conn)
    assert bar(view) =~ "hidden"
    browser_says(view, "connected", c.lounge)
    assert bar(view) =~ ~s(data-state="connected")
    assert bar(view) =~ "Lounge"

    muted = ~r/aria-pressed="true"[^>]*aria-label="Mute"/
    refute bar(view) =~ muted
    :ok = VoiceClient.push(client, "toggle_mute", %{"muted" => true})
    ChannelCase.eventually(fn -> bar(view) =~ muted end)
    # From now on the page itself knows best.
    click(view, "Mute")
    :ok = VoiceClient.push(client, "toggle_deafen", %{"deafened" => true})
    ChannelCase.eventually(fn -> has_element?(view, ".member", "deafened") end)
    refute bar(view) =~ muted
    join(view, c.workshop)
    assert [{"set_mute", %{muted: false}}, {"leave", _}, {"join", _}] = pushed(view, 3)
    VoiceClient.cut(client)
  end

  test "the list says who is in which channel, and how", c do
    view = open(c.conn)
    user = VoiceClient.log_in("Grace")
    {:ok, client, _reply} = VoiceClient.join(user, c.workshop.id)
    selector = "#voice-#{c.workshop.id} .member[data-user='#{user.id}']"
    ChannelCase.eventually(fn -> has_element?(view, selector, "Grace") end)
    refute has_element?(view, "#voice-#{c.lounge.id} .member")

    :ok = VoiceClient.push(client, "toggle_mute", %{"muted" => true})
    ChannelCase.eventually(fn -> has_element?(view, selector, "muted") end)
    :ok = VoiceClient.push(client, "ptt_state", %{"active" => true})
    ChannelCase.eventually(fn -> has_element?(view, selector <> "[data-talking='true']") end)

    # Who comes later sees the same.
    assert has_element?(open(c.conn), selector, "muted")

    VoiceClient.cut(client)
    ChannelCase.eventually(fn -> not has_element?(view, selector) end)
  end

  test "a channel of others cannot be joined", %{conn: conn} do
    {conn, _user} = log_in(conn, "Bob")
    back_room = voice("Back room")
    {:ok, view, _html} = live(conn, "/")
    assert has_element?(view, "#voice-#{back_room.id} > button[disabled]")

    for id <- [back_room.id, "nonsense", hd(Channels.list(:text)).id] do
      assert render_click(view, "join_voice", %{"id" => id}) =~ ~s(role="alert")
      assert bar(view) =~ "hidden"
    end
  end

  test "what is said in a text channel is read by who looks at it", c do
    [general, random] = Channels.list(:text)
    ada = open(c.conn)
    {conn, _user} = log_in(build_conn(), "Bob")
    {:ok, bob, _html} = live(conn, "/channels/#{general.id}")
    {:ok, elsewhere, _html} = live(conn, "/channels/#{random.id}")

    ada |> element("#say") |> render_submit(%{"text" => " Hello <b>all</b> "})
    assert render(bob) =~ "Hello &lt;b&gt;all&lt;/b&gt;"
    refute render(elsewhere) =~ "Hello"

    assert ada |> element("#say") |> render_submit(%{"text" => String.duplicate("x", 2_001)}) =~
             "too long"
  end

  test "a channel that does not exist leads to the first", c do
    assert {:error, {:live_redirect, %{to: "/"}}} = live(c.conn, "/channels/nonsense")
  end
end
