defmodule Cromulent.Turn.StunSamples do
  @moduledoc false
  # A message to put attributes in, and a value for each attribute there is.

  alias Cromulent.Turn.Stun

  @tid <<0xB7E7A701BC34D686FA87DFAE::96>>

  # Each attribute with a value of its form.
  @samples [
    mapped_address: {{192, 0, 2, 1}, 32_853},
    change_request: [:ip, :port],
    username: "evtj:h6vY",
    message_integrity: :binary.copy(<<7>>, 20),
    error_code: {438, "Stale Nonce"},
    unknown_attributes: [0x7F00, 0x001A, 0],
    channel_number: 0x4ABC,
    lifetime: 0xFFFFFFFF,
    xor_peer_address: {{0x2001, 0xDB8, 0, 0, 0, 0, 0, 1}, 49_152},
    data: "",
    realm: "example.org",
    nonce: "f//499k954d6OL34oL9FSTvy64sA",
    xor_relayed_address: {{255, 255, 255, 255}, 65_535},
    requested_address_family: :ipv6,
    even_port: true,
    requested_transport: :udp,
    dont_fragment: true,
    access_token: "token",
    message_integrity_sha256: :binary.copy(<<9>>, 32),
    password_algorithm: {:sha256, ""},
    userhash: :binary.copy(<<1>>, 32),
    xor_mapped_address: {{0, 0, 0, 0}, 0},
    reservation_token: "12345678",
    priority: 0x6E0001FF,
    use_candidate: true,
    padding: :binary.copy(<<0>>, 33),
    response_port: 3478,
    connection_id: 0xDEADBEEF,
    additional_address_family: :ipv4,
    address_error_code: {:ipv6, 440, "Address Family not Supported"},
    password_algorithms: [{:sha256, ""}, {7, "abc"}, {:md5, ""}],
    alternate_domain: "example.net",
    icmp: {3, 4, 1280},
    software: "test",
    alternate_server: {{0xFF02, 0, 0, 0, 0, 0, 0, 1}, 1},
    transaction_transmit_counter: 0x0102,
    cache_timeout: 0,
    fingerprint: 0,
    ice_controlled: 0x932FF9B151263B36,
    ice_controlling: 0xFFFFFFFFFFFFFFFF,
    response_origin: {{1, 2, 3, 4}, 5},
    other_address: {{1, 2, 3, 4}, 6},
    ecn_check: 1,
    third_party_authorization: "stun.example.org",
    origin: "https://example.org",
    mobility_ticket: "",
    additional_family_draft: :ipv6,
    goog_network_info: 0x00010032
  ]

  def samples, do: @samples

  def message(attributes),
    do: %Stun{class: :request, method: :binding, transaction_id: @tid, attributes: attributes}

  def type_of(type) when is_integer(type), do: type

  def type_of(name) do
    <<_::160, type::16, _::binary>> = Stun.encode(message([{name, @samples[name]}]))
    type
  end

  def put_byte(packet, at, fun) do
    <<head::binary-size(at), byte, tail::binary>> = packet
    <<head::binary, fun.(byte), tail::binary>>
  end
end
