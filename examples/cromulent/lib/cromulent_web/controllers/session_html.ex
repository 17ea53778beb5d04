defmodule CromulentWeb.SessionHTML do
  use CromulentWeb, :html

  embed_templates "session_html/*"
end
