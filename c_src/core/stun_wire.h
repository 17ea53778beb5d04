/*
 * The numbers of STUN and TURN: what bytes mean, in tables.
 *
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |0 0|  M11..M7  |C1| M6..M4 |C0| M3..M0 |    Message Length     |   RFC 8489 §5
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                   Magic Cookie  0x2112A442                    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                  Transaction ID (96 bits)                     |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Type                  |            Length             |   attributes, RFC 8489 §14:
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+   Length is that of the value,
 * |              Value, padded to a multiple of 4 ....            |   without the padding
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 */
#ifndef CT_CORE_STUN_WIRE_H
#define CT_CORE_STUN_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STUN_COOKIE          0x2112A442u
#define STUN_FINGERPRINT_XOR 0x5354554Eu

enum {
    STUN_HEADER_SIZE = 20,
    STUN_LENGTH_MAX = 65532, /* 16 bits, and a multiple of 4 */
    STUN_ATTR_HEADER_SIZE = 4,
    STUN_TID_SIZE = 12,
    STUN_USERNAME_MAX = 508, /* bytes, RFC 8489 §14.3 */
    STUN_TEXT_MAX = 763,     /* the most bytes of a USERNAME, REALM, NONCE or SOFTWARE, §14.9 */
    STUN_CHANNEL_MIN = 0x4000,
    STUN_CHANNEL_MAX = 0x4FFF,     /* RFC 8656 §12 */
    STUN_CHANNEL_OLD_MAX = 0x7FFF, /* RFC 5766 §11: what clients of that time choose from */
    STUN_CHANNEL_HEADER_SIZE = 4,
};

enum stun_class {
    STUN_REQUEST = 0x000,
    STUN_INDICATION = 0x010,
    STUN_SUCCESS = 0x100,
    STUN_ERROR = 0x110,
};

/* X(enumerator, number, name) */
#define STUN_METHODS(X)                                     \
    X(STUN_BINDING, 0x001, "binding")   /* RFC 8489 */      \
    X(STUN_ALLOCATE, 0x003, "allocate") /* RFC 8656 */      \
    X(STUN_REFRESH, 0x004, "refresh")                       \
    X(STUN_SEND, 0x006, "send")                             \
    X(STUN_DATA, 0x007, "data")                             \
    X(STUN_CREATE_PERMISSION, 0x008, "create_permission")   \
    X(STUN_CHANNEL_BIND, 0x009, "channel_bind")             \
    X(STUN_CONNECT, 0x00A, "connect") /* RFC 6062 */        \
    X(STUN_CONNECTION_BIND, 0x00B, "connection_bind")       \
    X(STUN_CONNECTION_ATTEMPT, 0x00C, "connection_attempt") \
    X(STUN_GOOG_PING, 0x080, "goog_ping") /* libwebrtc, private use */

enum stun_method {
#define STUN_METHOD_ENUM(sym, num, name) sym = (num),
    STUN_METHODS(STUN_METHOD_ENUM)
#undef STUN_METHOD_ENUM
};

/* How the bytes of an attribute's value are to be read; the NIF and the encoder go by this. */
enum stun_kind {
    STUN_KIND_FLAG,  /* empty */
    STUN_KIND_BYTES, /* opaque */
    STUN_KIND_TEXT,  /* UTF-8 */
    STUN_KIND_U32,
    STUN_KIND_U64,
    STUN_KIND_ADDR,       /* as MAPPED-ADDRESS, RFC 8489 §14.1 */
    STUN_KIND_XADDR,      /* as XOR-MAPPED-ADDRESS, §14.2 */
    STUN_KIND_ERROR,      /* ERROR-CODE, §14.8 */
    STUN_KIND_TYPES,      /* list of attribute types, §14.13 */
    STUN_KIND_CHANNEL,    /* u16 channel, u16 ignored, RFC 8656 §18.1 */
    STUN_KIND_FAMILY,     /* u8 address family, 24 bits ignored, §18.6 */
    STUN_KIND_PROTOCOL,   /* u8 IP protocol number, 24 bits ignored, §18.8 */
    STUN_KIND_EVEN_PORT,  /* bit 0x80 is R, §18.7 */
    STUN_KIND_ALGORITHM,  /* u16 algorithm, u16 length, parameters, RFC 8489 §14.12 */
    STUN_KIND_ALGORITHMS, /* list of the same, parameters padded, §14.11 */
    STUN_KIND_ADDR_ERROR, /* u8 family, then as ERROR-CODE, RFC 8656 §18.12 */
    STUN_KIND_ICMP,       /* u16 zero, u8 type, u8 code, u32 data, §18.13 */
    STUN_KIND_CHANGE,     /* CHANGE-REQUEST bits 0x04 (IP), 0x02 (port), RFC 5780 §7.2 */
    STUN_KIND_PORT,       /* u16 port, 2 bytes of padding or none, RFC 5780 §7.5 */
};

