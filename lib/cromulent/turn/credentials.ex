defmodule Cromulent.Turn.Credentials do
  @moduledoc """
  Credentials of TURN: time-limited ones, made from a secret that this app and the relay share
  (draft-uberti-rtcweb-turn-rest-00), and the keys of long-term ones (RFC 8489 §9.2).

      iex> alias Cromulent.Turn.Credentials
      iex> %Credentials{username: name, credential: password} =
      ...>   Credentials.generate("alice", "north", now: 1_699_996_400)
      iex> {name, password}
      {"1700000000:alice", "Cd/49soE35ICqcJF/bCTn8Z4OyE="}
      iex> Credentials.verify(name, password, ["south", "north"], now: 1_699_999_999)
      :ok
      iex> Credentials.verify(name, password, "north", now: 1_700_000_000)
      {:error, :expired}

  `generate/3` gives a struct, so that `inspect/2` and logs show who has a credential until when, and not
  the credential itself.

  Misuse raises `ArgumentError`. Its message never has a secret or a password in it.
  """

  alias :cromulent_turn_nif, as: Nif
  alias Cromulent.Turn.OpaqueString

  @derive {Inspect, only: [:username, :expires_at]}
  @enforce_keys [:username, :credential, :expires_at]
  defstruct @enforce_keys

  @typedoc """
  What a client needs: `username` and `credential` go into `RTCIceServer` as they are; `expires_at` is in
  Unix seconds.
  """
  @type t :: %__MODULE__{
          username: String.t(),
          credential: String.t(),
          expires_at: non_neg_integer()
        }

  @typedoc "The hash of the HMAC: `:sha` (SHA-1) is what every TURN server knows."
  @type hash :: :sha | :sha256

  @type generate_option ::
          {:ttl, pos_integer()} | {:hash, hash()} | {:now, non_neg_integer()}

  @type verify_option :: {:hash, hash()} | {:now, non_neg_integer()}

  @default_ttl 3_600
  @max_ttl 31_536_000
  @max_now 253_402_300_799
  @max_string 1_024
  @max_username 508
  @max_secrets 16
  @opaque_label "cromulent_turn opaque username"

  @doc """
  A credential for a user, valid from now on for `:ttl` seconds.

  The username is `"<expiry>:<user id>"`, or just `"<expiry>"` for the user id `""`; the credential is the
  Base64 of the username's HMAC under `secret` (draft-uberti-rtcweb-turn-rest-00 §2.2).

  `user_id` is a string of UTF-8 without control characters, or an integer; with the expiry and the colon it
  may have 508 bytes (RFC 8489 §14.3). Beyond ASCII it is prepared by OpaqueString (RFC 8265 §4.2), as clients do with what
  they send: the username has it in NFC, and with plain spaces. `secret` has 1 to 1,024 bytes.

  Options:

    * `:ttl` - lifetime in seconds, `1..31_536_000`, default 3600
    * `:hash` - `:sha` (default) or `:sha256`; only `:sha` is understood everywhere
    * `:now` - the time in Unix seconds, default `System.os_time(:second)`
  """
  @spec generate(String.t() | integer(), binary(), [generate_option()]) :: t()
  def generate(user_id, secret, opts \\ []) do
    {hash, ttl, now} = options(opts, :sha, @default_ttl, nil)
    expires_at = (now || System.os_time(:second)) + ttl
    user = user(user_id)

    try do
      Nif.rest_credential(hash, secret, user, expires_at)
    rescue
      error in ArgumentError ->
        check_secret!(secret)
        check_user!(user, expires_at)
        reraise error, __STACKTRACE__
    else
      {username, credential} ->
        %__MODULE__{username: username, credential: credential, expires_at: expires_at}
    end
  end

  @doc """
  Whether a credential was made with one of these secrets and has not expired.

  Up to 16 secrets, so that an old one stays valid while it is being replaced. The comparison takes the same
  time wherever it fails, and every secret is tried.

    * `:malformed` - the username does not begin with an expiry, or is longer than 508 bytes
    * `:invalid` - no secret gives this password
    * `:expired` - it was right, until now

  Options: `:hash` and `:now` as in `generate/3`. The relay checks the expiry when an allocation is made, not
  when it is refreshed.
  """
  @spec verify(binary(), binary(), binary() | [binary(), ...], [verify_option()]) ::
          :ok | {:error, :expired | :invalid | :malformed}
  def verify(username, password, secrets, opts \\ []) do
    {hash, nil, now} = options(opts, :sha, nil, nil)
    secrets = if is_list(secrets), do: secrets, else: [secrets]

    try do
      Nif.rest_verify(hash, secrets, username, password, now || System.os_time(:second))
    rescue
      error in ArgumentError ->
        check_binary!("username", username)
        check_binary!("password", password)
        check_secrets!(secrets)
        reraise error, __STACKTRACE__
    end
  end

  @doc """
  The key of a long-term credential (RFC 8489 §9.2.2, §18.5.1): the hash of `username:realm:password`, of 16
  bytes with `:md5` and 32 with `:sha256`. `Cromulent.Turn.Stun` takes it for message integrity.

  The strings, of at most 1,024 bytes each, are to be prepared by OpaqueString already (RFC 8265); plain ASCII
  always is.
  """
  @spec key(binary(), binary(), binary(), :md5 | :sha256) :: binary()
  def key(username, realm, password, algorithm) do
    Nif.long_term_key(algorithm, username, realm, password)
  rescue
    error in ArgumentError ->
      check_string!("username", username)
      check_string!("realm", realm)
      check_string!("password", password)
      if algorithm not in [:md5, :sha256], do: invalid!("algorithm", algorithm, ":md5 or :sha256")
      reraise error, __STACKTRACE__
  end

  @doc """
  The USERHASH of a user: SHA-256 of `username:realm`, 32 bytes (RFC 8489 §14.4).
  """
  @spec userhash(binary(), binary()) :: <<_::256>>
  def userhash(username, realm) do
    Nif.userhash(username, realm)
  rescue
    error in ArgumentError ->
      check_string!("username", username)
      check_string!("realm", realm)
      reraise error, __STACKTRACE__
  end

  @doc """
  The name that stands for a user in usernames when the option `opaque_usernames` is on: the same for the
  same user and secret, and telling nobody who has not the secret which user it is.

  It is the unpadded Base64url of the first 16 bytes of HMAC-SHA256 of the user id, under the key
  HMAC-SHA256(secret, "cromulent_turn opaque username"): 22 characters. `user_id` is whatever
  `to_string/1` takes, and may be of any length; `secret` has 1 to 1,024 bytes.
  """
  @spec opaque_user_id(String.Chars.t(), binary()) :: String.t()
  def opaque_user_id(user_id, secret) do
    check_secret!(secret)
    <<name::binary-size(16), _::binary>> = hmac(hmac(secret, @opaque_label), to_string(user_id))
    Base.url_encode64(name, padding: false)
  end

  defp hmac(key, data), do: :crypto.mac(:hmac, :sha256, key, data)

  @doc false
  # What the providers with a secret do: secret and ttl were checked, the user id can be anything.
  @spec mint(term(), binary(), pos_integer(), boolean()) :: {:ok, t()} | {:error, :bad_user_id}
  def mint(user_id, secret, ttl, opaque?) do
    with {:ok, user} <- name(user_id, fn -> [secret] end, opaque?),
         do: {:ok, generate(user, secret, ttl: ttl)}
  rescue
    ArgumentError -> {:error, :bad_user_id}
  end

  @doc false
  # What stands for a user in usernames, before it is prepared: the id, or what hides it.
  @spec name(term(), (() -> [binary(), ...]), boolean()) ::
          {:ok, String.t()} | {:error, :bad_user_id}
  def name(user_id, secrets, opaque?) do
    with {:ok, user} when opaque? <- user_text(user_id),
         do: {:ok, opaque_user_id(user, hd(secrets.()))}
  end

  # String.Chars may be implemented by anybody.
  defp user_text(user_id) when is_binary(user_id), do: {:ok, user_id}

  defp user_text(user_id) do
    {:ok, to_string(user_id)}
  rescue
    _ -> {:error, :bad_user_id}
  end

  @doc """
  Whether two binaries are equal, in a time that depends on their lengths alone; at most 65,535 bytes each.
  """
  @spec equal?(binary(), binary()) :: boolean()
  def equal?(a, b) do
    Nif.equal(a, b)
  rescue
    ArgumentError ->
      raise ArgumentError, "expected two binaries of at most 65535 bytes"
  end

  defp options([], hash, ttl, now), do: {hash, ttl, now}

  defp options([{:hash, hash} | rest], _hash, ttl, now) when hash in [:sha, :sha256],
    do: options(rest, hash, ttl, now)

  defp options([{:ttl, ttl} | rest], hash, default, now)
       when default != nil and is_integer(ttl) and ttl in 1..@max_ttl,
       do: options(rest, hash, ttl, now)

  defp options([{:now, now} | rest], hash, ttl, _now) when is_integer(now) and now in 0..@max_now,
    do: options(rest, hash, ttl, now)

  defp options([{:hash, hash} | _], _, _, _), do: invalid!(":hash", hash, ":sha or :sha256")

  defp options([{:ttl, ttl} | _], _, default, _) when default != nil,
    do: invalid!(":ttl", ttl, "1..#{@max_ttl} seconds")

  defp options([{:now, now} | _], _, _, _),
    do: invalid!(":now", now, "Unix seconds in 0..#{@max_now}")

  defp options([{name, _} | _], _, ttl, _) when is_atom(name) do
    known = if ttl, do: ":ttl, :hash and :now", else: ":hash and :now"
    raise ArgumentError, "unknown option #{inspect(name)}, expected only #{known}"
  end

  defp options(_, _, _, _), do: raise(ArgumentError, "expected options to be a keyword list")

  # What the profile refuses goes as it is: most clients send a username's bytes unseen.
  defp user(user_id) when is_binary(user_id), do: OpaqueString.prepared(user_id)
  defp user(user_id) when is_integer(user_id), do: Integer.to_string(user_id)
  defp user(user_id), do: invalid!("user_id", user_id, "a string or an integer")

  defp check_user!(user, expires_at) do
    room = @max_username - byte_size("#{expires_at}:")

    cond do
      byte_size(user) > room -> invalid!("user_id", user, "of at most #{room} bytes")
      user =~ ~r/[\x00-\x1F\x7F]/ -> invalid!("user_id", user, "without control characters")
      not String.valid?(user) -> invalid!("user_id", user, "UTF-8")
      true -> :ok
    end
  end

  defp check_secrets!(secrets) when length(secrets) in 1..@max_secrets,
    do: Enum.each(secrets, &check_secret!/1)

  defp check_secrets!(_),
    do: raise(ArgumentError, "expected a secret, or a list of 1 to #{@max_secrets} secrets")

  # Whatever stands where a secret should is not shown.
  defp check_secret!(secret) when is_binary(secret) and byte_size(secret) in 1..@max_string,
    do: :ok

  defp check_secret!(_),
    do: raise(ArgumentError, "expected secret to be a binary of 1 to #{@max_string} bytes")

  defp check_binary!(_name, value) when is_binary(value), do: :ok
  defp check_binary!(name, _), do: raise(ArgumentError, "expected #{name} to be a binary")

  defp check_string!(_name, value) when is_binary(value) and byte_size(value) <= @max_string,
    do: :ok

  defp check_string!(name, _),
    do: raise(ArgumentError, "expected #{name} to be a binary of at most #{@max_string} bytes")

  @spec invalid!(String.t(), term(), String.t()) :: no_return()
  defp invalid!(name, value, right) do
    raise ArgumentError,
          "expected #{name} to be #{right}, got: #{inspect(value, limit: 5, printable_limit: 60)}"
  end
end
