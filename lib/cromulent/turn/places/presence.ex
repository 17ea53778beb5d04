defmodule Cromulent.Turn.Places.Presence do
  @moduledoc false
  # What the application's Phoenix.Presence knows of a user: processes that joined by other means, such
  # as the previous release's while a deployment replaces it node by node. Presence hears late, of
  # who came and of who went; so whoever holds a place is not looked for here, and the dead do not count.

  alias Cromulent.Turn.Telemetry

  @compile {:no_warn_undefined, Phoenix.Tracker}

  # ms that another node has to say whether a process lives there.
  @alive_within 1_000

  @doc "Raises when this cannot be an application's Presence."
  @spec check!(term()) :: module() | nil
  def check!(nil), do: nil

  def check!(module) do
    if is_atom(module) and Code.ensure_loaded?(module) and Code.ensure_loaded?(Phoenix.Tracker),
      do: module,
      else:
        raise(
          ArgumentError,
          "presence: #{inspect(module)}: must be the application's Phoenix.Presence module, or nil"
        )
  end

  @doc "The processes that Presence has for the user, but for the caller."
  @spec processes(module() | nil, String.t(), term()) :: [pid()]
  def processes(nil, _topic, _user_id), do: []

  def processes(presence, topic, user_id) do
    found = Phoenix.Tracker.get_by_key(presence, topic, to_string(user_id))
    for {pid, _meta} <- found, pid != self(), uniq: true, do: pid
  rescue
    # No such table: the tracker does not run, or is being restarted.
    error in ArgumentError -> unknown(presence, error)
  catch
    :exit, reason -> unknown(presence, reason)
  end

  @doc "Those of the processes that live. A node that does not answer counts as gone."
  @spec living([pid()]) :: [pid()]
  def living(pids), do: Enum.filter(pids, &alive?/1)

  @doc "The transport of a process that is a Phoenix channel, on whatever node; else nil."
  @spec transport(pid()) :: pid() | nil
  def transport(pid) when pid == self(), do: transport_in(&Process.get/1)

  def transport(pid) do
    case on_home(pid, :erlang, :process_info, [pid, :dictionary]) do
      {:ok, {:dictionary, dictionary}} -> transport_in(&value(dictionary, &1))
      _ -> nil
    end
  end

  # Phoenix.Channel.Server starts a channel so, called by its transport.
  defp transport_in(get) do
    with {module, :join, 3} when is_atom(module) <- get.(:"$initial_call"),
         [transport | _] when is_pid(transport) <- get.(:"$callers") do
      transport
    else
      _ -> nil
    end
  end

  defp value(dictionary, key) do
    with {^key, value} <- List.keyfind(dictionary, key, 0), do: value
  end

  defp alive?(pid), do: on_home(pid, Process, :alive?, [pid]) == {:ok, true}

  defp on_home(pid, module, function, args) when node(pid) == node(),
    do: {:ok, apply(module, function, args)}

  defp on_home(pid, module, function, args) do
    {:ok, :erpc.call(node(pid), module, function, args, @alive_within)}
  catch
    _, _ -> :error
  end

  defp unknown(presence, reason) do
    Telemetry.once(:warning, {:presence, presence}, fn ->
      "TURN: #{inspect(presence)} did not answer, joins go by places alone: " <>
        inspect(reason, limit: 10, printable_limit: 200)
    end)

    []
  end
end
