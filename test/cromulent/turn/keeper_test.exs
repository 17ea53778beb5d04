defmodule Cromulent.Turn.KeeperTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Config, Keeper}

  test "keeps what it is given" do
    {:ok, config} = Config.new(relay_ip: "127.0.0.1", secret: "kept, but not shown")
    pid = start_supervised!({Keeper, {__MODULE__.One, config}})
    assert %{config: ^config, drain: false, os_pid: nil, announced: table} = Keeper.get(pid)
    assert :ets.info(table, :owner) == pid
    assert Keeper.put(__MODULE__.One, drain: true, os_pid: 42) == :ok
    assert %{config: ^config, drain: true, os_pid: 42, announced: ^table} = Keeper.get(pid)
    refute inspect(:sys.get_status(pid), limit: :infinity) =~ "not shown"
  end
end