/* X(id, type, name, kind, least, most): value lengths in bytes; see stun_attr_length_ok(). */
#define STUN_ATTRS(X)                                                                 \
    X(MAPPED_ADDRESS, 0x0001, "mapped_address", ADDR, 8, 20)                          \
    X(CHANGE_REQUEST, 0x0003, "change_request", CHANGE, 4, 4)                         \
    X(USERNAME, 0x0006, "username", TEXT, 0, 763)                                     \
    X(MESSAGE_INTEGRITY, 0x0008, "message_integrity", BYTES, 20, 20)                  \
    X(ERROR_CODE, 0x0009, "error_code", ERROR, 4, 767)                                \
    X(UNKNOWN_ATTRIBUTES, 0x000A, "unknown_attributes", TYPES, 0, 65535)              \
    X(CHANNEL_NUMBER, 0x000C, "channel_number", CHANNEL, 4, 4)                        \
    X(LIFETIME, 0x000D, "lifetime", U32, 4, 4)                                        \
    X(XOR_PEER_ADDRESS, 0x0012, "xor_peer_address", XADDR, 8, 20)                     \
    X(DATA, 0x0013, "data", BYTES, 0, 65535)                                          \
    X(REALM, 0x0014, "realm", TEXT, 0, 763)                                           \
    X(NONCE, 0x0015, "nonce", TEXT, 0, 763)                                           \
    X(XOR_RELAYED_ADDRESS, 0x0016, "xor_relayed_address", XADDR, 8, 20)               \
    X(REQUESTED_ADDRESS_FAMILY, 0x0017, "requested_address_family", FAMILY, 4, 4)     \
    X(EVEN_PORT, 0x0018, "even_port", EVEN_PORT, 1, 1)                                \
    X(REQUESTED_TRANSPORT, 0x0019, "requested_transport", PROTOCOL, 4, 4)             \
    X(DONT_FRAGMENT, 0x001A, "dont_fragment", FLAG, 0, 0)                             \
    X(ACCESS_TOKEN, 0x001B, "access_token", BYTES, 0, 65535)                          \
    X(MESSAGE_INTEGRITY_SHA256, 0x001C, "message_integrity_sha256", BYTES, 16, 32)    \
    X(PASSWORD_ALGORITHM, 0x001D, "password_algorithm", ALGORITHM, 4, 65535)          \
    X(USERHASH, 0x001E, "userhash", BYTES, 32, 32)                                    \
    X(XOR_MAPPED_ADDRESS, 0x0020, "xor_mapped_address", XADDR, 8, 20)                 \
    X(RESERVATION_TOKEN, 0x0022, "reservation_token", BYTES, 8, 8)                    \
    X(PRIORITY, 0x0024, "priority", U32, 4, 4)                                        \
    X(USE_CANDIDATE, 0x0025, "use_candidate", FLAG, 0, 0)                             \
    X(PADDING, 0x0026, "padding", BYTES, 0, 65535)                                    \
    X(RESPONSE_PORT, 0x0027, "response_port", PORT, 2, 4)                             \
    X(CONNECTION_ID, 0x002A, "connection_id", U32, 4, 4)                              \
    X(ADDITIONAL_ADDRESS_FAMILY, 0x8000, "additional_address_family", FAMILY, 4, 4)   \
    X(ADDRESS_ERROR_CODE, 0x8001, "address_error_code", ADDR_ERROR, 4, 767)           \
    X(PASSWORD_ALGORITHMS, 0x8002, "password_algorithms", ALGORITHMS, 0, 65535)       \
    X(ALTERNATE_DOMAIN, 0x8003, "alternate_domain", TEXT, 0, 255)                     \
    X(ICMP, 0x8004, "icmp", ICMP, 8, 8)                                               \
    X(SOFTWARE, 0x8022, "software", TEXT, 0, 763)                                     \
    X(ALTERNATE_SERVER, 0x8023, "alternate_server", ADDR, 8, 20)                      \
    X(TRANSMIT_COUNTER, 0x8025, "transaction_transmit_counter", U32, 4, 4)            \
    X(CACHE_TIMEOUT, 0x8027, "cache_timeout", U32, 4, 4)                              \
    X(FINGERPRINT, 0x8028, "fingerprint", U32, 4, 4)                                  \
    X(ICE_CONTROLLED, 0x8029, "ice_controlled", U64, 8, 8)                            \
    X(ICE_CONTROLLING, 0x802A, "ice_controlling", U64, 8, 8)                          \
    X(RESPONSE_ORIGIN, 0x802B, "response_origin", ADDR, 8, 20)                        \
    X(OTHER_ADDRESS, 0x802C, "other_address", ADDR, 8, 20)                            \
    X(ECN_CHECK, 0x802D, "ecn_check", U32, 4, 4)                                      \
    X(THIRD_PARTY_AUTHORIZATION, 0x802E, "third_party_authorization", TEXT, 0, 65535) \
    X(ORIGIN, 0x802F, "origin", TEXT, 0, 65535)                                       \
    X(MOBILITY_TICKET, 0x8030, "mobility_ticket", BYTES, 0, 65535)                    \
    X(ADDITIONAL_FAMILY_DRAFT, 0x8032, "additional_family_draft", FAMILY, 4, 4)       \
    X(GOOG_NETWORK_INFO, 0xC057, "goog_network_info", U32, 4, 4)

