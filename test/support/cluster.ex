defmodule Cromulent.Turn.Cluster do
  @moduledoc false
  # Real nodes on the loopback address, each with this library started, and processes on them that join.
  # They are controlled over their standard input, so that this node need not be a distributed one,
  # and end with it.

  alias Cromulent.Turn.Cluster.Holder

  @doc "Starts nodes, at once, as start_node/1 does."
  def start_nodes(count, opts \\ []) do
    1..count
    |> Enum.map(fn _ -> Task.async(fn -> start_node(opts) end) end)
    |> Task.await_many(120_000)
  end

  @doc "Starts a node; `%{peer: pid, node: name, os_pid: string}`."
  def start_node(opts \\ []) do
    name = :"n#{free_port()}"

    {:ok, peer, node} =
      :peer.start(%{
        name: name,
        host: ~c"127.0.0.1",
        longnames: true,
        connection: :standard_io,
        # The first of the path: with the sanitizers that is one which preloads their runtime.
        exec: "erl" |> System.find_executable() |> String.to_charlist(),
        wait_boot: 60_000,
        args: args(opts)
      })

    {:ok, _} = :peer.call(peer, :application, :ensure_all_started, [:logger], 30_000)
    call(peer, Logger, :configure, [[level: opts[:log] || :none]])

    for {key, value} <- Keyword.put_new(opts[:env] || [], :provider, :stun),
        do: call(peer, Application, :put_env, [:cromulent_turn, key, value])

    if Keyword.get(opts, :start, true),
      do: {:ok, _} = call(peer, Application, :ensure_all_started, [:cromulent_turn])

    %{peer: peer, node: node, os_pid: to_string(call(peer, :os, :getpid, []))}
  end

  @doc "Calls a function there."
  def call(node, module, function, args)
  def call(%{peer: peer}, module, function, args), do: call(peer, module, function, args)
  def call(peer, module, function, args), do: :peer.call(peer, module, function, args, 60_000)

  @doc "Connects each with each."
  def connect(nodes) do
    for a <- nodes, b <- nodes, a.node < b.node do
      # A cookie that was taken away for a netsplit is given back.
      for {x, y} <- [{a, b}, {b, a}], do: call(x, :erlang, :set_cookie, [y.node, cookie()])
      true = call(a, :net_kernel, :connect_node, [b.node])
    end

    :ok
  end

  @doc "Cuts the network between two groups of nodes."
  def split(left, right) do
    for a <- left, b <- right, {x, y} <- [{a, b}, {b, a}] do
      call(x, :erlang, :set_cookie, [y.node, :"no more"])
    end

    for a <- left, b <- right, do: call(a, :erlang, :disconnect_node, [b.node])
    :ok
  end

  @doc "The names that a node is connected to."
  def connected(node), do: Enum.sort(call(node, :erlang, :nodes, []))

  @doc "Ends a node without a word, as a crash of its machine does."
  def kill(%{os_pid: os_pid}) do
    {_, 0} = System.cmd("kill", ["-KILL", os_pid])
    :ok
  end

  def stop(%{peer: peer}) do
    if Process.alive?(peer), do: :peer.stop(peer)
    :ok
  catch
    :exit, _ -> :ok
  end

  @doc "A process there that joins and tells what it got: `{pid, result}`."
  def join(node, topic, user, opts \\ []),
    do: call(node, Holder, :join, [topic, user, opts])

  @doc """
  Users 1 to `rounds` join on all the nodes, each at the same instant on each of them: a list of rounds, each the
  list of what the nodes' processes got.
  """
  def race(nodes, topic, rounds, opts \\ []) do
    at = System.os_time(:millisecond) + 200

    nodes
    |> Enum.map(&Task.async(fn -> call(&1, Holder, :race, [at, topic, rounds, opts]) end))
    |> Task.await_many(120_000)
    |> Enum.zip_with(& &1)
  end

  @doc "What a holder was told by the library."
  def told(node, pid), do: call(node, Holder, :told, [pid])

  defp cookie, do: :cromulent_turn_test

  defp args(opts) do
    ebins = for dir <- :code.get_path(), not List.starts_with?(dir, :code.lib_dir()), do: dir
    ebins = [opts[:ebin] || ebin(Cromulent.Turn.PeerEpmd) | ebins] ++ [ebin(Enum)]

    ~w(-start_epmd false -epmd_module Elixir.Cromulent.Turn.PeerEpmd -connect_all true)c ++
      [~c"-setcookie", Atom.to_charlist(cookie()), ~c"-kernel", ~c"inet_dist_use_interface"] ++
      [~c"{127,0,0,1}", ~c"-kernel", ~c"logger_level", ~c"none"] ++
      Enum.flat_map(Enum.uniq(ebins), &[~c"-pa", &1]) ++ (opts[:args] || [])
  end

  defp ebin(module), do: module |> :code.which() |> :filename.dirname()

  defp free_port do
    {:ok, socket} = :gen_tcp.listen(0, ip: {127, 0, 0, 1})
    {:ok, port} = :inet.port(socket)
    :gen_tcp.close(socket)
    port
  end
