defmodule Cromulent.Turn.Join do
  @moduledoc """
  One place per user in a voice channel, however many tabs, sockets and nodes there are, and ICE
  servers for whoever holds it.

      case Cromulent.Turn.join(MyAppWeb.Presence, "voice:" <> id, user_id) do
        {:ok, %{ice_servers: ice_servers, expires_at: expires_at}} -> ...
        {:error, :already_in_channel} -> ...
      end

  The place is the calling process's, a Phoenix channel's as a rule, and free the moment that process
  ends, however it does. Credentials are made after the place is got: a join that is refused costs none.

  ## Options

  | option | default | meaning |
  |---|---|---|
  | `on_duplicate` | `:reject` | what a second join does: `:reject` is refused; `:takeover` takes the place from whoever has it; `{:max, n}` is refused when `n` hold one |
  | `grace` | 500 | ms that a holder has to end itself after a takeover |
  | `timeout` | 2000 | ms in which the other nodes have to answer |
  | `renew` | true | whether the holder is sent new credentials before they expire |

  All others go to the providers, as those of `Cromulent.Turn.ice_servers/2`. Joins of one topic should
  all say the same `on_duplicate`; where they do not, each keeps to its own. A wrong option, a topic that is
  not a string or empty, and a `presence` that is no module raise `ArgumentError`. A user id may be any
  term, and with `presence` whatever `to_string/1` takes.

  With `presence`, a join is also refused (or with `:takeover`, takes over) while Presence knows a living process
  of the user in the topic that holds no place: one of a release that did not join this way yet, say, while a deployment
  replaces it. That Presence is late does no harm: who holds a place is known without it, and the dead do not count.

  ## What the holder is sent

    * `{:cromulent_turn, :ice_servers, %{ice_servers: list, expires_at: unix_seconds}}`: new credentials. They come a
      tenth of the lifetime before the old ones expire (at least half a minute and at most six, but not before half
      of it is over), and when the first list had no relay because the provider was down, as soon as it answers. A
      provider that fails is asked again, after 1 s at first and 60 s at most; a list without a relay never replaces one with.
    * `{:cromulent_turn, :taken_over, topic}`: the place is another process's. After `grace` ms the
      holder is ended with `{:shutdown, :taken_over}`, and killed 5 s later if it still lives. A channel should stop by
      itself, so that it can tell its client why; its client is told that it closed either way, and does not join again.

  ## A channel

      defmodule MyAppWeb.VoiceChannel do
        use MyAppWeb, :channel

        alias Cromulent.Turn
        alias MyAppWeb.Presence

        @impl true
        def join("voice:" <> id = topic, _params, socket) do
          user_id = socket.assigns.user_id

          with :ok <- MyApp.Channels.authorize_voice(user_id, id),
               {:ok, payload} <- Turn.join(Presence, topic, user_id, on_duplicate: :takeover) do
            send(self(), :after_join)
            {:ok, Map.put(payload, :user_id, user_id), socket}
          else
            {:error, reason} -> {:error, %{reason: to_string(reason)}}
          end
        end

        @impl true
        def handle_info(:after_join, socket) do
          # Tracked first: who hears of the peer finds it in Presence.
          Presence.track(socket, socket.assigns.user_id, %{})
          push(socket, "presence_state", Presence.list(socket))
          broadcast_from!(socket, "peer_joined", %{user_id: socket.assigns.user_id})
          {:noreply, socket}
        end

        def handle_info({:cromulent_turn, :ice_servers, payload}, socket) do
          push(socket, "ice_servers", payload)
          {:noreply, socket}
        end

        def handle_info({:cromulent_turn, :taken_over, _topic}, socket) do
          push(socket, "taken_over", %{})
          {:stop, {:shutdown, :taken_over}, socket}
        end

        # Phoenix calls this for refused joins too, whose socket cannot broadcast; and who was
        # overtaken must not tell the others that the user has left.
        @impl true
        def terminate(_reason, socket) do
          if Turn.holds?(socket.topic, socket.assigns.user_id),
            do: broadcast_from!(socket, "peer_left", %{user_id: socket.assigns.user_id})

          :ok
        end
      end

  ## Several nodes

  While other nodes are connected (`Node.list/0`), a join takes a lock of its user in its topic on all of them
  (`:global.set_lock/3`), asks them who holds a place, and takes one of its own node. Of two joins at the
  same instant exactly one wins, and joins of different users do not wait for each other. That costs two round
  trips with two nodes and three with more; alone, a join sends nothing. Figures are in `bench/README.md`.

  In a netsplit both sides admit: each knows only its own. When it heals, the nodes compare their places and the older
  one stays (by `joined_at` of the nodes' clocks, then by the nodes' names); the other's holder is told
  and ended as in a takeover. A node that is connected but does not answer is left out after `timeout` as if the network had
  split, told by `[:cromulent, :turn, :place, :degraded]` and one line in the log, and counted in again when it answers.
  `docs/joins.md` has the details.
  """

  alias Cromulent.Turn.Places
  alias Cromulent.Turn.Places.{Cluster, Eviction, Presence, Server}
  alias Cromulent.Turn.{Admission, Renewer, Telemetry}

  require Places

  @defaults [on_duplicate: :reject, grace: 500, timeout: 2_000, renew: true]
  @slots_most 1_000

  @typedoc "What is asked of one join."
  @type request :: %{
          place: Places.place(),
          takeover?: boolean(),
          presence: [pid()],
          grace: non_neg_integer(),
          timeout: pos_integer(),
          renew: boolean(),
          ice: keyword()
        }

  @doc """
  Takes a place of this user in this topic for the calling process, and gives it the ICE servers.

  `{:error, :already_in_channel}` when there is none; also when another join took it over while
  this one waited for its credentials. `presence` is the application's `Phoenix.Presence` module, or nil.
  """
  @spec join(module() | nil, String.t(), term(), keyword()) ::
          {:ok, Cromulent.Turn.payload()} | {:error, :already_in_channel}
  def join(presence, topic, user_id, opts \\ []) do
    started = System.monotonic_time()
    request = request!(presence, topic, user_id, opts)

    with {:ok, place} <- take(request, started),
         {:ok, payload} <- hand_out(place, user_id, request) do
      if request.renew, do: Renewer.watch(place, payload, request.ice)
      {:ok, payload}
    end
  end

  @doc "Gives the places back that the calling process holds for this user in this topic."
  @spec leave(String.t(), term()) :: :ok | {:error, :not_in_channel}
  def leave(topic, user_id) do
    case own(topic, user_id) do
      [] -> {:error, :not_in_channel}
      places -> Enum.each(places, &give_back(&1, :left))
    end
  end

  @doc """
  The users who hold a place in a topic, each once, in no order, on every node that answers within
  a second and a half.
  """
  @spec members(String.t()) :: [term()]
  def members(topic) do
    found = Places.members(topic!(topic)) ++ Cluster.members(topic)
    found |> Enum.map(fn {user_id, _pid} -> user_id end) |> Enum.uniq()
  end

  @doc "Whether the calling process holds a place of this user in this topic. Asks no other node."
  @spec holds?(String.t(), term()) :: boolean()
  def holds?(topic, user_id), do: own(topic, user_id) != []

  # ---- the place ----

  defp take(%{place: place} = request, started) do
    case claim(request, Cluster.nodes()) do
      {:ok, taken, old} ->
        Server.watch(taken)
        evict(old, request)
        told([:place, :taken], place, started, %{})
        {:ok, taken}

      {:full, by} ->
        told([:place, :refused], place, started, %{by: by})
        {:error, :already_in_channel}
    end
  end

  # Alone, a place is the table's. A node that connects meanwhile either finds ours in the table or
  # is seen here afterwards: then that place has to be confirmed, or given back.
  defp claim(request, []) do
    with {:ok, taken, old} <- claim_here(request, []) do
      if Cluster.nodes() == [],
        do: {:ok, taken, old},
        else: confirm(%{request | place: taken}, old)
    end
  end

  defp claim(%{place: place, timeout: timeout} = request, _nodes),
    do: Cluster.claim(place, timeout, &claim_here(request, &1))

  defp confirm(%{place: place, timeout: timeout} = request, old) do
    with {:ok, taken, more} <- Cluster.claim(place, timeout, &keep_here(request, &1)),
         do: {:ok, taken, old ++ more}
  end

  defp claim_here(%{takeover?: true, place: place} = request, elsewhere) do
    strangers = strangers(request, elsewhere)
    taken_there = Enum.filter(elsewhere, &Cluster.take/1)
    {:ok, taken, old} = Places.take_over(place)
    {:ok, taken, old ++ taken_there ++ strangers}
  end

  defp claim_here(%{place: place} = request, elsewhere) do
    strangers = strangers(request, elsewhere)

    case Places.claim(place, length(elsewhere) + length(strangers)) do
      {:ok, taken} -> {:ok, taken, []}
      :full -> {:full, if(strangers == [], do: :place, else: :presence)}
    end
  end

  # The place is in the table already.
  defp keep_here(%{takeover?: true, place: place}, elsewhere),
    do: {:ok, place, Enum.filter(elsewhere, &Cluster.take/1)}

  defp keep_here(%{place: Places.place(key: {topic, id, _}, limit: limit) = place}, elsewhere) do
    if length(elsewhere) + length(Places.holders(topic, id)) <= limit do
      {:ok, place, []}
    else
      Places.remove(place)
      {:full, :place}
    end
  end

  # Processes that live and that Presence has for this user, but that hold no place anywhere.
  defp strangers(%{presence: []}, _elsewhere), do: []

  defp strangers(%{presence: pids, place: Places.place(key: {topic, id, _})}, elsewhere) do
    holders = for place <- elsewhere ++ Places.holders(topic, id), do: Places.place(place, :pid)
    Presence.living(pids -- holders)
  end

  defp evict(old, request), do: Enum.each(old, &evict_one(&1, request))

  # A process that Presence knew: it may know nothing of places, and crash on being told of one.
  defp evict_one(stranger, _request) when is_pid(stranger),
    do: Eviction.stop(stranger, Presence.transport(stranger), 0)

  defp evict_one(Places.place(pid: pid) = old, %{place: Places.place(pid: taker), grace: grace}) do
    if node(pid) == node(), do: Server.forget(old)
    if pid != taker, do: Eviction.start(old, grace, :takeover)
  end

  # ---- what its holder gets ----

  defp hand_out(place, user_id, request) do
    payload = Cromulent.Turn.payload(user_id, request.ice)
    # Whoever waits for a provider can be overtaken, and has been told so.
    if Places.held?(place), do: {:ok, payload}, else: {:error, :already_in_channel}
  catch
    kind, reason ->
      give_back(place, :withdrawn)
      :erlang.raise(kind, reason, __STACKTRACE__)
  end

  defp give_back(place, reason) do
    if Places.remove(place), do: Places.freed(place, reason)
    :ok
  end

  defp own(topic, user_id) do
    for place <- Places.holders(topic!(topic), Places.id(user_id)),
        Places.place(place, :pid) == self(),
        do: place
  end

  defp told(event, Places.place(key: {topic, _, _}, user_id: user_id), started, more) do
    us = System.convert_time_unit(System.monotonic_time() - started, :native, :microsecond)

    Telemetry.execute(
      event,
      %{duration_us: us},
      Map.merge(more, %{topic: topic, user_id: user_id})
    )
  end

  # ---- what was asked for ----

  defp request!(presence, topic, user_id, opts) do
    Keyword.keyword?(opts) || refuse!("options", opts, "must be a keyword list")
    {own, ice} = Keyword.split(opts, Keyword.keys(@defaults))
    Enum.each(Keyword.keys(ice), &check_name!/1)
    own = Keyword.merge(@defaults, own)
    {takeover?, limit} = on_duplicate!(own[:on_duplicate])
    grant = Admission.grant(topic!(topic), user_id, ice)

    %{
      place: Places.new(topic, user_id, limit, Presence.transport(self()), grant),
      takeover?: takeover?,
      presence: presence |> Presence.check!() |> Presence.processes(topic, user_id),
      grace: ms!(:grace, own[:grace], 0),
      timeout: ms!(:timeout, own[:timeout], 1),
      renew: boolean!(:renew, own[:renew]),
      ice: ice
    }
  end

  defp topic!(topic) when is_binary(topic) and topic != "", do: topic
  defp topic!(topic), do: refuse!("topic", topic, "must be a string that is not empty")

  defp on_duplicate!(:reject), do: {false, 1}
  defp on_duplicate!(:takeover), do: {true, 1}
  defp on_duplicate!({:max, n}) when n in 1..@slots_most, do: {false, n}

  defp on_duplicate!(other) do
    refuse!(
      "option on_duplicate",
      other,
      "must be :reject, :takeover or {:max, 1..#{@slots_most}}"
    )
  end

  defp ms!(_name, ms, least) when is_integer(ms) and ms >= least and ms <= 60_000, do: ms

  defp ms!(name, other, least),
    do: refuse!("option #{name}", other, "must be milliseconds, #{least} to 60000")

  defp boolean!(_name, value) when is_boolean(value), do: value
  defp boolean!(name, other), do: refuse!("option #{name}", other, "must be true or false")

  # The other options are a provider's, of which there may be more than this library knows; but a slip of
  # the pen must not lose somebody his takeover.
  defp check_name!(name) do
    for {known, _} <- @defaults,
        String.jaro_distance(to_string(name), to_string(known)) > 0.85 do
      raise ArgumentError, "option #{name}: there is no such option; did you mean #{known}?"
    end
  end

  @spec refuse!(String.t(), term(), String.t()) :: no_return()
  defp refuse!(what, value, expected) do
    raise ArgumentError, "#{what}: #{inspect(value, limit: 5, printable_limit: 100)}: #{expected}"
  end
end
