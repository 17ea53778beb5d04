defmodule CromulentWeb.VoiceBar do
  @moduledoc """
  The bar of a page that is in a voice channel: yellow "Connecting...", green with the channel's name,
  or red "Disconnected", with the buttons to mute, to deafen, to push to talk and to leave.

  It carries the browser's hook `Voice`, and so is there, though hidden, outside of any channel.
  """

  use Phoenix.Component

  attr :voice, CromulentWeb.Voice, required: true
  attr :id, :string, default: "voice-bar"

  def voice_bar(assigns) do
    ~H"""
    <section
      id={@id}
      class="voice-bar"
      phx-hook="Voice"
      data-state={@voice.state}
      aria-label="Voice"
      hidden={@voice.channel == nil}
    >
      <div :if={@voice.channel} class="voice-bar__status" role="status">
        <span class="voice-bar__dot" aria-hidden="true"></span>
        <span class="voice-bar__texts">
          <strong class="voice-bar__label" data-offline="Disconnected">{label(@voice)}</strong>
          <small class="voice-bar__detail" data-offline="The server is out of reach.">
            {detail(@voice)}
          </small>
        </span>
      </div>
      <div :if={@voice.channel} class="voice-bar__buttons">
        <button
          type="button"
          phx-click="toggle_mute"
          aria-pressed={to_string(@voice.muted)}
          aria-label="Mute"
          title="Mute"
        >
          <.icon name={if @voice.muted or @voice.deafened, do: :mic_off, else: :mic} />
        </button>
        <button
          type="button"
          phx-click="toggle_deafen"
          aria-pressed={to_string(@voice.deafened)}
          aria-label="Deafen"
          title="Deafen"
        >
          <.icon name={if @voice.deafened, do: :ear_off, else: :ear} />
        </button>
        <button
          type="button"
          phx-click="toggle_ptt"
          aria-pressed={to_string(@voice.mode == "ptt")}
          aria-label="Push to talk"
          title="Push to talk"
        >
          <.icon name={:ptt} />
        </button>
        <button
          :if={@voice.state == :disconnected}
          type="button"
          class="voice-bar__rejoin"
          phx-click="rejoin_voice"
          aria-label="Join again"
          title="Join again"
        >
          <.icon name={:again} />
        </button>
        <button
          type="button"
          class="voice-bar__leave"
          phx-click="leave_voice"
          aria-label="Leave"
          title="Leave"
        >
          <.icon name={:leave} />
        </button>
      </div>
      <button
        :if={@voice.channel && @voice.mode == "ptt"}
        type="button"
        class="voice-bar__talk"
        data-voice-talk
        disabled={@voice.state != :connected or @voice.muted or @voice.deafened}
      >
        Hold to talk <kbd>Space</kbd>
      </button>
    </section>
    """
  end

  defp label(%{state: :connecting}), do: "Connecting..."
  defp label(%{state: :connected, channel: channel}), do: channel.name
  defp label(%{state: :disconnected}), do: "Disconnected"

  defp detail(%{state: :connected}), do: "Voice connected"
  defp detail(%{state: :connecting, channel: channel}), do: channel.name
  defp detail(%{reason: reason, channel: channel}), do: explain(reason) || channel.name

  # What the server refuses a join with, and the browser's module `VoiceError` says.
  defp explain("already_in_channel"), do: "You are in this channel already, elsewhere."
  defp explain("taken_over"), do: "Another tab or device of yours took over."
  defp explain("unauthorized"), do: "You may not join this channel."
  defp explain("not found"), do: "There is no such channel."
  defp explain("voice_disabled"), do: "Voice is switched off."
  defp explain("connection_lost"), do: "The server is out of reach."
  defp explain("timeout"), do: "The server did not answer."
  defp explain("peer_failed"), do: "There is no way to the others."
  defp explain("microphone_denied"), do: "The microphone is not allowed."
  defp explain("microphone_not_found"), do: "There is no microphone."
  defp explain("microphone_failed"), do: "The microphone does not work."
  defp explain(_other), do: nil

  # ---- icons: strokes in a square of 24 ----

  attr :name, :atom, required: true

  defp icon(assigns) do
    ~H"""
    <svg
      viewBox="0 0 24 24"
      width="20"
      height="20"
      fill="none"
      stroke="currentColor"
      stroke-width="2"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={path(@name)} />
    </svg>
    """
  end

  defp path(:mic),
    do: "M12 3a3 3 0 0 1 3 3v5a3 3 0 0 1-6 0V6a3 3 0 0 1 3-3zM6 11a6 6 0 0 0 12 0M12 17v4"

  defp path(:mic_off), do: path(:mic) <> "M4 4l16 16"

  defp path(:ear),
    do: "M4 15v-3a8 8 0 0 1 16 0v3M4 14h3v6H5a1 1 0 0 1-1-1zM20 14h-3v6h2a1 1 0 0 0 1-1z"

  defp path(:ear_off), do: path(:ear) <> "M4 4l16 16"
  defp path(:ptt), do: "M8 9h9v12H8zM10 9V3M11 13h3M11 17h3"
  defp path(:again), do: "M4 12a8 8 0 1 1 2.5 5.8M4 19v-5h5"

  defp path(:leave),
    do: "M4 15c-1-1-1-3 0-4 4-4 12-4 16 0 1 1 1 3 0 4l-2 1-3-2v-2c-2-.7-4-.7-6 0v2l-3 2z"
end
