defmodule Cromulent.Channels do
  @moduledoc """
  The channels, text and voice, and the last messages of each text channel: all in memory, gone with the
  node. An application has tables of its own instead.

  A channel without `members` is everybody's; one with them is theirs alone, by name.
  """

  use Agent

  alias Cromulent.Users

  @type t :: %{
          id: String.t(),
          name: String.t(),
          type: :text | :voice,
          members: :everybody | [String.t()]
        }

  @type message :: %{id: pos_integer(), from: String.t(), text: String.t()}

  @kept_messages 50
  @longest_message 2_000

  @channels [
    %{id: "7f3a1c02-55d0-4d8e-9a53-0c7f4be1a001", name: "general", type: :text},
    %{id: "7f3a1c02-55d0-4d8e-9a53-0c7f4be1a002", name: "random", type: :text},
    %{id: "7f3a1c02-55d0-4d8e-9a53-0c7f4be1b001", name: "Lounge", type: :voice},
    %{id: "7f3a1c02-55d0-4d8e-9a53-0c7f4be1b002", name: "Workshop", type: :voice},
    %{
      id: "7f3a1c02-55d0-4d8e-9a53-0c7f4be1b003",
      name: "Back room",
      type: :voice,
      members: ["Ada", "Grace"]
    }
  ]

  @spec start_link(keyword()) :: Agent.on_start()
  def start_link(_opts), do: Agent.start_link(fn -> %{} end, name: __MODULE__)

  @doc "All channels, in the order in which they are shown."
  @spec list() :: [t()]
  def list, do: Enum.map(@channels, &Map.put_new(&1, :members, :everybody))

  @spec list(:text | :voice) :: [t()]
  def list(type), do: Enum.filter(list(), &(&1.type == type))

  @doc "The channel of an id; anything may be given for one."
  @spec fetch(id :: term()) :: {:ok, t()} | :error
  def fetch(id) do
    case Enum.find(list(), &(&1.id == id)) do
      nil -> :error
      channel -> {:ok, channel}
    end
  end

  @spec member?(t(), Users.t()) :: boolean()
  def member?(%{members: :everybody}, _user), do: true
  def member?(%{members: names}, %{name: name}), do: name in names

  @doc "The messages of a text channel, oldest first."
  @spec messages(t()) :: [message()]
  def messages(%{id: id}) do
    Agent.get(__MODULE__, &Map.get(&1, id, [])) |> Enum.reverse()
  end

  @doc "Says something in a text channel; whoever subscribed to it gets `{:message, channel_id, message}`."
  @spec say(t(), Users.t(), text :: String.t()) :: :ok | {:error, :empty | :too_long}
  def say(%{type: :text, id: id}, user, text) do
    with {:ok, text} <- check_text(text) do
      message = %{id: System.unique_integer([:positive, :monotonic]), from: user.name, text: text}
      keep = &Enum.take([message | &1], @kept_messages)
      Agent.update(__MODULE__, &Map.update(&1, id, [message], keep))
      Phoenix.PubSub.broadcast(Cromulent.PubSub, topic(id), {:message, id, message})
    end
  end

  @spec subscribe(t()) :: :ok
  def subscribe(%{id: id}), do: Phoenix.PubSub.subscribe(Cromulent.PubSub, topic(id))

  defp topic(id), do: "text:" <> id

  defp check_text(text) do
    text = String.trim(text)

    cond do
      text == "" -> {:error, :empty}
      String.length(text) > @longest_message -> {:error, :too_long}
      true -> {:ok, text}
    end
  end
end
