defmodule Cromulent.Turn.CloudflareTest do
  use ExUnit.Case, async: true

  test "is not there yet, and says so" do
    assert_raise RuntimeError, ~r/not yet: the provider cloudflare/, fn ->
      Cromulent.Turn.Cloudflare.get_ice_servers("alice")
    end
  end
end
