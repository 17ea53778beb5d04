defmodule Cromulent.Turn.Admission.AppTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.{Admission, Config, Credentials}
  alias Cromulent.Turn.Admission.App

  @secret "a secret of the test of admission"
  @old "the secret that was before that one"

  defp config(opts) do
    {:ok, config} =
      Config.new(
        Keyword.merge([relay_ip: "127.0.0.1", secret: @secret, admission: :presence], opts)
      )

    config
  end

  test "is held until it is taken back, and gives what the relay is to be told" do
    {relay, config} = {:"#{__MODULE__}.One", config([])}
    assert {:ok, holder, [{"7", "room"}]} = App.admit(relay, config, self(), 7, "room")
    assert {:ok, ^holder, [{"7", "room"}]} = App.admit(relay, config, self(), 7, "room")
    assert Admission.pairs(relay) == [{"7", "room"}]
    place = {:app, self(), "another", "room"}
    Admission.hold(place, nil, {relay, "7", "room"})
    # Somebody else holds it, too.
    assert App.withdraw(self(), 7, "room") == []
    Admission.release(place)
    {:ok, _, _} = App.admit(relay, config, self(), 7, "room")
    assert App.withdraw(self(), 7, "room") == [{"7", "room"}]
    assert App.withdraw(self(), 7, "room") == []
    assert App.admit(relay, config, self(), {}, "room") == {:error, :bad_user_id}
    assert Admission.pairs(relay) == []
  end

  test "users whose names are hidden have one by every secret" do
    relay = :"#{__MODULE__}.Two"
    names = for secret <- [@secret, @old], do: Credentials.opaque_user_id("alice", secret)
    opts = [opaque_usernames: true]
    {:ok, _, pairs} = App.admit(relay, config(opts), self(), "alice", "room")
    assert pairs == [{hd(names), "room"}]
    pairs = App.rename(relay, config([secret: "#{@secret},#{@old}"] ++ opts), self())
    assert Enum.sort(pairs) == Enum.sort(for name <- names, do: {name, "room"})
    assert Enum.sort(Admission.pairs(relay)) == Enum.sort(for name <- names, do: {name, "room"})
    assert length(App.withdraw(self(), "alice", "room")) == 2
    assert Admission.pairs(relay) == []
  end

  test "a long room is one too, and a process that ends takes its own along" do
    relay = :"#{__MODULE__}.Three"
    room = String.duplicate("room", 100)

    test = self()

    {pid, monitor} =
      spawn_monitor(fn ->
        {:ok, _, [_]} = App.admit(relay, config([]), self(), "a", room)
        send(test, :admitted)
        receive do: (:stop -> :ok)
      end)

    assert_receive :admitted, 5_000
    assert [{"a", short}] = Admission.pairs(relay)
    assert byte_size(short) <= 255
    assert Admission.state({relay, "a", short}, Admission.now()) == :held
    send(pid, :stop)
    assert_receive {:DOWN, ^monitor, _, ^pid, :normal}, 5_000
    assert Admission.state({relay, "a", short}, Admission.now()) == :none
    assert Admission.pairs(relay) == []
    Admission.sweep()
    assert :ets.match(Admission.Holders, {:_, :_, relay, :_, :_}) == []
  end
end