/* Dense numbers of the attributes we know, STUN_ID_USERNAME and so on; fewer than 64. */
enum stun_attr_id {
#define STUN_ATTR_ID(id, type, name, kind, least, most) STUN_ID_##id,
    STUN_ATTRS(STUN_ATTR_ID)
#undef STUN_ATTR_ID
    STUN_ID_COUNT,
    STUN_ID_UNKNOWN = STUN_ID_COUNT,
};

/* Wire types, STUN_ATTR_USERNAME = 0x0006 and so on. */
enum stun_attr_type {
#define STUN_ATTR_TYPE(id, type, name, kind, least, most) STUN_ATTR_##id = (type),
    STUN_ATTRS(STUN_ATTR_TYPE)
#undef STUN_ATTR_TYPE
};

struct stun_attr_def {
    const char *name;
    enum stun_kind kind;
    uint16_t type;
    uint16_t least, most; /* bytes of value */
};

/* X(enumerator, code, reason phrase): RFC 8489 §14.8, RFC 8656 §19, RFC 6062 §6.3, RFC 8016 §3.4 */
#define STUN_ERRORS(X)                                                   \
    X(STUN_TRY_ALTERNATE, 300, "Try Alternate")                          \
    X(STUN_BAD_REQUEST, 400, "Bad Request")                              \
    X(STUN_UNAUTHENTICATED, 401, "Unauthenticated")                      \
    X(STUN_FORBIDDEN, 403, "Forbidden")                                  \
    X(STUN_MOBILITY_FORBIDDEN, 405, "Mobility Forbidden")                \
    X(STUN_UNKNOWN_ATTRIBUTE, 420, "Unknown Attribute")                  \
    X(STUN_ALLOCATION_MISMATCH, 437, "Allocation Mismatch")              \
    X(STUN_STALE_NONCE, 438, "Stale Nonce")                              \
    X(STUN_FAMILY_NOT_SUPPORTED, 440, "Address Family not Supported")    \
    X(STUN_WRONG_CREDENTIALS, 441, "Wrong Credentials")                  \
    X(STUN_UNSUPPORTED_TRANSPORT, 442, "Unsupported Transport Protocol") \
    X(STUN_PEER_FAMILY_MISMATCH, 443, "Peer Address Family Mismatch")    \
    X(STUN_CONNECTION_EXISTS, 446, "Connection Already Exists")          \
    X(STUN_CONNECTION_FAILED, 447, "Connection Timeout or Failure")      \
    X(STUN_QUOTA_REACHED, 486, "Allocation Quota Reached")               \
    X(STUN_ROLE_CONFLICT, 487, "Role Conflict")                          \
    X(STUN_SERVER_ERROR, 500, "Server Error")                            \
    X(STUN_INSUFFICIENT_CAPACITY, 508, "Insufficient Capacity")

