# What the NIF saves: `mix run bench/nif.exs`.
#
# Each task is done by the NIF and by plain Elixir with the same result, which is asserted first.
# Rounds of both take turns, so that whatever else the machine does falls on both: a time is the
# median of its rounds, a ratio the median of the ratios of neighbours. Collecting the garbage that
# the calls make is part of the time.
#
# The targets are what we want, not what we reach: more than half of what the NIF takes to decode a
# message goes into the call and into making terms, which no decoder can save.

unless Code.ensure_loaded?(Cromulent.Turn.Bench.PlainStun),
  do: Code.require_file("plain_stun.ex", __DIR__)

defmodule Cromulent.Turn.Bench.Nif do
  @moduledoc false

  alias Cromulent.Turn.Bench.PlainStun
  alias Cromulent.Turn.Credentials
  alias Cromulent.Turn.Stun

  @rounds 41
  @round_us 20_000
  @secret "north"
  @user "0190163d-8694-739b-aea5-966c26f8ad91"

  def run do
    IO.puts("Elixir #{System.version()}, OTP #{System.otp_release()}, #{cpu()}")
    IO.puts("median of #{@rounds} rounds; ns per call\n")
    row(["", "plain Elixir", "NIF", "ratio", "target"])
    results = credentials() ++ decoding()
    missed = for {name, ratio, target} <- results, ratio < target, do: name

    IO.puts(
      if missed == [], do: "\nall targets reached", else: "\nmissed: #{Enum.join(missed, "; ")}"
    )
  end

  defp credentials do
    plain = fn ->
      expires_at = System.os_time(:second) + 3600
      username = "#{expires_at}:#{@user}"
      {username, :crypto.mac(:hmac, :sha, @secret, username) |> Base.encode64(), expires_at}
    end

    nif = fn -> Credentials.generate(@user, @secret) end
    agree!(plain, nif, 3)
    [compare("credentials", plain, nif, 2)]
  end

  # Both read the clock: they agree when the second does not change between them.
  defp agree!(plain, nif, tries) do
    made = nif.()

    unless plain.() == {made.username, made.credential, made.expires_at},
      do: if(tries > 0, do: agree!(plain, nif, tries - 1), else: raise("different credentials"))
  end

  defp decoding do
    for {name, packet} <- packets() do
      {:ok, %Stun{}} = expected = PlainStun.decode(packet)
      ^expected = Stun.decode(packet)
      plain = fn -> PlainStun.decode(packet) end
      nif = fn -> Stun.decode(packet) end
      compare("#{name}, #{byte_size(packet)} bytes", plain, nif, 10)
    end
  end

  defp packets do
    key = Credentials.key(@user, "example.com", "password", :md5)
    nonce = "obMatJos2AAAAadl7W7PeDU4hKE72jda"
    signed = [integrity: {:sha1, key}, fingerprint: true]
    media = :binary.copy(<<0xAB>>, 160)

    [
      {"Allocate request",
       message(:request, :allocate,
         requested_transport: :udp,
         lifetime: 600,
         username: "1700000000:#{@user}",
         realm: "example.com",
         nonce: nonce
       )
       |> Stun.encode(signed)},
      {"Binding request (ICE)",
       message(:request, :binding, [
         {:username, "h6vY:evtj"},
         {:goog_network_info, 0x00010032},
         {:ice_controlling, 0x932FF9B151263B36},
         {:use_candidate, true},
         {:priority, 0x6E0001FF}
       ])
       |> Stun.encode(signed)},
      {"Binding response, IPv4",
       message(:success, :binding, xor_mapped_address: {{192, 0, 2, 1}, 32853})
       |> Stun.encode(signed)},
      {"Binding response, IPv6",
       message(:success, :binding,
         xor_mapped_address:
           {{0x2001, 0xDB8, 0x1234, 0x5678, 0x11, 0x2233, 0x4455, 0x6677}, 32853}
       )
       |> Stun.encode(signed)},
      {"Send indication",
       message(:indication, :send, xor_peer_address: {{192, 0, 2, 150}, 32102}, data: media)
       |> Stun.encode()},
      {"Data indication",
       message(:indication, :data, xor_peer_address: {{192, 0, 2, 150}, 32102}, data: media)
       |> Stun.encode()}
    ]
  end

  defp message(class, method, attributes), do: Stun.new(class, method, attributes)

  defp compare(name, plain, nif, target) do
    calls = {calls(plain), calls(nif)}

    rounds = for _ <- 1..@rounds, do: {time(plain, elem(calls, 0)), time(nif, elem(calls, 1))}
    {plain_times, nif_times} = Enum.unzip(rounds)
    {plain_ns, nif_ns} = {median(plain_times), median(nif_times)}
    ratio = median(for {plain, nif} <- rounds, do: plain / nif)

    row([
      name,
      round(plain_ns),
      round(nif_ns),
      :erlang.float_to_binary(ratio, decimals: 1),
      target
    ])

    {name, ratio, target}
  end

  # Warms up, and finds how many calls make a round.
  defp calls(fun, calls \\ 100) do
    us = time(fun, calls) * calls / 1000
    if us >= @round_us, do: calls, else: calls(fun, calls * 2)
  end

  # ns per call, in a fresh process, so that no round collects another's garbage.
  defp time(fun, calls) do
    Task.async(fn ->
      {us, :ok} = :timer.tc(fn -> repeat(fun, calls) end)
      us * 1000 / calls
    end)
    |> Task.await(:infinity)
  end

  defp repeat(_fun, 0), do: :ok

  defp repeat(fun, calls) do
    fun.()
    repeat(fun, calls - 1)
  end

  defp median(list), do: list |> Enum.sort() |> Enum.at(div(length(list), 2))

  defp row([name | cells]) do
    IO.puts(
      Enum.join([
        String.pad_trailing(name, 36) | Enum.map(cells, &String.pad_leading("#{&1}", 12))
      ])
    )
  end

  defp cpu do
    with {:ok, info} <- File.read("/proc/cpuinfo"),
         [_, model] <- Regex.run(~r/model name\s*: (.*)/, info) do
      model
    else
      _ -> to_string(:erlang.system_info(:system_architecture))
    end
  end
end

Cromulent.Turn.Bench.Nif.run()
