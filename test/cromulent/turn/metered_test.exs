defmodule Cromulent.Turn.MeteredTest do
  use ExUnit.Case, async: true

  test "is not there yet, and says so" do
    assert_raise RuntimeError, ~r/not yet: the provider metered/, fn ->
      Cromulent.Turn.Metered.get_ice_servers("alice")
    end
  end
end
