defmodule Cromulent.Turn.Places.Tables do
  @moduledoc false
  # Owns the tables of places, grants, renewals and silent nodes, and does nothing else: they outlive every
  # process that works on them.

  use GenServer

  alias Cromulent.Turn.{Admission, Places, Renewer}
  alias Cromulent.Turn.Places.{Cluster, Tables}

  @spec start_link([]) :: GenServer.on_start()
  def start_link([]), do: GenServer.start_link(__MODULE__, [], name: Tables)

  @impl true
  def init([]) do
    shared = [:named_table, :public, read_concurrency: true]
    # Field 1 of a record is its name.
    :ets.new(Places, [:ordered_set, keypos: 2, write_concurrency: true] ++ shared)
    :ets.new(Renewer, [:set, write_concurrency: true] ++ shared)
    :ets.new(Cluster, [:set] ++ shared)
    Admission.tables()
    {:ok, nil}
  end
end
