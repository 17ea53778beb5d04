# Compiles the example's modules that need neither Phoenix nor the library, and runs their tests:
# `elixir plain.exs DIRECTORY`.
[directory] = System.argv()

modules = ~w(cromulent/users.ex cromulent/channels.ex
             cromulent_web/channels/voice_policy.ex cromulent_web/channels/voice_signal.ex)

tests =
  ~w(cromulent/users_test.exs cromulent/channels_test.exs
           cromulent_web/channels/voice_policy_test.exs cromulent_web/channels/voice_signal_test.exs)

Code.put_compiler_option(:no_warn_undefined, [Phoenix.PubSub])

{:ok, _, []} =
  Kernel.ParallelCompiler.compile(Enum.map(modules, &Path.join([directory, "lib", &1])),
    return_diagnostics: false
  )

{:ok, _} = Cromulent.Users.start_link([])
{:ok, _} = Cromulent.Channels.start_link([])
ExUnit.start()
for test <- tests, do: Code.require_file(Path.join([directory, "test", test]))
