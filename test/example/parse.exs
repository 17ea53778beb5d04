# Reads every Elixir and HEEx file of a directory without running any: `elixir parse.exs DIRECTORY`.
# Of HEEx it reads the Elixir within braces, and sees that each tag is closed.
defmodule Parse do
  @void ~w(area base br col embed hr img input link meta source track wbr !DOCTYPE)

  def run(directory) do
    files =
      Enum.flat_map(["*", "config/*", "lib/**/*", "test/**/*"], fn pattern ->
        Path.wildcard(Path.join(directory, pattern <> ".{ex,exs,heex}"))
      end)

    files == [] and raise "nothing in #{directory}"

    for file <- files do
      if Path.extname(file) == ".heex",
        do: heex(File.read!(file), file),
        else: elixir(File.read!(file), file)
    end
  end

  defp elixir(text, file) do
    ast = Code.string_to_quoted!(text, file: file)

    Macro.prewalk(ast, fn
      {:sigil_H, _, [{:<<>>, _, [heex]}, _]} = node ->
        heex(heex, file)
        node

      node ->
        node
    end)
  end

  defp heex(text, file), do: markup(text, file, [])

  defp markup("", _file, []), do: :ok
  defp markup("", file, [open | _]), do: raise("#{file}: <#{open}> is not closed")

  defp markup("{" <> rest, file, open) do
    markup(expression(rest, file), file, open)
  end

  defp markup("<!--" <> rest, file, open) do
    [_comment, rest] = String.split(rest, "-->", parts: 2)
    markup(rest, file, open)
  end

  defp markup("</" <> rest, file, [tag | open]) do
    [name, rest] = String.split(rest, ">", parts: 2)
    String.trim(name) == tag || raise "#{file}: </#{name}> closes <#{tag}>"
    markup(rest, file, open)
  end

  defp markup("<" <> rest, file, open) do
    [name] = Regex.run(~r/^[\w.:!-]+/, rest)
    {closed?, rest} = attributes(String.replace_prefix(rest, name, ""), file)
    markup(rest, file, if(closed? or name in @void, do: open, else: [name | open]))
  end

  defp markup(<<_::utf8, rest::binary>>, file, open), do: markup(rest, file, open)

  defp attributes("/>" <> rest, _file), do: {true, rest}
  defp attributes(">" <> rest, _file), do: {false, rest}
  defp attributes("{" <> rest, file), do: rest |> expression(file) |> attributes(file)

  defp attributes("\"" <> rest, file) do
    [_value, rest] = String.split(rest, "\"", parts: 2)
    attributes(rest, file)
  end

  defp attributes(<<_::utf8, rest::binary>>, file), do: attributes(rest, file)

  # The shortest text before a closing brace that is Elixir; what follows it.
  defp expression(text, file, from \\ 0) do
    case :binary.match(text, "}", scope: {from, byte_size(text) - from}) do
      {at, 1} ->
        code = binary_part(text, 0, at)

        case Code.string_to_quoted(code) do
          {:ok, _} -> binary_part(text, at + 1, byte_size(text) - at - 1)
          {:error, _} -> expression(text, file, at + 1)
        end

      :nomatch ->
        raise "#{file}: no Elixir in {#{String.slice(text, 0, 60)}"
    end
  end
end

Parse.run(hd(System.argv()))
