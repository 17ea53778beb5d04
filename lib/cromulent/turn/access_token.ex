defmodule Cromulent.Turn.AccessToken do
  @moduledoc """
  Access tokens of third-party authorization (RFC 7635): how an authorization server lets a client use a TURN
  server that knows nothing of users.

  The two share a key (`Cromulent.Turn.AccessToken.Key`); the TURN server has it by the option `oauth_keys`. It says
  its name in the attribute THIRD-PARTY-AUTHORIZATION of a challenge (option `oauth_server_name`, by default the
  realm). For that name the authorization server makes a token, which only that TURN server can read:

      {:ok, [key]} = Cromulent.Turn.AccessToken.Key.read("/etc/turn/oauth.jwk")
      token = Cromulent.Turn.AccessToken.encode(key, "turn.example.org", lifetime: 3600)

  and gives the client `kid`, `token`, `mac_key` and `lifetime`, over TLS only. The client sends `kid` as
  USERNAME and `token` as ACCESS-TOKEN, as they are, and protects its messages with `mac_key`. In JSON the two
  binaries go as Base64 (RFC 7635 §6.2).

  The TURN server grants no allocation a longer life than its token has. A client that stays longer sends a new
  token in a Refresh.
  """

  alias Cromulent.Turn.AccessToken.Key

  @derive {Inspect, only: [:kid, :lifetime, :expires_at]}
  @enforce_keys [:kid, :token, :mac_key, :lifetime, :expires_at]
  defstruct @enforce_keys

  @typedoc """
  `token` and `mac_key` are binaries, not shown by `inspect/2`; `lifetime` is in seconds from now, `expires_at` in
  Unix seconds.
  """
  @type t :: %__MODULE__{
          kid: String.t(),
          token: binary(),
          mac_key: binary(),
          lifetime: pos_integer(),
          expires_at: pos_integer()
        }

  @type option ::
          {:lifetime, pos_integer()}
          | {:now, non_neg_integer()}
          | {:mac_key, binary()}
          | {:nonce, <<_::96>>}

  @lifetime_most 31_536_000
  @now_most 253_402_300_799
  @ciphers %{32 => :aes_256_gcm, 16 => :aes_128_gcm}

  @doc """
  A token for the TURN server of this name, good from now on.

  Options:

    * `:lifetime` - seconds, `1..31_536_000`, default 3600
    * `:now` - the time in Unix seconds, default `System.os_time(:second)`
    * `:mac_key` - 16 to 64 bytes; default 20 random ones (160 bits), which every server takes
    * `:nonce` - 12 bytes; random. Never the same twice under one key: this is for test vectors

  Misuse raises `ArgumentError`, whose message has no key in it.
  """
  @spec encode(Key.t(), String.t(), [option()]) :: t()
  def encode(%Key{} = key, server_name, opts \\ []) do
    check_name!(server_name)

    %{lifetime: lifetime, now: now, mac_key: mac_key, nonce: nonce} =
      Enum.reduce(opts, defaults(), &put!/2)

    cipher =
      @ciphers[byte_size(key.key)] || raise ArgumentError, "expected a key of 32 or 16 bytes"

    # RFC 7635 §6.2: 48 bits of seconds, 16 of their 64000ths.
    block = <<byte_size(mac_key)::16, mac_key::binary, now::48, 0::16, lifetime::32>>

    {sealed, tag} = :crypto.crypto_one_time_aead(cipher, key.key, nonce, block, server_name, true)

    %__MODULE__{
      kid: key.kid,
      token: <<byte_size(nonce)::16, nonce::binary, sealed::binary, tag::binary>>,
      mac_key: mac_key,
      lifetime: lifetime,
      expires_at: now + lifetime
    }
  end

  defp defaults do
    %{
      lifetime: 3600,
      now: System.os_time(:second),
      mac_key: :crypto.strong_rand_bytes(20),
      nonce: :crypto.strong_rand_bytes(12)
    }
  end

  defp put!({:lifetime, lifetime}, opts)
       when is_integer(lifetime) and lifetime in 1..@lifetime_most,
       do: %{opts | lifetime: lifetime}

  defp put!({:now, now}, opts) when is_integer(now) and now in 0..@now_most,
    do: %{opts | now: now}

  defp put!({:mac_key, mac_key}, opts) when is_binary(mac_key) and byte_size(mac_key) in 16..64,
    do: %{opts | mac_key: mac_key}

  defp put!({:nonce, <<nonce::binary-size(12)>>}, opts), do: %{opts | nonce: nonce}

  defp put!({:lifetime, _}, _),
    do: raise(ArgumentError, "expected :lifetime to be 1..#{@lifetime_most} seconds")

  defp put!({:now, _}, _),
    do: raise(ArgumentError, "expected :now to be Unix seconds in 0..#{@now_most}")

  defp put!({:mac_key, _}, _),
    do: raise(ArgumentError, "expected :mac_key to have 16 to 64 bytes")

  defp put!({:nonce, _}, _), do: raise(ArgumentError, "expected :nonce to have 12 bytes")

  defp put!(_other, _),
    do: raise(ArgumentError, "expected only the options :lifetime, :now, :mac_key and :nonce")

  defp check_name!(name) do
    unless is_binary(name) and byte_size(name) in 1..127,
      do: raise(ArgumentError, "expected the server's name to be a binary of 1 to 127 bytes")
  end
end
