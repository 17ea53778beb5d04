defmodule Cromulent.Turn.Http.LogFilter do
  @moduledoc false
  # Keeps out of the log what httpc's processes print when they fail: their state has the whole request,
  # and a TLS record that somebody on the way spoilt is enough to make them print it. A filter of OTP's
  # logger, which runs in the process that logs; it stops the reports of the processes of one httpc profile,
  # whose failures are answers to us, and leaves everything else alone.

  @id :cromulent_turn_httpc

  @doc "Installs the filter for the profile of this manager, once."
  @spec install(atom()) :: :ok
  def install(manager) do
    _ = :logger.add_primary_filter(@id, {&__MODULE__.filter/2, manager})
    :ok
  end

  @doc false
  @spec filter(:logger.log_event(), atom()) :: :logger.filter_return()
  def filter(%{msg: {:report, %{label: {:gen_server, :terminate}, state: state}}}, manager),
    do: if(of?(state, manager), do: stop(), else: :ignore)

  def filter(%{msg: {:report, %{label: {:proc_lib, :crash}}}}, _manager),
    do: if(Process.get(@id), do: :stop, else: :ignore)

  # `Received unexpected ~p data`: with the request, and the profile as the last argument.
  def filter(%{msg: {[?R, ?e, ?c, ?e, ?i, ?v, ?e, ?d | _], [_ | _] = args}}, manager),
    do: if(List.last(args) == manager, do: :stop, else: :ignore)

  def filter(_event, _manager), do: :ignore

  # The record of a handler, or of the manager, names its profile.
  defp of?(state, manager) when is_tuple(state) and elem(state, 0) == :state,
    do: manager in Tuple.to_list(state)

  defp of?(_state, _manager), do: false

  # The crash report of the same process comes next.
  defp stop do
    Process.put(@id, true)
    :stop
  end
end
