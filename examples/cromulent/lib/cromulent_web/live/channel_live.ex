defmodule CromulentWeb.ChannelLive do
  @moduledoc "The channels: a list of them, the one that is looked at, and the voice of the page."

  use CromulentWeb, :live_view

  import CromulentWeb.VoiceBar

  alias Cromulent.Channels
  alias CromulentWeb.Voice

  @impl true
  def mount(_params, _session, socket) do
    user = socket.assigns.current_user
    text = Channels.list(:text)
    voice = for channel <- Channels.list(:voice), do: with_open(channel, user)
    if connected?(socket), do: Enum.each(text, &Channels.subscribe/1)

    socket =
      socket
      |> assign(user: user, text_channels: text, voice_channels: voice)
      |> Voice.attach(user.id, voice)

    {:ok, socket}
  end

  defp with_open(channel, user), do: Map.put(channel, :open?, Channels.member?(channel, user))

  @impl true
  def handle_params(%{"id" => id}, _uri, socket) do
    case Channels.fetch(id) do
      {:ok, %{type: :text} = channel} -> {:noreply, show(socket, channel)}
      _none_or_voice -> {:noreply, push_patch(socket, to: ~p"/")}
    end
  end

  def handle_params(_params, _uri, socket) do
    {:noreply, show(socket, hd(socket.assigns.text_channels))}
  end

  defp show(socket, channel) do
    assign(socket,
      channel: channel,
      messages: Channels.messages(channel),
      page_title: "##{channel.name}"
    )
  end

  @impl true
  def handle_event("join_voice", %{"id" => id}, socket) do
    with {:ok, %{type: :voice} = channel} <- Channels.fetch(id),
         {:ok, socket} <- Voice.join(clear_flash(socket), channel) do
      {:noreply, socket}
    else
      {:error, :unauthorized} ->
        {:noreply, put_flash(socket, :error, "This channel is not yours.")}

      _not_found ->
        {:noreply, put_flash(socket, :error, "There is no such channel.")}
    end
  end

  def handle_event("say", %{"text" => text}, socket) when is_binary(text) do
    case Channels.say(socket.assigns.channel, socket.assigns.user, text) do
      {:error, :too_long} -> {:noreply, put_flash(socket, :error, "That is too long.")}
      _said_or_empty -> {:noreply, socket}
    end
  end

  @impl true
  def handle_info({:message, id, message}, socket) do
    if id == socket.assigns.channel.id,
      do: {:noreply, update(socket, :messages, &(&1 ++ [message]))},
      else: {:noreply, socket}
  end

  # ---- parts of the page ----

  attr :user, :map, required: true
  attr :me, :string, required: true

  defp member(assigns) do
    ~H"""
    <li class="member" data-user={@user.user_id} data-talking={to_string(@user.talking)}>
      <span class="face" aria-hidden="true">{String.first(@user.name)}</span>
      <span class="member__name">{@user.name}<small :if={@user.user_id == @me}> (you)</small></span>
      <span :if={@user.muted and not @user.deafened} class="member__mark">muted</span>
      <span :if={@user.deafened} class="member__mark">deafened</span>
      <span :if={@user.talking} class="visually-hidden">talking</span>
    </li>
    """
  end

  defp voice_label(%{open?: true, name: name}), do: "Join voice channel #{name}"
  defp voice_label(%{open?: false, name: name}), do: "Voice channel #{name}: members only"

  # A loudspeaker, or a lock.
  defp voice_mark(%{open?: true}), do: "M4 9v6h4l5 4V5L8 9zM17 9a4 4 0 0 1 0 6"
  defp voice_mark(%{open?: false}), do: "M6 11h12v9H6zM8 11V8a4 4 0 0 1 8 0v3"

  defp here?(%{channel: nil}, _channel), do: false
  defp here?(%{channel: %{id: id}}, channel), do: channel.id == id
end
