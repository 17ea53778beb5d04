defmodule Cromulent.UsersTest do
  use ExUnit.Case, async: true

  alias Cromulent.Users

  test "who logs in has an id that is a UUID, and is known by it" do
    assert {:ok, %{id: id, name: "Ada Lovelace"} = user} = Users.log_in("  Ada Lovelace\n")
    assert id =~ ~r/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/
    assert {:ok, user} == Users.fetch(id)
    assert {:ok, %{id: other}} = Users.log_in("Ada Lovelace")
    assert other != id
  end

  test "a name that is none is refused" do
    for name <- ["", " ", String.duplicate("x", 33), "a\tb", <<255>>, nil, 1, %{}] do
      assert {:error, :bad_name} == Users.log_in(name)
    end

    assert {:ok, _user} = Users.log_in(String.duplicate("ü", 32))
  end

  test "a session makes its user known again" do
    assert :error == Users.fetch("u-1")
    assert :ok == Users.put(%{id: "u-1", name: "Grace"})
    assert {:ok, %{id: "u-1", name: "Grace"}} == Users.fetch("u-1")
  end
end
