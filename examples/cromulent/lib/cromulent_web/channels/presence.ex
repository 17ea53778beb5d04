defmodule CromulentWeb.Presence do
  @moduledoc "Who is in which voice channel, on all nodes: what others see of them."

  use Phoenix.Presence, otp_app: :cromulent, pubsub_server: Cromulent.PubSub
end
