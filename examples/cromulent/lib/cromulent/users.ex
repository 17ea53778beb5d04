defmodule Cromulent.Users do
  @moduledoc """
  Who is logged in: a name for each user id, in memory.

  An application with accounts has a table of its own instead. After a restart the names come back from the
  sessions, which hold both.
  """

  use Agent

  @type t :: %{id: String.t(), name: String.t()}

  @longest_name 32

  @spec start_link(keyword()) :: Agent.on_start()
  def start_link(_opts), do: Agent.start_link(fn -> %{} end, name: __MODULE__)

  @doc "A user with a new id. The name is trimmed; it has 1 to #{@longest_name} characters, none of them control characters."
  @spec log_in(name :: term()) :: {:ok, t()} | {:error, :bad_name}
  def log_in(name) do
    with {:ok, name} <- check_name(name) do
      user = %{id: new_id(), name: name}
      :ok = put(user)
      {:ok, user}
    end
  end

  @doc "Makes a user of a session known, as after a restart."
  @spec put(t()) :: :ok
  def put(%{id: id, name: name}), do: Agent.update(__MODULE__, &Map.put(&1, id, name))

  @spec fetch(id :: String.t()) :: {:ok, t()} | :error
  def fetch(id) do
    with {:ok, name} <- Agent.get(__MODULE__, &Map.fetch(&1, id)) do
      {:ok, %{id: id, name: name}}
    end
  end

  defp check_name(name) when is_binary(name) do
    name = if String.valid?(name), do: String.trim(name), else: ""

    if String.length(name) in 1..@longest_name and not (name =~ ~r/[[:cntrl:]]/u),
      do: {:ok, name},
      else: {:error, :bad_name}
  end

  defp check_name(_other), do: {:error, :bad_name}

  # A UUID, version 4 (RFC 9562 §5.4).
  defp new_id do
    <<a::48, _::4, b::12, _::2, c::62>> = :crypto.strong_rand_bytes(16)
    hex = Base.encode16(<<a::48, 4::4, b::12, 2::2, c::62>>, case: :lower)
    <<a::binary-8, b::binary-4, c::binary-4, d::binary-4, e::binary-12>> = hex
    Enum.join([a, b, c, d, e], "-")
  end
end
