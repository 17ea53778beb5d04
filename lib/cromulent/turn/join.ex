defmodule Cromulent.Turn.Join do
  @moduledoc false

  def join(_presence, _topic, _user_id, _opts), do: raise("not yet")
  def leave(_topic, _user_id), do: raise("not yet")
  def members(_topic), do: raise("not yet")
  def holds?(_topic, _user_id), do: raise("not yet")
end
