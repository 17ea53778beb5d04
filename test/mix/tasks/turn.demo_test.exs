defmodule Mix.Tasks.Turn.DemoTest do
  # What the page then shows, and how signals end it, is tested in a browser: test/browser.
  use ExUnit.Case, async: true

  import ExUnit.CaptureIO

  alias Mix.Tasks.Turn.Demo

  defp refused(argv) do
    capture_io(:stderr, fn -> assert catch_exit(Demo.run(argv)) == {:shutdown, 2} end)
  end

  test "wrong values and unknown flags are refused in one line" do
    cases = [
      {["--port", "65536"], "--port 65536: must be 0 to 65535"},
      {["--port", "-1"], "--port -1: must be 0 to 65535"},
      {["--port", "http"], ~s(--port "http": not understood)},
      {["--ip", "localhost"], ~s(--ip "localhost": must be one IPv4 address of this host)},
      {["--ip", "0.0.0.0"], ~s(--ip "0.0.0.0": must be one IPv4 address of this host)},
      {["--ip", "::1"], ~s(--ip "::1": must be one IPv4 address of this host)},
      {["--moon"], "unknown flag --moon; there are --ip, --port"},
      {["now"], ~s(unexpected argument "now")}
    ]

    for {argv, text} <- cases do
      assert refused(argv) == "mix turn.demo: #{text}\n"
    end
  end

  test "an address that this host does not have is told, with status 1" do
    args = ["turn.demo", "--ip", "203.0.113.77", "--port", "0"]
    {output, status} = System.cmd("mix", args, stderr_to_stdout: true)
    assert status == 1

    assert output =~
             "mix turn.demo: cannot relay from 203.0.113.77: this host does not have that address"

    refute output =~ "http://"
  end
end
