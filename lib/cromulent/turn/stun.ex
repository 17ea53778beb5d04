defmodule Cromulent.Turn.Stun do
  # {name, type, form of the value, source}
  attributes = [
    {:mapped_address, 0x0001, :address, "RFC 8489 §14.1"},
    {:change_request, 0x0003, :change, "RFC 5780 §7.2"},
    {:username, 0x0006, :text, "RFC 8489 §14.3"},
    {:message_integrity, 0x0008, :bytes, "RFC 8489 §14.5"},
    {:error_code, 0x0009, :error, "RFC 8489 §14.8"},
    {:unknown_attributes, 0x000A, :types, "RFC 8489 §14.13"},
    {:channel_number, 0x000C, :u16, "RFC 8656 §18.1"},
    {:lifetime, 0x000D, :u32, "RFC 8656 §18.2, seconds"},
    {:xor_peer_address, 0x0012, :address, "RFC 8656 §18.3"},
    {:data, 0x0013, :bytes, "RFC 8656 §18.4"},
    {:realm, 0x0014, :text, "RFC 8489 §14.9"},
    {:nonce, 0x0015, :text, "RFC 8489 §14.10"},
    {:xor_relayed_address, 0x0016, :address, "RFC 8656 §18.5"},
    {:requested_address_family, 0x0017, :family, "RFC 8656 §18.6"},
    {:even_port, 0x0018, :boolean, "RFC 8656 §18.7, the R bit"},
    {:requested_transport, 0x0019, :protocol, "RFC 8656 §18.8"},
    {:dont_fragment, 0x001A, :flag, "RFC 8656 §18.9"},
    {:access_token, 0x001B, :bytes, "RFC 7635 §6.2"},
    {:message_integrity_sha256, 0x001C, :bytes, "RFC 8489 §14.6"},
    {:password_algorithm, 0x001D, :algorithm, "RFC 8489 §14.12"},
    {:userhash, 0x001E, :bytes, "RFC 8489 §14.4, 32 bytes"},
    {:xor_mapped_address, 0x0020, :address, "RFC 8489 §14.2"},
    {:reservation_token, 0x0022, :bytes, "RFC 8656 §18.10, 8 bytes"},
    {:priority, 0x0024, :u32, "RFC 8445 §16.1"},
    {:use_candidate, 0x0025, :flag, "RFC 8445 §16.1"},
    {:padding, 0x0026, :bytes, "RFC 5780 §7.6"},
    {:response_port, 0x0027, :u16, "RFC 5780 §7.5"},
    {:connection_id, 0x002A, :u32, "RFC 6062 §6.2.1"},
    {:additional_address_family, 0x8000, :family, "RFC 8656 §18.11"},
    {:address_error_code, 0x8001, :address_error, "RFC 8656 §18.12"},
    {:password_algorithms, 0x8002, :algorithms, "RFC 8489 §14.11"},
    {:alternate_domain, 0x8003, :text, "RFC 8489 §14.16"},
    {:icmp, 0x8004, :icmp, "RFC 8656 §18.13"},
    {:software, 0x8022, :text, "RFC 8489 §14.14"},
    {:alternate_server, 0x8023, :address, "RFC 8489 §14.15"},
    {:transaction_transmit_counter, 0x8025, :u32, "RFC 7982 §3.1"},
    {:cache_timeout, 0x8027, :u32, "RFC 5780"},
    {:fingerprint, 0x8028, :u32, "RFC 8489 §14.7"},
    {:ice_controlled, 0x8029, :u64, "RFC 8445 §16.1"},
    {:ice_controlling, 0x802A, :u64, "RFC 8445 §16.1"},
    {:response_origin, 0x802B, :address, "RFC 5780 §7.3"},
    {:other_address, 0x802C, :address, "RFC 5780 §7.4"},
    {:ecn_check, 0x802D, :u32, "RFC 6679 §7.2.2"},
    {:third_party_authorization, 0x802E, :text, "RFC 7635 §6.1"},
    {:origin, 0x802F, :text, "draft-ietf-tram-stun-origin"},
    {:mobility_ticket, 0x8030, :bytes, "RFC 8016 §3.3"},
    {:additional_family_draft, 0x8032, :family, "before RFC 8656, from coturn's client"},
    {:goog_network_info, 0xC057, :u32, "libwebrtc"}
  ]

  forms = %{
    address: "`{ip, port}`, ip a tuple of 4 bytes or of 8 16-bit numbers",
    address_error: "`{family, 300..699, reason}`, family as below, reason a binary",
    algorithm: "`{:md5 | :sha256 | 0..65_535, parameters}`, parameters a binary",
    algorithms: "a list of `{:md5 | :sha256 | 0..65_535, parameters}`",
    boolean: "`true` or `false`",
    bytes: "a binary",
    change: "a list of `:ip` and `:port`",
    error: "`{300..699, reason}`, reason a binary",
    family: "`:ipv4`, `:ipv6` or `0..255`",
    flag: "`true`: the value is empty",
    icmp: "`{type, code, data}`: `0..255`, `0..255`, `0..0xFFFFFFFF`",
    protocol: "`:udp`, `:tcp` or `0..255`",
    text: "a binary, UTF-8 by its RFC, which is not checked",
    types: "a list of attribute types, `0..0xFFFF`",
    u16: "`0..0xFFFF`",
    u32: "`0..0xFFFFFFFF`",
    u64: "`0..0xFFFFFFFFFFFFFFFF`"
  }

  table =
    Enum.map_join(attributes, "\n", fn {name, type, form, source} ->
      hex = type |> Integer.to_string(16) |> String.pad_leading(4, "0")
      "| `:#{name}` | `0x#{hex}` | #{String.replace(forms[form], "|", "\\|")} | #{source} |"
    end)

  @moduledoc """
  STUN messages (RFC 8489), with the methods and attributes of TURN (RFC 8656) and its relatives.

      iex> alias Cromulent.Turn.Stun
      iex> packet = Stun.encode(Stun.new(:request, :binding, software: "example"), fingerprint: true)
      iex> {:ok, %Stun{class: :request, method: :binding} = message} = Stun.decode(packet)
      iex> Stun.get(message, :software)
      "example"

  ## What counts

  `attributes` has the attributes in the order of the wire, the same name more than once where the message has
  it so; all but the first one of a name are to be ignored, save for the few that may be repeated, such as
  `:xor_peer_address` (RFC 8489 §14, `get/3` and `get_all/2`).

  An attribute behind MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 is protected by nothing: anyone on the way
  can have put it there, and RFC 8489 §14.5 and §14.6 have it ignored. Such attributes are not in `attributes`
  but in `ignored`, as `{name, bytes}`. The two integrity attributes themselves and FINGERPRINT are in
  `attributes`.

  ## Attributes

  `{name, value}` for those in the table; `{type, bytes}` for all others, with the number of the type. `encode/2`
  takes `{type, bytes}` also for known types, and writes the bytes as they are.

  | name | type | value | source |
  |---|---|---|---|
  #{table}

  Addresses are in the form of Erlang's `:inet`; XOR-ed ones are plain here (RFC 8489 §14.2).

  Binaries of more than 64 bytes are parts of the packet, which they keep in memory: `:binary.copy/1` what is to
  be kept for long.
  """

  @behaviour Cromulent.Turn.Provider

  alias :cromulent_turn_nif, as: Nif
  alias Cromulent.Turn.StunServers

  @enforce_keys [:class, :method, :transaction_id]
  defstruct [:class, :method, :transaction_id, attributes: [], ignored: []]

  @type class :: :request | :indication | :success | :error

  @typedoc "A method; those without a name here are their numbers."
  @type method ::
          :binding
          | :allocate
          | :refresh
          | :send
          | :data
          | :create_permission
          | :channel_bind
          | :connect
          | :connection_bind
          | :connection_attempt
          | :goog_ping
          | 0..0xFFF

  @typedoc "See the table above."
  @type attribute :: {name :: atom(), value :: term()} | {type :: 0..0xFFFF, binary()}

  @type t :: %__MODULE__{
          class: class(),
          method: method(),
          transaction_id: <<_::96>>,
          attributes: [attribute()],
          ignored: [{atom() | 0..0xFFFF, binary()}]
        }

  @typedoc """
  Why a packet is no STUN message, and the byte offset at which that shows:

    * `:truncated` - fewer than 20 bytes, or fewer than the header says
    * `:not_stun` - the first two bits are not zero
    * `:bad_cookie` - the magic cookie is not `0x2112A442`
    * `:bad_length` - the length is not a multiple of 4, or bytes follow the message
    * `:attribute_overrun` - an attribute runs past the end of the message
    * `:fingerprint_not_last`, `:bad_fingerprint` - RFC 8489 §14.7
    * `:bad_value` - the value of a known attribute has a wrong length or breaks its format
  """
  @type decode_error ::
          {:truncated
           | :not_stun
           | :bad_cookie
           | :bad_length
           | :attribute_overrun
           | :fingerprint_not_last
           | :bad_fingerprint
           | :bad_value, non_neg_integer()}

  @typedoc """
  `:sha1` makes a MESSAGE-INTEGRITY, `:sha256` a MESSAGE-INTEGRITY-SHA256. The key has at most 1,024 bytes; see
  `Cromulent.Turn.Credentials.key/4` for that of a long-term credential, and take the password itself for a
  short-term one (RFC 8489 §9.1.1).
  """
  @type integrity :: {:sha1 | :sha256, key :: binary()}

  @attributes Map.new(attributes, fn {name, _type, form, _source} -> {name, forms[form]} end)
  @classes [:request, :indication, :success, :error]

  @doc """
  A message with a random transaction id (RFC 8489 §5).
  """
  @spec new(class(), method(), [attribute()]) :: t()
  def new(class, method, attributes \\ []) do
    %__MODULE__{
      class: class,
      method: method,
      transaction_id: :crypto.strong_rand_bytes(12),
      attributes: attributes
    }
  end

  @doc """
  Decodes one message that takes up the whole packet. A FINGERPRINT in it must be right; message integrity is not
  looked at (see `verify/3`).

  Raises `ArgumentError` when `packet` is not a binary.
  """
  @spec decode(binary()) :: {:ok, t()} | {:error, decode_error()}
  def decode(packet) do
    case Nif.stun_parts(packet) do
      {:ok, class, method, transaction_id, attributes, ignored} ->
        {:ok,
         %__MODULE__{
           class: class,
           method: method,
           transaction_id: transaction_id,
           attributes: attributes,
           ignored: ignored
         }}

      error ->
        error
    end
  end

  @doc """
  Encodes a message: the header, `attributes` in their order, and what the options ask for.

    * `:integrity` - `t:integrity/0`, or a list of them: a client that does not know which one its server takes
      sends both, `:sha1` first (RFC 8489 §9.2.3). They replace all integrity attributes and the FINGERPRINT in
      `attributes`.
    * `:fingerprint` - `true` for a FINGERPRINT at the end; it replaces the one in `attributes`

  Without options integrity attributes and FINGERPRINT are written with the values they have in `attributes`, so
  that a decoded message, its `ignored` attributes aside, is encoded as it was. `ignored` is never written.

  Raises `ArgumentError` for a value that does not fit its attribute (see the table above), and when the
  attributes would take more than 65,535 bytes.
  """
  @spec encode(t(), integrity: integrity() | [integrity()], fingerprint: boolean()) :: binary()
  def encode(%__MODULE__{} = message, opts \\ []) do
    {integrity, fingerprint} = options(opts, [], false)
    attributes = unsigned(message.attributes, integrity, fingerprint)

    try do
      Nif.stun_build(
        message.class,
        message.method,
        message.transaction_id,
        attributes,
        integrity,
        fingerprint
      )
    rescue
      ArgumentError -> reraise explain(message, integrity), __STACKTRACE__
    end
  end

  @doc """
  The value of the first attribute of this name, or of this number for one without a name; `default` when there is
  none. Attributes in `ignored` are not looked at.
  """
  @spec get(t(), atom() | 0..0xFFFF, default) :: term() | default when default: term()
  def get(%__MODULE__{attributes: attributes}, name, default \\ nil) do
    case List.keyfind(attributes, name, 0) do
      {_, value} -> value
      nil -> default
    end
  end

  @doc """
  The values of all attributes of this name, in order; for those that may be repeated, such as
  `:xor_peer_address` in CreatePermission (RFC 8656 §10.1).
  """
  @spec get_all(t(), atom() | 0..0xFFFF) :: [term()]
  def get_all(%__MODULE__{attributes: attributes}, name) do
    for {^name, value} <- attributes, do: value
  end

  @doc """
  Checks the message integrity of a packet under a key, in constant time: MESSAGE-INTEGRITY with `:sha1`,
  MESSAGE-INTEGRITY-SHA256 with `:sha256` (RFC 8489 §14.5, §14.6). A message that has both counts as right when
  the latter is (§9.2.4).

  Besides the errors of `decode/1`, each with its byte offset: `:missing` when there is no such attribute,
  `:bad_value` when it has not 20 or 32 bytes, `:bad_integrity` when it was made with another key or the packet was
  changed on its way.
  """
  @spec verify(binary(), binary(), :sha1 | :sha256) ::
          :ok | {:error, decode_error() | {:missing | :bad_integrity, non_neg_integer()}}
  def verify(packet, key, algorithm) do
    Nif.stun_verify(packet, key, algorithm)
  rescue
    error in ArgumentError ->
      check!(is_binary(packet), "expected packet to be a binary")
      check_integrity!({algorithm, key})
      reraise error, __STACKTRACE__
  end

  @doc """
  The provider `stun` of `Cromulent.Turn.Provider`: the STUN servers of `TURN_STUN_URLS`, else a public one, and
  no relay. It shares this module's name with the codec, and nothing else.
  """
  @impl Cromulent.Turn.Provider
  @spec get_ice_servers(term()) ::
          {:ok, [Cromulent.Turn.Provider.ice_server()]} | {:error, {:config, String.t()}}
  defdelegate get_ice_servers(user_id), to: StunServers

  @doc false
  @impl Cromulent.Turn.Provider
  @spec offer(term(), keyword()) ::
          {:ok, Cromulent.Turn.Provider.offer()} | {:error, {:config, String.t()}}
  defdelegate offer(user_id, opts), to: StunServers

  defp options([], integrity, fingerprint), do: {integrity, fingerprint}

  defp options([{:integrity, list} | rest], _, fingerprint) when is_list(list),
    do: options(rest, list, fingerprint)

  defp options([{:integrity, one} | rest], _, fingerprint),
    do: options(rest, [one], fingerprint)

  defp options([{:fingerprint, fingerprint} | rest], integrity, _) when is_boolean(fingerprint),
    do: options(rest, integrity, fingerprint)

  defp options([{:fingerprint, other} | _], _, _),
    do: raise(ArgumentError, "expected :fingerprint to be a boolean, got: #{inspect(other)}")

  # A misplaced option may be a key: only its name is shown.
  defp options([{name, _} | _], _, _) when is_atom(name) do
    raise ArgumentError,
          "unknown option #{inspect(name)}, expected only :integrity and :fingerprint"
  end

  defp options(_, _, _), do: raise(ArgumentError, "expected options to be a keyword list")

  defp unsigned(attributes, [], false), do: attributes
  defp unsigned(attributes, [], true), do: without(attributes, [:fingerprint])

  defp unsigned(attributes, _, _),
    do: without(attributes, [:message_integrity, :message_integrity_sha256, :fingerprint])

  defp without(attributes, names) when is_list(attributes),
    do: Enum.reject(attributes, &(is_tuple(&1) and tuple_size(&1) == 2 and elem(&1, 0) in names))

  defp without(attributes, _names), do: attributes

  # The NIF only says that something is wrong: find out what, and say what would be right.
  defp explain(message, integrity) do
    check!(message.class in @classes, fn ->
      "expected class to be one of #{inspect(@classes)}, got: #{inspect(message.class)}"
    end)

    check!(builds?(message.class, message.method, []), fn ->
      "expected method to be a known name or 0..0xFFF, got: #{inspect(message.method)}"
    end)

    check!(match?(<<_::96>>, message.transaction_id), "expected transaction_id to be 12 bytes")
    check!(proper?(message.attributes), "expected attributes to be a list")

    check!(
      proper?(integrity),
      "expected :integrity to be {:sha1 | :sha256, key}, or a list of those"
    )

    Enum.each(integrity, &check_integrity!/1)
    message.attributes |> Enum.with_index() |> Enum.each(&check_attribute!/1)

    %ArgumentError{message: "the attributes take more than 65535 bytes"}
  rescue
    explained in ArgumentError -> explained
  end

  defp check_integrity!({algorithm, key}) when algorithm in [:sha1, :sha256],
    do: check!(is_binary(key) and byte_size(key) <= 1024, "expected key to be at most 1024 bytes")

  defp check_integrity!({_, _}),
    do: raise(ArgumentError, "expected the integrity algorithm to be :sha1 or :sha256")

  defp check_integrity!(_),
    do: raise(ArgumentError, "expected integrity to be {:sha1 | :sha256, key}")

  defp check_attribute!({attribute, index}) do
    check!(builds?(:request, :binding, [attribute]), fn ->
      "attribute #{index}, #{describe(attribute)}"
    end)
  end

  defp describe({name, value}) when is_map_key(@attributes, name),
    do: "#{inspect(name)}: expected #{@attributes[name]}, got: #{show(value)}"

  defp describe({type, value}) when is_integer(type),
    do: "of type #{type}: expected {0..0xFFFF, binary}, got: {#{type}, #{show(value)}}"

  defp describe({name, _value}) when is_atom(name), do: "#{inspect(name)}: no such attribute"
  defp describe(_other), do: "expected {name, value} or {type, binary}"

  # Values can be tokens and the like: of a binary no more than its size is shown.
  defp show(value) when is_binary(value), do: "a binary of #{byte_size(value)} bytes"
  defp show(value) when is_number(value) or is_atom(value), do: inspect(value)
  defp show(value) when is_list(value), do: "a list"

  defp show(value) when is_tuple(value),
    do: "{#{value |> Tuple.to_list() |> Enum.map_join(", ", &show/1)}}"

  defp show(_value), do: "another term"

  defp builds?(class, method, attributes) do
    is_binary(Nif.stun_build(class, method, <<0::96>>, attributes, [], false))
  rescue
    ArgumentError -> false
  end

  defp proper?(list), do: is_list(list) and List.improper?(list) == false

  defp check!(true, _message), do: :ok
  defp check!(false, message) when is_binary(message), do: raise(ArgumentError, message)
  defp check!(false, message), do: raise(ArgumentError, message.())
end
