defmodule CromulentWeb.VoiceClient do
  @moduledoc """
  A user's browser, as far as the server sees it: a process with a socket, that joins one voice channel and
  hands all that comes to the test, as `{client, event, payload}`. When it ends, so does its socket.
  """

  import Phoenix.ChannelTest

  alias Cromulent.Users
  alias CromulentWeb.{UserSocket, Voice}

  @endpoint CromulentWeb.Endpoint
  @timeout 5_000

  @doc "A user and their socket."
  def log_in(name) do
    {:ok, user} = Users.log_in(name)
    user
  end

  @doc "Joins as a process of its own: `{:ok, client, reply}`, or `{:error, reply}`."
  def join(user, channel_id) do
    test = self()
    token = Voice.token(@endpoint, user.id)
    {:ok, socket} = connect(UserSocket, %{"token" => token})
    pid = spawn(fn -> run(test, %{socket | transport_pid: self()}, channel_id) end)
    ExUnit.Callbacks.on_exit(fn -> Process.exit(pid, :kill) end)

    receive do
      {^pid, :joined, {:ok, reply}} -> {:ok, pid, reply}
      {^pid, :joined, {:error, reply}} -> {:error, reply}
    after
      @timeout -> raise "no answer to the join"
    end
  end

  @doc "Sends a message, and gives the reply: `:ok` or `{:error, payload}`."
  def push(client, event, payload) do
    ref = make_ref()
    send(client, {:push, ref, event, payload})

    receive do
      {^client, ^ref, reply} -> reply
    after
      @timeout -> raise "no reply to #{event}"
    end
  end

  @doc "The channel's process."
  def channel(client) do
    send(client, {:channel, self()})

    receive do
      {^client, :channel, pid} -> pid
    after
      @timeout -> raise "no answer"
    end
  end

  @doc "Ends the socket without a word, as a tab that is closed does."
  def cut(client) do
    monitor = Process.monitor(channel(client))
    Process.exit(client, :shutdown)

    receive do
      {:DOWN, ^monitor, _, _, _} -> :ok
    after
      @timeout -> raise "the channel is still there"
    end
  end

  @doc "Leaves the channel in good order."
  def leave(client) do
    send(client, :leave)
    :ok
  end

  # `subscribe_and_join` would have what is broadcast come here twice.
  defp run(test, socket, channel_id) do
    case Phoenix.ChannelTest.join(socket, "voice:" <> channel_id) do
      {:ok, reply, socket} ->
        # The helper links what Phoenix itself does not.
        Process.unlink(socket.channel_pid)
        send(test, {self(), :joined, {:ok, reply}})
        serve(test, socket, %{})

      {:error, reply} ->
        send(test, {self(), :joined, {:error, reply}})
    end
  end

  defp serve(test, socket, refs) do
    receive do
      {:push, ref, event, payload} ->
        wire = Phoenix.ChannelTest.push(socket, event, payload)
        serve(test, socket, Map.put(refs, wire, ref))

      {:channel, asker} ->
        send(asker, {self(), :channel, socket.channel_pid})
        serve(test, socket, refs)

      :leave ->
        Phoenix.ChannelTest.leave(socket)
        serve(test, socket, refs)

      %Phoenix.Socket.Message{event: event, payload: payload} ->
        send(test, {self(), event, payload})
        serve(test, socket, refs)

      %Phoenix.Socket.Reply{ref: wire, status: status, payload: payload} ->
        reply = if status == :ok, do: :ok, else: {status, payload}
        send(test, {self(), refs[wire], reply})
        serve(test, socket, refs)

      _other ->
        serve(test, socket, refs)
    end
  end
end
