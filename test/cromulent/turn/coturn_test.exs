defmodule Cromulent.Turn.CoturnTest do
  use ExUnit.Case, async: true

  test "is not there yet, and says so" do
    assert_raise RuntimeError, ~r/not yet: the provider coturn/, fn ->
      Cromulent.Turn.Coturn.get_ice_servers("alice")
    end
  end
end
