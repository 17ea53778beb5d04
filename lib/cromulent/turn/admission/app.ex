defmodule Cromulent.Turn.Admission.App do
  @moduledoc false
  # What an application grants by itself, without places: `Cromulent.Turn.Relay.admit/3`. It is kept as long as a
  # process lives: the relay's keeper, or where it has none, its owner.

  alias Cromulent.Turn.{Admission, Config}

  @doc "Puts a grant down; who called tells the relay."
  @spec admit(Admission.relay(), Config.t(), pid(), term(), String.t()) ::
          {:ok, Admission.holder(), [Admission.pair()]} | {:error, :bad_user_id}
  def admit(relay, config, pid, user_id, room) do
    holder = {:app, pid, user_id, room}

    with {:ok, grants} <- grants(relay, config, holder) do
      Enum.each(grants, &Admission.put(holder, nil, &1))
      {:ok, holder, for({_relay, user, room} <- grants, do: {user, room})}
    end
  end

  @doc "Takes it back: the grants that nobody else holds, of which the relay is to be told."
  @spec withdraw(pid(), term(), String.t()) :: [Admission.pair()]
  def withdraw(pid, user_id, room) do
    now = Admission.now()

    for {_relay, user, room} = grant <- Admission.drop({:app, pid, user_id, room}),
        Admission.state(grant, now) == :none,
        do: {user, room}
  end

  @doc "With another configuration users may have other names too: the grants of which the relay is to be told."
  @spec rename(Admission.relay(), Config.t(), pid()) :: [Admission.pair()]
  def rename(relay, config, pid) do
    for true <- [Admission.on?(config)],
        {:app, _pid, user_id, room} <- Admission.app_holders(pid),
        {:ok, _holder, pairs} <- [admit(relay, config, pid, user_id, room)],
        pair <- pairs,
        do: pair
  end

  # Under old secrets too, which are valid still.
  defp grants(relay, config, {:app, _pid, user_id, room}) do
    secrets = if config.opaque_usernames, do: config.secrets.(), else: [""]

    names =
      for one <- secrets, do: Admission.user(user_id, fn -> [one] end, config.opaque_usernames)

    with nil <- Enum.find(names, &match?({:error, _}, &1)),
         do: {:ok, for({:ok, user} <- names, do: {relay, user, Admission.room(room)})}
  end
end
