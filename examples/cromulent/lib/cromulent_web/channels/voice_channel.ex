defmodule CromulentWeb.VoiceChannel do
  @moduledoc """
  A voice channel, `"voice:<channel id>"`: who is in it, and how they find one another.

  Joining takes the user's one place in the channel (`Cromulent.Turn.join/4`); the reply has the ICE
  servers, with credentials that were made for the holder of that place. The place is free as soon as this
  process ends, however it ends.

  | from the client | |
  |---|---|
  | `sdp_offer`, `sdp_answer` `{to, sdp}` | passed on to `to`, and to nobody else, with `from` |
  | `ice_candidate` `{to, candidate}` | likewise |
  | `toggle_mute` `{muted}`, `toggle_deafen` `{deafened}` | kept in Presence |
  | `ptt_state` `{active}` | kept in Presence, and told to all as `ptt_state` `{user_id, active}` |

  | to the client | |
  |---|---|
  | `presence_state`, `presence_diff` | who is here |
  | `peer_joined`, `peer_left` `{user_id}` | somebody else came or went |
  | `ice_servers` `{ice_servers, expires_at}` | new credentials, before the old ones expire |
  | `taken_over` `{}` | another tab or device of this user took the place; this channel ends |

  A join is refused with `{reason}`: `not found`, `unauthorized`, `voice_disabled`, `already_in_channel`.
  A message is refused with `invalid`, `not_here` (`to` is not in the channel) or `rate_limited`.

      config :cromulent, CromulentWeb.VoiceChannel, on_duplicate: :takeover

  gives options to `Cromulent.Turn.join/4`: with this one, a second join of the same user takes the place of
  the first instead of being refused (`:reject`).
  """

  use CromulentWeb, :channel

  alias CromulentWeb.{Presence, VoicePolicy, VoiceSignal}
  alias Phoenix.Socket.Broadcast

  @signals ["sdp_offer", "sdp_answer", "ice_candidate"]

  # ---- joining ----

  @impl true
  def join("voice:" <> channel_id = topic, _params, socket) do
    user_id = socket.assigns.user_id

    with {:ok, profile} <- VoicePolicy.authorize(user_id, channel_id),
         {:ok, payload} <- Cromulent.Turn.join(Presence, topic, user_id, options()) do
      :ok = socket.endpoint.subscribe(inbox(topic, user_id))
      send(self(), {:after_join, profile})
      socket = assign(socket, joined?: true, budget: VoiceSignal.budget(now()))
      {:ok, Map.put(payload, :user_id, user_id), socket}
    else
      {:error, reason} -> {:error, %{reason: describe(reason)}}
    end
  end

  defp options, do: Application.get_env(:cromulent, __MODULE__, [])

  defp describe(:not_found), do: "not found"
  defp describe(reason), do: to_string(reason)

  # ---- what the node says ----

  @impl true
  def handle_info({:after_join, profile}, socket) do
    # Whoever hears of the newcomer finds them in Presence.
    _tracked_or_already = Presence.track(socket, socket.assigns.user_id, meta(profile, socket))
    broadcast_from!(socket, "peer_joined", %{user_id: socket.assigns.user_id})
    push(socket, "presence_state", Presence.list(socket))
    {:noreply, socket}
  end

  def handle_info({:cromulent_turn, :ice_servers, payload}, socket) do
    push(socket, "ice_servers", payload)
    {:noreply, socket}
  end

  # The one who took the place has said peer_joined: a peer_left now would end their calls.
  def handle_info({:cromulent_turn, :taken_over, _topic}, socket) do
    push(socket, "taken_over", %{})
    {:stop, {:shutdown, :taken_over}, assign(socket, :joined?, false)}
  end

  def handle_info(%Broadcast{event: event, payload: payload}, socket) when event in @signals do
    push(socket, event, payload)
    {:noreply, socket}
  end

  def handle_info(_other, socket), do: {:noreply, socket}

  # A join that was refused ends here as well, with a socket that never joined.
  @impl true
  def terminate(_reason, socket) do
    if socket.assigns[:joined?] do
      broadcast_from!(socket, "peer_left", %{user_id: socket.assigns.user_id})
    end

    :ok
  end

  # ---- what the client says ----

  @impl true
  def handle_in(event, payload, socket) do
    case VoiceSignal.spend(socket.assigns.budget, now()) do
      {:ok, budget} -> handle_message(event, payload, assign(socket, :budget, budget))
      :error -> refuse("rate_limited", socket)
    end
  end

  defp handle_message(event, payload, socket) when event in @signals do
    with {:ok, to, message} <- VoiceSignal.parse(event, payload),
         true <- here?(socket.topic, to) do
      message = Map.merge(message, %{"from" => socket.assigns.user_id, "to" => to})
      socket.endpoint.broadcast!(inbox(socket.topic, to), event, message)
      {:reply, :ok, socket}
    else
      :error -> refuse("invalid", socket)
      false -> refuse("not_here", socket)
    end
  end

  defp handle_message("toggle_mute", %{"muted" => muted}, socket) when is_boolean(muted) do
    update_meta(socket, %{muted: muted})
    {:reply, :ok, socket}
  end

  defp handle_message("toggle_deafen", %{"deafened" => deafened}, socket)
       when is_boolean(deafened) do
    update_meta(socket, %{deafened: deafened})
    {:reply, :ok, socket}
  end

  defp handle_message("ptt_state", %{"active" => active}, socket) when is_boolean(active) do
    update_meta(socket, %{talking: active})
    broadcast_from!(socket, "ptt_state", %{user_id: socket.assigns.user_id, active: active})
    {:reply, :ok, socket}
  end

  defp handle_message(_event, _payload, socket), do: refuse("invalid", socket)

  defp refuse(reason, socket), do: {:reply, {:error, %{reason: reason}}, socket}

  # ---- helpers ----

  # The topic of one member's messages. It does not begin with "voice:": no client can join it.
  defp inbox(topic, user_id), do: "inbox:" <> topic <> ":" <> user_id

  # Presence of another node may not have heard of somebody who joined there a moment ago.
  defp here?(topic, user_id) do
    Presence.get_by_key(topic, user_id) != [] or user_id in Cromulent.Turn.members(topic)
  end

  defp meta(profile, socket) do
    Map.merge(profile, %{
      user_id: socket.assigns.user_id,
      online_at: System.system_time(:second),
      muted: false,
      deafened: false,
      talking: false
    })
  end

  defp update_meta(socket, changes) do
    Presence.update(socket, socket.assigns.user_id, &Map.merge(&1, changes))
  end

  defp now, do: System.monotonic_time(:millisecond)
end
