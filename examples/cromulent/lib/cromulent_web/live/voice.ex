defmodule CromulentWeb.Voice do
  @moduledoc """
  The voice of a LiveView: which channel its page is in, and who is in the others.

      def mount(_params, _session, socket) do
        {:ok, Voice.attach(socket, user_id, channel_ids)}
      end

      def handle_event("join_voice", %{"id" => id}, socket) do
        case Voice.join(socket, %{id: id, name: "Lounge"}) do
          {:ok, socket} -> {:noreply, socket}
          {:error, reason} -> {:noreply, put_flash(socket, :error, to_string(reason))}
        end
      end

  with `<CromulentWeb.VoiceBar.voice_bar voice={@voice} />` in the template. `attach/3` assigns `voice`,
  this struct, and `voice_members`, for each channel id the metas of its Presence; it answers the events of the
  bar and of the browser's hook.

  What the page is in is known to this LiveView and to its browser, and to nobody else. When the LiveView is
  mounted anew, as after a deployment, the browser, which may be talking all the while, says where it is.
  """

  import Phoenix.Component, only: [assign: 3, update: 3]

  alias CromulentWeb.{Endpoint, Presence, VoicePolicy}
  alias Phoenix.LiveView
  alias Phoenix.LiveView.Socket
  alias Phoenix.Socket.Broadcast

  @enforce_keys [:user_id]
  defstruct [
    :user_id,
    :channel,
    :state,
    :reason,
    mode: "voice",
    muted: false,
    deafened: false,
    adopted?: false,
    vad_threshold: 0.02,
    mic_device_id: nil,
    speaker_device_id: nil
  ]

  @typedoc """
  `channel` is nil outside of any. `mode` is `"voice"`, or `"ptt"`: push to talk. `reason` says why the state is
  `:disconnected`, where that is known. `adopted?`: the browser was there before this LiveView, and nobody has
  muted or deafened since.
  """
  @type t :: %__MODULE__{
          user_id: String.t(),
          channel: nil | channel(),
          state: nil | :connecting | :connected | :disconnected,
          reason: nil | String.t(),
          mode: String.t(),
          muted: boolean(),
          deafened: boolean(),
          adopted?: boolean(),
          vad_threshold: float(),
          mic_device_id: nil | String.t(),
          speaker_device_id: nil | String.t()
        }

  @type channel :: %{id: String.t(), name: String.t()}

  @states %{
    "connecting" => :connecting,
    "connected" => :connected,
    "disconnected" => :disconnected
  }

  @doc "Makes a LiveView one with voice; see above."
  @spec attach(Socket.t(), user_id :: String.t(), [channel()]) :: Socket.t()
  def attach(socket, user_id, channels) do
    if LiveView.connected?(socket) do
      Enum.each(channels, &Endpoint.subscribe(topic(&1.id)))
    end

    socket
    |> assign(:voice, %__MODULE__{user_id: user_id})
    |> LiveView.put_private(:voice_channels, Map.new(channels, &{&1.id, &1}))
    |> assign(:voice_members, Map.new(channels, &{&1.id, members(&1.id)}))
    |> LiveView.attach_hook(:voice_event, :handle_event, &handle_event/3)
    |> LiveView.attach_hook(:voice_info, :handle_info, &handle_info/2)
  end

  @doc """
  Lets the page join a channel, and leave the one that it is in before that.

  Whether the channel lets it in is said later, by the browser, as `voice.state`.
  """
  @spec join(Socket.t(), channel()) ::
          {:ok, Socket.t()} | {:error, :not_found | :unauthorized | :voice_disabled}
  def join(%{assigns: %{voice: voice}} = socket, %{id: id} = channel) do
    with {:ok, _profile} <- VoicePolicy.authorize(voice.user_id, id) do
      here? = voice.channel != nil and voice.channel.id == id

      if here? and voice.state != :disconnected,
        do: {:ok, socket},
        else: {:ok, move(socket, channel)}
    end
  end

  @doc "Lets the page leave its channel."
  @spec leave(Socket.t()) :: Socket.t()
  def leave(%{assigns: %{voice: %{channel: nil}}} = socket), do: socket

  def leave(socket) do
    socket
    |> LiveView.push_event("voice:leave", %{})
    |> change(channel: nil, state: nil, reason: nil)
  end

  @doc "A token for `CromulentWeb.UserSocket`, good for a day."
  @spec token(Phoenix.Token.context(), user_id :: String.t()) :: String.t()
  def token(context, user_id), do: Phoenix.Token.sign(context, "user socket", user_id)

  # The browser handles events in the order in which they were pushed: the old channel's place is given back
  # before the new one's is asked for.
  defp move(socket, channel) do
    socket = leave(socket)

    socket
    |> change(
      channel: Map.take(channel, [:id, :name]),
      state: :connecting,
      reason: nil,
      adopted?: false
    )
    |> LiveView.push_event("voice:join", payload(socket, channel))
  end

  # No ICE servers here: credentials are for who has a place in the channel, and come with it.
  defp payload(%{assigns: %{voice: voice}} = socket, channel) do
    %{
      channel_id: channel.id,
      user_token: token(socket.endpoint, voice.user_id),
      user_id: voice.user_id,
      ice_servers: nil,
      voice_mode: voice.mode,
      vad_threshold: voice.vad_threshold,
      mic_device_id: voice.mic_device_id,
      speaker_device_id: voice.speaker_device_id
    }
  end

  # ---- what the bar and the browser say ----

  defp handle_event("leave_voice", _params, socket), do: {:halt, leave(socket)}

  defp handle_event("rejoin_voice", _params, %{assigns: %{voice: %{channel: channel}}} = socket) do
    {:halt, if(channel, do: rejoin(socket, channel), else: socket)}
  end

  defp handle_event("toggle_mute", _params, socket) do
    muted = not socket.assigns.voice.muted

    {:halt,
     socket
     |> change(muted: muted, adopted?: false)
     |> LiveView.push_event("voice:set_mute", %{muted: muted})}
  end

  # Who hears nobody says nothing either.
  defp handle_event("toggle_deafen", _params, %{assigns: %{voice: voice}} = socket) do
    deafened = not voice.deafened
    payload = %{deafened: deafened, muted: deafened or voice.muted}

    {:halt,
     socket
     |> change(deafened: deafened, adopted?: false)
     |> LiveView.push_event("voice:set_deafen", payload)}
  end

  # The mode is a part of the join: who is in a channel joins it anew.
  defp handle_event("toggle_ptt", _params, %{assigns: %{voice: voice}} = socket) do
    socket = change(socket, mode: if(voice.mode == "ptt", do: "voice", else: "ptt"))
    {:halt, if(voice.channel, do: move(socket, voice.channel), else: socket)}
  end

  defp handle_event("voice_state_changed", %{"state" => state} = params, socket)
       when is_map_key(@states, state) do
    {:halt, state_changed(socket, params["channel_id"], @states[state], reason(params))}
  end

  defp handle_event("voice_state_changed", _params, socket), do: {:halt, socket}
  defp handle_event(_event, _params, socket), do: {:cont, socket}

  defp rejoin(socket, channel) do
    case join(socket, channel) do
      {:ok, socket} -> socket
      {:error, reason} -> change(socket, reason: to_string(reason))
    end
  end

  defp reason(%{"reason" => reason}) when is_binary(reason), do: String.slice(reason, 0, 64)
  defp reason(_params), do: nil

  # A LiveView that was mounted anew learns where its browser is.
  defp state_changed(%{assigns: %{voice: %{channel: nil}}} = socket, id, state, reason)
       when state != :disconnected do
    case socket.private.voice_channels do
      %{^id => channel} ->
        channel = Map.take(channel, [:id, :name])
        changes = [channel: channel, state: state, reason: reason, adopted?: true]
        socket |> change(changes) |> adopt(id)

      _unknown ->
        socket
    end
  end

  # What is said of the channel that the page has just left comes late.
  defp state_changed(%{assigns: %{voice: %{channel: channel}}} = socket, id, state, reason) do
    if channel != nil and id in [nil, channel.id],
      do: change(socket, state: state, reason: reason),
      else: socket
  end

  # ---- who is where ----

  defp handle_info(%Broadcast{topic: "voice:" <> id, event: "presence_diff"}, socket)
       when is_map_key(socket.assigns.voice_members, id) do
    {:halt, socket |> update(:voice_members, &Map.put(&1, id, members(id))) |> adopt(id)}
  end

  defp handle_info(%Broadcast{topic: "voice:" <> _id}, socket), do: {:halt, socket}
  defp handle_info(_message, socket), do: {:cont, socket}

  # Whether an adopted browser is muted, Presence says, as soon as the channel has it again.
  defp adopt(%{assigns: %{voice: %{adopted?: true, channel: %{id: id}} = voice}} = socket, id) do
    me = Enum.find(socket.assigns.voice_members[id], %{}, &(&1.user_id == voice.user_id))
    change(socket, Map.take(me, [:muted, :deafened]))
  end

  defp adopt(socket, _id), do: socket

  # One meta per user, in the order in which they came.
  defp members(id) do
    topic(id)
    |> Presence.list()
    |> Enum.map(fn {_user_id, %{metas: metas}} -> List.last(metas) end)
    |> Enum.sort_by(&{&1.online_at, &1.user_id})
  end

  defp topic(channel_id), do: "voice:" <> channel_id

  defp change(socket, changes), do: update(socket, :voice, &struct!(&1, changes))
end
