defmodule Cromulent.Turn.ProviderTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Provider

  test "finds providers by their names" do
    assert Provider.find("embedded") == {:ok, Cromulent.Turn.Embedded}
    assert Provider.find("EMBEDDED") == {:ok, Cromulent.Turn.Embedded}
    assert Provider.find(:coturn) == {:ok, Cromulent.Turn.Coturn}

    for name <- ["stun", "disabled", "none"],
        do: assert(Provider.find(name) == {:ok, Cromulent.Turn.Stun})

    assert Provider.find(Cromulent.Turn.Metered) == {:ok, Cromulent.Turn.Metered}

    for wrong <- ["", "coturm", :coturm, String, nil, 7, "Elixir.Cromulent.Turn.Metered"],
        do: assert(Provider.find(wrong) == :error)
  end

  test "every name is that of a module with the behaviour" do
    for name <- Provider.names() do
      {:ok, module} = Provider.find(name)
      assert Code.ensure_loaded?(module)
      assert function_exported?(module, :get_ice_servers, 1)
    end
  end

  test "a provider has one name; a module of the application is its own" do
    assert Provider.name(Cromulent.Turn.Embedded) == :embedded
    assert Provider.name(Cromulent.Turn.Stun) == :stun
    assert Provider.name(__MODULE__) == __MODULE__
  end
end
