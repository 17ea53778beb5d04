defmodule CromulentWeb.ErrorHTML do
  @moduledoc "What a request that fails is answered: the status in words."

  use CromulentWeb, :html

  def render(template, _assigns), do: Phoenix.Controller.status_message_from_template(template)
end
