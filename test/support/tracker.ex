# The library asks Phoenix.Tracker where an application has it. Where these tests have no Phoenix, this
# stands in for it: a table of who tracks whom.
unless Code.ensure_loaded?(Phoenix.Tracker) do
  defmodule Phoenix.Tracker do
    @moduledoc false

    # Raises, as Phoenix's does, when there is no such tracker.
    def get_by_key(tracker, topic, key) do
      for [pid, meta] <- :ets.match(tracker, {{topic, key}, :"$1", :"$2"}), do: {pid, meta}
    end
  end
end
