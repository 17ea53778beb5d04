defmodule Cromulent.Turn.Admission.Feed do
  @moduledoc false
  # What a relay is still to be told of grants, many in one command. What a grant is, is looked up when it is told, not
  # when it is heard of: so it does not matter how often or in what order that was.
  #
  # A relay that was just started is told all there are, and then that these are all ({open, Ref}).

  alias Cromulent.Turn.Admission

  # A frame to the relay has at most 1 MiB, a user 508 bytes and a room 255.
  @per_frame 1_000
  # Commands that the relay has not answered. What comes meanwhile is collected.
  @unanswered_most 4

  # again: those of which commands told that did not get through; front and back: those that may have changed, the
  # latter the newest first; refused: what is to be tried again some time.
  defstruct [:relay, on?: false, again: [], all: [], opening?: false, front: [], back: []] ++
              [unanswered: 0, refused: MapSet.new()]

  @typedoc "Its name and arguments."
  @type command :: {:withdraw | :admit, [[Admission.pair(), ...]]} | {:open, []}
  @type t :: %__MODULE__{}

  @spec new(Admission.relay(), boolean()) :: t()
  def new(relay, on?), do: %__MODULE__{relay: relay, on?: on?}

  @doc "For a relay that knows nothing yet."
  @spec start(t()) :: t()
  def start(%{on?: false} = feed), do: feed

  def start(%{relay: relay}),
    do: %{new(relay, true) | all: Admission.pairs(relay), opening?: true}

  @doc "These may have changed."
  @spec changed(t(), [Admission.pair()]) :: t()
  def changed(%{on?: false} = feed, _pairs), do: feed
  def changed(feed, pairs), do: %{feed | back: Enum.reverse(pairs, feed.back)}

  @doc """
  What to tell next; `:wait` when there is nothing or the relay has enough to do; and grants that are to be looked at
  again at some time (of `Admission.now/0`), as they end then.
  """
  @spec next(t(), integer()) :: {[command()], [{Admission.pair(), integer()}], t()} | :wait
  def next(%{unanswered: unanswered}, _now) when unanswered >= @unanswered_most, do: :wait

  def next(%{again: [_ | _] = pairs} = feed, now),
    do: say(pairs, %{feed | again: []}, now)

  def next(%{all: [_ | _] = all} = feed, now) do
    {some, rest} = Enum.split(all, @per_frame)
    {commands, ends, feed} = say(some, %{feed | all: rest}, now)
    # It has nothing to be withdrawn from.
    {Keyword.take(commands, [:admit]), ends, feed}
  end

  def next(%{opening?: true} = feed, _now), do: {[{:open, []}], [], %{feed | opening?: false}}

  def next(%{front: [], back: []}, _now), do: :wait

  def next(%{front: []} = feed, now),
    do: next(%{feed | front: Enum.reverse(feed.back), back: []}, now)

  def next(feed, now) do
    {some, front} = Enum.split(feed.front, @per_frame)
    some |> Enum.uniq() |> say(%{feed | front: front}, now)
  end

  # Withdrawn first: that makes room.
  defp say(pairs, feed, now) do
    states =
      for {user, room} = pair <- pairs, do: {pair, Admission.state({feed.relay, user, room}, now)}

    {gone, there} = Enum.split_with(states, &match?({_pair, :none}, &1))
    ends = for {pair, {:until, at}} <- there, do: {pair, at}
    {command(:withdraw, gone) ++ command(:admit, there), ends, feed}
  end

  defp command(_name, []), do: []
  defp command(name, states), do: [{name, [Enum.map(states, &elem(&1, 0))]}]

  @doc "The relay has been sent a command. Who has got a withdrawn grant meanwhile may have told it before that."
  @spec sent(t(), command()) :: t()
  def sent(feed, command) do
    feed = %{feed | unanswered: feed.unanswered + 1}
    changed(feed, back_again(feed.relay, command))
  end

  @doc "Of grants that a command withdrew those that are in force again."
  @spec back_again(Admission.relay(), command()) :: [Admission.pair()]
  def back_again(relay, {:withdraw, [pairs]}) do
    now = Admission.now()

    for {user, room} <- pairs,
        Admission.state({relay, user, room}, now) != :none,
        do: {user, room}
  end

  def back_again(_relay, _command), do: []

  @doc "The relay could not be sent these commands."
  @spec unsent(t(), [command()]) :: t()
  def unsent(feed, commands) do
    pairs = for {_name, [pairs]} <- commands, pair <- pairs, do: pair
    %{feed | again: feed.again ++ pairs, opening?: feed.opening? or {:open, []} in commands}
  end

  @doc "It has answered one, with those that it refused."
  @spec answered(t(), [{String.t(), binary(), atom()}]) :: t()
  def answered(feed, refused \\ []),
    do: refused(%{feed | unanswered: max(feed.unanswered - 1, 0)}, refused)

  @doc "It has refused these."
  @spec refused(t(), [{String.t(), binary(), atom()}]) :: t()
  def refused(feed, refused) do
    pairs = for {user, room, _reason} <- refused, into: feed.refused, do: {user, room}
    %{feed | refused: pairs}
  end

  @doc "Tries those again that were refused."
  @spec retry(t()) :: t()
  def retry(%{refused: refused} = feed),
    do: changed(%{feed | refused: MapSet.new()}, MapSet.to_list(refused))
end
