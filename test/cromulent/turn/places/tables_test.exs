defmodule Cromulent.Turn.Places.TablesTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Places, Renewer}
  alias Cromulent.Turn.Places.{Cluster, Tables}

  test "owns the tables, and any process writes to them" do
    owner = Process.whereis(Tables)

    for {table, type} <- [{Places, :ordered_set}, {Renewer, :set}, {Cluster, :set}] do
      assert :ets.info(table, :owner) == owner
      assert :ets.info(table, :protection) == :public
      assert :ets.info(table, :type) == type
    end
  end
end