end

defmodule Cromulent.Turn.Cluster.Holder do
  @moduledoc false
  # What runs on the nodes: processes that join and then do what they are told.

  alias Cromulent.Turn.Join

  @doc "Starts a process that joins: `{pid, result}`. It lives on, whatever the result."
  def join(topic, user, opts), do: join_at(0, topic, user, opts)

  @doc "Joins of users 1 to `rounds`, 20 ms apart from `at` on (ms of the system clock)."
  def race(at, topic, rounds, opts) do
    for user <- 1..rounds do
      {_pid, result} = join_at(at + 20 * user, topic, user, opts)
      result
    end
  end

  defp join_at(at, topic, user, opts) do
    {caller, tag} = {self(), make_ref()}

    {pid, monitor} =
      spawn_monitor(fn ->
        wait(at)
        send(caller, {tag, Join.join(nil, topic, user, opts)})
        loop([])
      end)

    # Without grace a takeover may end it before it has said what it got.
    receive do
      {^tag, result} ->
        Process.demonitor(monitor, [:flush])
        {pid, result}

      {:DOWN, ^monitor, :process, _, reason} ->
        {pid, {:ended, reason}}
    after
      30_000 -> {pid, :no_answer}
    end
  end

  @doc "Has a holder do something, in its own process."
  def run(pid, module, function, args) do
    tag = make_ref()
    send(pid, {:run, self(), tag, {module, function, args}})
    receive do: ({^tag, result} -> result), after: (10_000 -> :no_answer)
  end

  @doc "The messages that a holder got from the library, oldest first."
  def told(pid) do
    tag = make_ref()
    send(pid, {:told, self(), tag})
    receive do: ({^tag, messages} -> messages), after: (10_000 -> :no_answer)
  end

  @doc "What a holder was told until it ended, and why it did."
  def watch(pid) do
    monitor = Process.monitor(pid)
    send(pid, {:tell, self(), monitor})
    watch(monitor, [])
  end

  defp watch(monitor, told) do
    receive do
      {^monitor, message} -> watch(monitor, told ++ [message])
      {:DOWN, ^monitor, _, _, reason} -> {told, reason}
    end
  end

  # The last milliseconds awake: nodes that wake up together are not there together.
  defp wait(at) do
    ms = at - System.os_time(:millisecond)

    cond do
      ms > 2 -> Process.sleep(ms - 2) && wait(at)
      ms > 0 -> wait(at)
      true -> :ok
    end
  end

  defp loop(messages) do
    receive do
      {:run, from, tag, {module, function, args}} ->
        send(from, {tag, apply(module, function, args)})
        loop(messages)

      {:told, from, tag} ->
        send(from, {tag, Enum.reverse(messages)})
        loop(messages)

      {:tell, pid, tag} ->
        for message <- Enum.reverse(messages), do: send(pid, {tag, message})
        Process.put(:tell, {pid, tag})
        loop(messages)

      {:cromulent_turn, _, _} = message ->
        with {pid, tag} <- Process.get(:tell), do: send(pid, {tag, message})
        loop([message | messages])

      :stop ->
        :ok
    end
  end
end