enum stun_error {
#define STUN_ERROR_ENUM(sym, code, reason) sym = (code),
    STUN_ERRORS(STUN_ERROR_ENUM)
#undef STUN_ERROR_ENUM
};

/* Password algorithms, RFC 8489 §18.5. */
enum stun_password_algorithm {
    STUN_PASSWORD_NONE = 0, /* reserved there: a key that was made of no password */
    STUN_PASSWORD_MD5 = 0x0001,
    STUN_PASSWORD_SHA256 = 0x0002
};

/* The 16-bit message type of a method (0..0xFFF) and class. */
static inline uint16_t stun_type(uint16_t method, enum stun_class cls)
{
    return (uint16_t)((method & 0x000Fu) | (method & 0x0070u) << 1 | (method & 0x0F80u) << 2 |
                      (unsigned)cls);
}

static inline uint16_t stun_type_method(uint16_t type)
{
    return (uint16_t)((type & 0x000Fu) | (type & 0x00E0u) >> 1 | (type & 0x3E00u) >> 2);
}

static inline enum stun_class stun_type_class(uint16_t type)
{
    return (enum stun_class)(type & 0x0110u);
}

/* Comprehension-required types are 0x0000-0x7FFF (RFC 8489 §14). */
static inline bool stun_attr_required(uint16_t type)
{
    return type < 0x8000;
}

static inline size_t stun_padded(size_t n)
{
    return (n + 3) & ~(size_t)3;
}

/* The definition of a known attribute; id < STUN_ID_COUNT. */
const struct stun_attr_def *stun_attr_def(enum stun_attr_id id);

/*
 * Where a type stands in stun_attr_slots: 0x0000-0x00FF first, then 0x8000-0x80FF, and one slot for
 * the only type beyond (two there would be a compiler warning).
 */
#define STUN_ATTR_SLOT(type) \
    (((type)&0x7F00) == 0 ? (((type) >> 7 & 0x100) | ((type)&0xFF)) : STUN_ATTR_SLOTS - 1)

enum {
    STUN_ATTR_SLOTS = 513
};

/* The id plus one, 0 for unknown types. */
extern const uint8_t stun_attr_slots[STUN_ATTR_SLOTS];

/* STUN_ID_UNKNOWN when the type is not in the table. Constant time. */
static inline enum stun_attr_id stun_attr_id(uint16_t type)
{
    if ((type & 0x7F00) != 0 && type != STUN_ATTR_GOOG_NETWORK_INFO)
        return STUN_ID_UNKNOWN;
    uint8_t slot = stun_attr_slots[STUN_ATTR_SLOT(type)];
    return slot == 0 ? STUN_ID_UNKNOWN : (enum stun_attr_id)(slot - 1);
}

/*
 * True when a value of this many bytes is well-formed for the attribute: within least..most, and
 * 8 or 20 for addresses, a multiple of 4 for MESSAGE-INTEGRITY-SHA256, even for UNKNOWN-ATTRIBUTES,
 * 2 or 4 for RESPONSE-PORT.
 */
bool stun_attr_length_ok(enum stun_attr_id id, size_t len);

/* NULL when the method is not in the table. */
const char *stun_method_name(uint16_t method);

/* The registered reason phrase, or "Error" for a code that is not in the table. */
const char *stun_error_reason(unsigned code);

#endif
