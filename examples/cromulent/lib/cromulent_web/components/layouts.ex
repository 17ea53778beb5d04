defmodule CromulentWeb.Layouts do
  use CromulentWeb, :html

  embed_templates "layouts/*"
end
