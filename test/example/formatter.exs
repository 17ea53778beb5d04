# The example's own .formatter.exs takes this from Phoenix; here it does without.
[
  inputs: [
    "examples/cromulent/{mix,.formatter}.exs",
    "examples/cromulent/{config,lib,test}/**/*.{ex,exs}"
  ],
  locals_without_parens: [
    plug: :*,
    socket: :*,
    channel: :*,
    pipe_through: :*,
    get: :*,
    post: :*,
    delete: :*,
    live: :*,
    attr: :*,
    slot: :*,
    embed_templates: :*
  ]
]
