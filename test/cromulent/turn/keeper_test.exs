defmodule Cromulent.Turn.KeeperTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Config, Keeper}

  test "keeps what it is given" do
    {:ok, config} = Config.new(relay_ip: "127.0.0.1", secret: "kept, but not shown")
    pid = start_supervised!({Keeper, {__MODULE__.One, config}})
    assert Keeper.get(pid) == %{config: config, drain: false, os_pid: nil}
    assert Keeper.put(__MODULE__.One, drain: true, os_pid: 42) == :ok
    assert Keeper.get(__MODULE__.One) == %{config: config, drain: true, os_pid: 42}
    refute inspect(:sys.get_status(pid), limit: :infinity) =~ "not shown"
  end
end
