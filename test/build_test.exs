defmodule Cromulent.Turn.BuildTest do
  # The Makefile, on a small tree of the same shape; and the relay that this run is about.
  use ExUnit.Case, async: true

  import Cromulent.Turn.Helpers

  @sources %{
    "core/a.h" => "int a(void);\n",
    "core/a.c" => ~s(#include "core/a.h"\nint a(void\)\n{\n    return 1;\n}\n),
    "crypto/b.c" => """
    #include "core/a.h"
    #include <openssl/crypto.h>
    int b(void);
    int b(void)
    {
        return a() + (OPENSSL_version_major() > 0);
    }
    """,
    "nif/n.c" => """
    #include "core/a.h"
    #include <erl_nif.h>
    static ErlNifFunc funcs[1];
    ERL_NIF_INIT(n, funcs, NULL, NULL, NULL, NULL)
    """,
    "relay/main.c" => """
    #include <ei.h>
    #include <stdio.h>
    #include <uv.h>
    int b(void);
    const char *udp_backend(void);
    int main(void)
    {
        return ei_init() || b() != 2 || uv_version() == 0 || puts(udp_backend()) < 0;
    }
    """,
    "relay/udp_mmsg.c" => """
    const char *udp_backend(void);
    const char *udp_backend(void)
    {
        return "mmsg";
    }
    """,
    "relay/udp_uv.c" => """
    const char *udp_backend(void);
    const char *udp_backend(void)
    {
        return "uv";
    }
    """
  }

  # What one build must not hand to the next, and what the library's own environment may hold.
  @clean for name <-
               ~w(MAKEFLAGS MFLAGS MAKELEVEL MIX_APP_PATH MIX_BUILD_PATH SANITIZE UDP CI WERROR V),
             do: {name, nil}

  setup_all do
    dir = Path.join(System.tmp_dir!(), "cromulent_turn_build_#{System.pid()}")

    on_exit(fn -> File.rm_rf!(dir) end)
    for name <- ["Makefile", "VERSION", "mk", "mix.exs"], do: copy(name, dir)
    for {name, text} <- @sources, do: write(dir, name, text)
    %{dir: dir}
  end

  defp copy(name, dir) do
    File.mkdir_p!(dir)
    File.cp_r!(name, Path.join(dir, name))
  end

  defp write(dir, name, text) do
    path = Path.join([dir, "c_src", name])
    File.mkdir_p!(Path.dirname(path))
    File.write!(path, text)
  end

  # File times have a resolution of a second in Erlang, and of less in make: a time in the future
  # is newer than any result.
  defp touch(dir, name) do
    path = Path.join([dir, "c_src", name])
    File.touch!(path, System.os_time(:second) + 2)
    on_exit(fn -> File.touch!(path) end)
  end

  defp make(dir, args, env \\ []) do
    System.cmd("make", ["--no-print-directory" | args],
      cd: dir,
      env: @clean ++ env,
      stderr_to_stdout: true
    )
  end

  defp mix(dir, args, env \\ []) do
    env = @clean ++ [{"MIX_ENV", "dev"} | env]
    System.cmd("mix", args, cd: dir, env: env, stderr_to_stdout: true)
  end

  defp built(dir, args) do
    {output, status} = make(dir, args)
    assert status == 0, output

    for line <- String.split(output, "\n"),
        [_, name] <- [Regex.run(~r/^  CC +c_src\/(.*)/, line)] do
      name
    end
  end

  test "compiles what changed, and what includes what changed, and nothing else", %{dir: dir} do
    all = ~w(core/a.c crypto/b.c nif/n.c relay/main.c relay/udp_mmsg.c)
    assert Enum.sort(built(dir, ["UDP=mmsg"])) == all
    assert built(dir, ["UDP=mmsg"]) == []
    assert File.regular?(Path.join(dir, "priv/cromulent_turn_nif.so"))
    assert {"mmsg\n", 0} = System.cmd(Path.join(dir, "priv/turn_relay"), [])

    assert built(dir, ["UDP=uv"]) == ["relay/udp_uv.c"]
    assert {"uv\n", 0} = System.cmd(Path.join(dir, "priv/turn_relay"), [])
    assert built(dir, ["UDP=mmsg"]) == []
    assert {"mmsg\n", 0} = System.cmd(Path.join(dir, "priv/turn_relay"), [])

    touch(dir, "crypto/b.c")
    assert built(dir, ["UDP=mmsg"]) == ["crypto/b.c"]
    touch(dir, "core/a.h")
    assert Enum.sort(built(dir, ["UDP=mmsg"])) == ~w(core/a.c crypto/b.c nif/n.c)
    assert Enum.sort(built(dir, ["UDP=mmsg", "CFLAGS=-DOTHER"])) == all
  end

  test "builds into MIX_APP_PATH, and cleans that alone", %{dir: dir} do
    app = Path.join(dir, "_build/dev/lib/app")
    assert length(built(dir, ["MIX_APP_PATH=#{app}"])) == 5
    assert Enum.sort(File.ls!(Path.join(app, "priv"))) == ["cromulent_turn_nif.so", "turn_relay"]
    assert {_, 0} = make(dir, ["clean", "MIX_APP_PATH=#{app}"])
    assert File.ls!(Path.join(app, "priv")) == []
    refute File.exists?(Path.join(app, "obj"))
  end

  test "mix links the build's priv to the source's, whichever came first", %{dir: dir} do
    assert {_, 0} = mix(dir, ["compile"])
    priv = Path.join(dir, "_build/dev/lib/cromulent_turn/priv")
    assert {:ok, _} = File.read_link(priv)

    File.rm!(priv)
    File.mkdir!(priv)
    assert {_, 0} = mix(dir, ["compile"])
    assert {:ok, _} = File.read_link(priv)
    assert Enum.sort(File.ls!(priv)) == ["cromulent_turn_nif.so", "turn_relay"]

    assert {_, 0} = mix(dir, ["clean"])
    assert File.ls!(Path.join(dir, "priv")) == []
  end

  test "mix says why there is no NIF", %{dir: dir} do
    assert {output, 1} = mix(dir, ["compile"], [{"MAKE", "no-such-make"}])
    assert output =~ "could not build cromulent_turn's NIF and relay: no-such-make not found"
    assert {output, 1} = mix(dir, ["compile"], [{"CC", "no-such-compiler"}])
    assert output =~ "C compiler (no-such-compiler) not found: apt install gcc"
    assert output =~ "`make build` failed with status 2"
  end

  test "says in a line what to install where a library is missing", %{dir: dir} do
    args = ["MIX_APP_PATH=#{Path.join(dir, "nothing")}"]
    {output, status} = make(dir, args, [{"PKG_CONFIG_LIBDIR", dir}, {"PKG_CONFIG_PATH", ""}])
    assert status != 0

    assert ["libuv not found: " <> hints, "OpenSSL 3 (libcrypto) not found: " <> _ | _] =
             String.split(output, "\n")

    assert hints ==
             "apt install libuv1-dev | apk add libuv-dev | dnf install libuv-devel | " <>
               "brew install libuv"

    refute output =~ "  CC  "
  end

  test "lists its targets and variables", %{dir: dir} do
    {help, 0} = make(dir, ["help"])
    for name <- ~w(demo test bench clean build test-c), do: assert(help =~ ~r/^  #{name} +\w/m)
    for name <- ~w(SANITIZE UDP WERROR), do: assert(help =~ ~r/^  #{name}=/m)
  end

  test "this run is about the relay on the UDP backend that it says" do
    default = if :os.type() == {:unix, :linux}, do: "mmsg", else: "uv"
    wanted = System.get_env("CROMULENT_TURN_TEST_UDP", default)
    assert to_string(start_relay().info.udp) == wanted
  end
end
