defmodule Cromulent.Turn.FrameTest do
  use ExUnit.Case, async: true

  alias Cromulent.Turn.Frame

  @ready %{
    os_pid: 42,
    listen: ["udp:127.0.0.1:1"],
    version: "0",
    protocol: 1,
    relays: [],
    workers: 1,
    udp: :uv
  }

  defp decode(term), do: term |> :erlang.term_to_binary() |> Frame.decode()

  test "greets with the version" do
    assert :erlang.binary_to_term(Frame.hello()) == {:hello, 1}
    assert :erlang.binary_to_term(Frame.encode({:list, 7, 10})) == {:list, 7, 10}
  end

  test "knows what the relay says" do
    assert decode({:ready, @ready}) == {:ok, {:ready, @ready}}

    assert decode({:failed, :listen, {"udp:127.0.0.1:1", :eaddrinuse}}) ==
             {:ok, {:failed, {:listen, "udp:127.0.0.1:1", :eaddrinuse}}}

    assert decode({:failed, :relay_ip, {"192.0.2.1", :eaddrnotavail}}) ==
             {:ok, {:failed, {:relay_ip, "192.0.2.1", :eaddrnotavail}}}

    for reason <- [:config, :protocol, :system],
        do: assert(decode({:failed, reason, "why"}) == {:ok, {:failed, {reason, "why"}}})

    for result <- [:ok, {:ok, []}, {:error, :x}],
        do: assert(decode({:reply, 3, result}) == {:ok, {:reply, 3, result}})

    for name <-
          [:permission_created, :allocation_created, :allocation_ended] ++
            [:peer_forbidden, :auth_failed, :log],
        do: assert(decode({:event, name, %{}}) == {:ok, {:event, name, %{}}})
  end

  test "refuses what the relay does not say" do
    for term <- [
          :ready,
          {},
          {:ready, %{}},
          {:ready, %{@ready | os_pid: 0}},
          {:ready, %{@ready | os_pid: "42"}},
          {:ready, %{@ready | listen: [:x]}},
          {:failed, :listen, "text"},
          {:failed, :config, {"a", :b}},
          {:failed, :whim, "text"},
          {:reply, :ref, :ok},
          {:reply, 1, :maybe},
          {:event, :allocation_created, []},
          {:event, :birthday, %{}},
          {:event, :log},
          [1, 2, 3]
        ] do
      assert {:error, text} = decode(term)
      assert text =~ "an unexpected frame", inspect(term)
    end
  end

  test "refuses another version of the protocol" do
    assert {:error, text} = decode({:ready, %{@ready | protocol: 2}})
    assert text =~ "speaks version 2 of the control protocol, and we speak 1"
  end

  test "refuses what is no term, holds unknown atoms or is too long" do
    for bytes <- ["", "abcd", <<131>>, <<131, 104, 255>>],
        do: assert({:error, "a frame of " <> _} = Frame.decode(bytes))

    # 131, SMALL_ATOM_UTF8_EXT
    name = "no_such_atom_" <> Base.encode16(:crypto.strong_rand_bytes(8))
    assert {:error, text} = Frame.decode(<<131, 119, byte_size(name), name::binary>>)
    assert text =~ "no term we know"
    assert {:error, text} = Frame.decode(:binary.copy(<<0>>, Frame.max() + 1))
    assert text == "a frame of 16777217 bytes"
  end

  test "has words for all that the relay's documentation names" do
    documented = File.read!(Path.expand("../../../docs/control.md", __DIR__))

    for word <- Frame.vocabulary() -- [:mmsg, :uv | Frame.counters()],
        String.starts_with?(to_string(word), "e") == false,
        do: assert(documented =~ to_string(word), "#{word} is not in docs/control.md")
  end

  test "has the words that the relay spells out" do
    for path <- Path.wildcard(Path.expand("../../../c_src/relay/*.c", __DIR__)),
        [_, word] <-
          Regex.scan(~r/(?:term_put_atom|reply_error)\([^"]*, "(\w+)"\)/, File.read!(path)),
        word not in ~w(ready failed reply event ok error),
        do: assert(word in Enum.map(Frame.vocabulary(), &to_string/1), "#{word} in #{path}")
  end

  test "counts as the engine does" do
    header = File.read!(Path.expand("../../../c_src/core/turn_server.h", __DIR__))
    names = Regex.scan(~r/X\(TURN_N_\w+, +"(\w+)"\)/, header, capture: :all_but_first)
    assert Enum.map(Frame.counters(), &to_string/1) == List.flatten(names)
  end
end
