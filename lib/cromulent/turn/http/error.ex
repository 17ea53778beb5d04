defmodule Cromulent.Turn.Http.Error do
  @moduledoc """
  A provider's API gave no usable answer, as an exception, for callers that expect one. `reason` is that of
  `t:Cromulent.Turn.Http.reason/0` or of the provider's module.
  """

  defexception [:reason]

  @type t :: %__MODULE__{reason: term()}

  @impl true
  @spec message(t()) :: String.t()
  def message(%__MODULE__{reason: {:config, text}}), do: text
  def message(%__MODULE__{reason: reason}), do: "no answer from the API: " <> inspect(reason)
end
