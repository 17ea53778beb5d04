defmodule Cromulent.Turn.ConformanceTest do
  # docs/conformance.md says which test shows each requirement. Here it is held to that: what it names must be there, and
  # nothing may be left out.
  use ExUnit.Case, async: true

  # Heading, the prefixes of its ids, and the last number of each.
  @sections [
    {1, "STUN-MSG", 21},
    {2, "STUN-ATTR", 22},
    {3, "STUN-BIND", 12},
    {4, "STUN-FP", 4},
    {4, "STUN-MI", 10},
    {5, "STUN-STC", 6},
    {6, "STUN-LTC", 30},
    {7, "STUN-ALT", 6},
    {7, "STUN-CLS", 4},
    {8, "TURN-GEN", 16},
    {9, "TURN-ALLOC", 45},
    {10, "TURN-REFR", 11},
    {11, "TURN-PERM", 17},
    {12, "TURN-SEND", 10},
    {12, "TURN-DATA", 7},
    {13, "TURN-ICMP", 10},
    {14, "TURN-CHAN", 20},
    {15, "TURN-CD", 13},
    {16, "TURN-IP", 15},
    {17, "TURN-SEC", 6},
    {18, "TCP", 27},
    {19, "MOB", 16},
    {20, "OAUTH", 17},
    {21, "NBD", 16},
    {22, "TLS", 4},
    {22, "DTLS", 7},
    {22, "ALPN", 2},
    {23, "REST", 13},
    {23, "URI", 3}
  ]

  @root Path.expand("..", __DIR__)
  @sources Path.wildcard(Path.join(@root, "{c_src,lib,src,test,docs,mk,bin}/**/*.*"))

  # ---- the document ----

  # Rows `| ids | where | test |` with the number of the heading above them.
  defp rows do
    lines = @root |> Path.join("docs/conformance.md") |> File.read!() |> String.split("\n")

    {rows, _} =
      lines
      |> Enum.zip(tl(lines))
      |> Enum.with_index(1)
      |> Enum.flat_map_reduce(nil, fn {{line, next}, number}, section ->
        cond do
          heading = Regex.run(~r/^## (\d+)\./, line) ->
            {[], heading |> Enum.at(1) |> to_number()}

          # not a row, or the head of a table, or the line below that
          not String.starts_with?(line, "|") or next =~ ~r/^\|-/ or line =~ ~r/^\|-/ ->
            {[], section}

          true ->
            {[row(line, number, section)], section}
        end
      end)

    rows
  end

  defp row(line, number, section) do
    cells = line |> String.trim() |> String.trim("|") |> String.split(" | ")
    assert length(cells) == 3, "line #{number}: #{length(cells)} cells: #{line}"
    [ids, where, tests] = Enum.map(cells, &String.trim/1)
    %{line: number, section: section, ids: ids(ids, number), where: where, tests: tests}
  end

  # "TURN-ALLOC-02, 04-06" are four: what has no prefix goes on with the one before it. Sections 24 and 25 count 1, 2, 3.
  defp ids(text, line) do
    {ids, _} =
      if(text =~ ~r/^\d+$/, do: [], else: String.split(text, ~r/[,;] */))
      |> Enum.flat_map_reduce(nil, fn part, before ->
        case Regex.run(~r/^(?:([A-Z]+(?:-[A-Z]+)?)-)?(\d\d)(?:-(\d\d))?$/, part) do
          [_, prefix, from | rest] ->
            prefix = if prefix == "", do: before, else: prefix
            {numbered(prefix, from, List.first(rest) || from), prefix}

          nil ->
            assert part =~ ~r/^RFC \d+/, "line #{line}: #{inspect(part)} is no id"
            {[], before}
        end
      end)

    ids
  end

  defp numbered(prefix, from, to), do: for(n <- to_number(from)..to_number(to), do: {prefix, n})
  defp to_number(text), do: String.to_integer(text)

  defp text({prefix, number}), do: "#{prefix}-#{String.pad_leading("#{number}", 2, "0")}"

  # ---- what there is ----

  # C: the functions that a program of test/c runs. Elixir: the names of tests; one that is put together is a pattern.
  defp known(file) do
    for path <- @sources, found = named(path, file), into: %{} do
      {path, found}
    end
  end

  defp named(path, file) do
    cond do
      path =~ ~r"/test/c/" and path =~ ~r"/(test_)?#{Regex.escape(file)}\.c$" ->
        c_tests(path)

      path =~ ~r"/test/" and path =~ ~r"/#{Regex.escape(file)}_tests?\.(exs|erl)$" ->
        ex_tests(path)

      true ->
        nil
    end
  end

  defp c_tests(path) do
    Regex.scan(~r/CHECK_TEST\((test_\w+)\)/, File.read!(path)) |> Enum.map(&Enum.at(&1, 1))
  end

  defp ex_tests(path) do
    {_, names} =
      path
      |> File.read!()
      |> Code.string_to_quoted!()
      |> Macro.prewalk([], fn
        {:test, _, [name | _]} = node, names -> {node, [pattern(name) | names]}
        node, names -> {node, names}
      end)

    names
  end

  defp pattern(name) when is_binary(name), do: name

  defp pattern({:<<>>, _, parts}) do
    parts = Enum.map_join(parts, &if(is_binary(&1), do: Regex.escape(&1), else: ".*"))
    Regex.compile!("\\A" <> parts <> "\\z")
  end

  defp scenarios do
    path = Path.join(@root, "test/c/sim/named.c")
    Regex.scan(~r/NAMED\("[^"]*",\s*(\w+),/, File.read!(path)) |> Enum.map(&Enum.at(&1, 1))
  end

  # ---- a cell of tests ----

  @token ~r/\s*(?:(?<file>[a-z][\w.\/]*)(?::\s| as above)|(?<test>test_\w+)|(?<fuzz>fuzz_\w+)|"(?<text>(?:\\.|[^"\\])*)"|(?<other>[,;]|and\b|\([^)]*\))|(?<word>[a-z_]+))/

  # What a cell names and is not there, each told in a few words.
  defp faults(cell, line), do: faults(cell <> " ", nil, line, 0)

  defp faults(rest, file, line, count) do
    case {String.trim(rest), Regex.run(@token, rest, return: :index)} do
      {"", _} ->
        if count == 0, do: ["line #{line}: no test is named"], else: []

      {_, [{0, size} | _]} ->
        token = Regex.named_captures(@token, binary_part(rest, 0, size))
        rest = binary_part(rest, size, byte_size(rest) - size)
        {kind, value} = Enum.find(token, fn {_kind, value} -> value != "" end)
        file = if kind == "file", do: value, else: file
        fault = if kind in ["file", "other"], do: nil, else: fault(kind, value, file)
        counted = if kind in ["file", "other"], do: count, else: count + 1
        told = if fault, do: ["line #{line}: #{fault}"], else: []
        told ++ faults(rest, file, line, counted)

      {rest, _} ->
        ["line #{line}: cannot read #{inspect(rest)}"]
    end
  end

  defp fault("fuzz", name, _file) do
    unless File.exists?(Path.join(@root, "test/c/fuzz/#{name}.c")), do: "there is no #{name}"
  end

  defp fault(_kind, value, nil), do: "#{value} stands before any file"

  # Clients of others, in the words of the table that their run writes.
  defp fault("word", name, "interop") do
    if Path.wildcard(Path.join(@root, "test/interop/#{name}.*")) == [],
      do: "test/interop has no #{name}"
  end

  defp fault("text", text, "interop") do
    told = File.read!(Path.join(@root, "docs/interop.md"))
    unless String.contains?(told, text), do: "docs/interop.md has no #{inspect(text)}"
  end

  defp fault("word", name, "sim"),
    do: unless(name in scenarios(), do: "the simulator has no #{name}")

  defp fault("word", "all", file),
    do: if(known(file) == %{}, do: "there are no tests of #{file}")

  defp fault("word", word, _file), do: "#{word} is no test"

  defp fault("test", name, file),
    do: unless(name in names(file), do: "no program of #{file} runs #{name}")

  defp fault("text", text, file) do
    text = String.replace(text, "\\\"", "\"")
    unless Enum.any?(names(file), &names?(text, &1)), do: "#{file} has no test #{inspect(text)}"
  end

  defp names?(text, name) when is_binary(name) do
    if String.ends_with?(text, "..."),
      do: String.starts_with?(name, String.trim_trailing(text, "...")),
      else: text == name
  end

  defp names?(text, pattern), do: text =~ pattern

  # Reading a file takes its time, and most are named often.
  defp names(file) do
    with nil <- Process.get({:names, file}) do
      names = file |> known() |> Map.values() |> Enum.concat()
      Process.put({:names, file}, names)
      names
    end
  end

  # ---- the tests ----

  test "every test that it names is there" do
    faults = for %{tests: cell, line: line} <- rows(), cell != "-", do: faults(cell, line)
    assert Enum.concat(faults) == []
  end

  test "every file that it names is there" do
    existing = MapSet.new(@sources, &Path.basename/1)

    missing =
      for %{where: where, line: line} <- rows(),
          [_, name] <-
            Regex.scan(~r/`(?:[\w.]+\/)*([\w.]+\.(?:c|h|ex|exs|erl|js|md|txt))`/, where),
          name not in existing,
          do: {line, name}

    assert missing == []
  end

  test "a row without a test says why" do
    assert [] ==
             for(
               %{tests: "-", where: where, line: line} <- rows(),
               String.length(where) < 20,
               do: line
             )
  end

  test "every requirement has its row, in its section, once" do
    expected =
      for {section, prefix, last} <- @sections, n <- 1..last, do: {text({prefix, n}), section}

    found = for row <- rows(), id <- row.ids, do: {text(id), row.section}

    assert %{
             missing: expected -- found,
             twice: found -- Enum.uniq(found),
             unknown: found -- expected
           } ==
             %{missing: [], twice: [], unknown: []}
  end

  test "it has the headings of the list, in its order" do
    text = File.read!(Path.join(@root, "docs/conformance.md"))
    numbers = for [_, n] <- Regex.scan(~r/^## (\d+)\. /m, text), do: to_number(n)
    assert numbers == Enum.to_list(1..25)
  end

  # The ambiguities of section 25 are a numbered table.
  test "every ambiguity is decided" do
    text = File.read!(Path.join(@root, "docs/conformance.md"))
    [_, part] = String.split(text, "\n## 25. ")

    assert for([_, n] <- Regex.scan(~r/^\| (\d+) \|.{20,}/m, part), do: to_number(n)) ==
             Enum.to_list(1..23)
  end

  test "what is wrong is found" do
    assert faults(~s(turn_auth: test_challenge, test_nothing), 1) ==
             ["line 1: no program of turn_auth runs test_nothing"]

    assert ["line 1: wire_auth has no test" <> _] = faults(~s(wire_auth: "is never so"), 1)
    assert ["line 1: the simulator has no storms"] = faults("sim: expiry, storms", 1)
    assert ["line 1: no program of turn_nothing" <> _] = faults("turn_nothing: test_challenge", 1)
    assert ["line 1: there are no tests of turn_nothing"] = faults("turn_nothing: all", 1)
    assert ["line 1: as is no test", _] = faults("wire_auth: as above", 1)
    assert ["line 1: no test is named"] = faults("wire_auth: ", 1)

    assert ["line 1: there is no fuzz_nothing"] = faults("fuzz_nothing", 1)
    assert ["line 1: docs/interop.md has no" <> _] = faults(~s(interop: "smoke signals"), 1)
    assert faults(~s(fuzz_stun_msg; interop: uclient; wire_auth: "are those of..."), 1) == []
    assert faults(~s(wire_auth as above, and "is idempotent"), 1) == []

    assert faults(~s(sim: expiry; relay/test_sock: test_icmp; turn_users: all (bounded\)), 1) ==
             []

    assert faults(
             ~s(wire_auth: "are those of \\"George\\" in quotes and with a NUL behind them"),
             1
           ) == []

    assert faults(
             ~s(wire_ip_header: "is copied both ways where it is to be kept, inet to inet6"),
             1
           ) == []
  end
end
