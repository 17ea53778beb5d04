/*
 * Transport addresses and address prefixes.
 *
 * An address is plain data without hidden padding: an IPv4 address fills the first four bytes of
 * `ip` and leaves the rest zero, so two equal addresses are equal bytes.
 */
#ifndef CT_CORE_ADDR_H
#define CT_CORE_ADDR_H

#include "core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The values of STUN's family byte (RFC 8489 §14.1). */
enum addr_family {
    ADDR_NONE = 0,
    ADDR_V4 = 1,
    ADDR_V6 = 2
};

struct addr {
    uint8_t ip[16]; /* network order; IPv4 in ip[0..3], ip[4..15] zero */
    uint32_t scope; /* IPv6 link-local interface index, else 0 */
    uint16_t port;  /* host order */
    uint8_t family; /* enum addr_family */
    uint8_t zero;   /* always 0 */
};

/* An address prefix ("10.0.0.0/8"). bits <= 32 or 128 by family; host bits are zero. */
struct addr_prefix {
    uint8_t ip[16];
    uint8_t family;
    uint8_t bits;
};

/* Longest text: "[" 45 characters of IPv6 "]:65535" and the final zero. */
enum {
    ADDR_TEXT_MAX = 56,
    ADDR_PREFIX_TEXT_MAX = 50
};

static inline size_t addr_ip_len(uint8_t family)
{
    return family == ADDR_V4 ? 4 : family == ADDR_V6 ? 16 : 0;
}

/* Same address, port, family and scope. */
static inline bool addr_eq(const struct addr *a, const struct addr *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

/* Same family and IP address; ports and scopes are not looked at. */
static inline bool addr_ip_eq(const struct addr *a, const struct addr *b)
{
    return a->family == b->family && memcmp(a->ip, b->ip, sizeof a->ip) == 0;
}

/* An IPv4 address from its four bytes in network order. */
struct addr addr_v4(const uint8_t ip[4], uint16_t port);
/* An IPv6 address from its sixteen bytes in network order, scope 0. */
struct addr addr_v6(const uint8_t ip[16], uint16_t port);

/* All-zero IP (0.0.0.0 or ::). */
bool addr_is_any(const struct addr *a);

/*
 * What an IPv6 address really reaches: the embedded IPv4 address of v4-mapped (::ffff:0:0/96),
 * v4-compatible (::/96, except :: and ::1) and NAT64 (64:ff9b::/96, RFC 6052) forms, of the same
 * port; of 64:ff9b:1::/48 (RFC 8215) the last 32 bits. Any other address comes back as it is.
 */
struct addr addr_canonical(const struct addr *a);

/* "192.0.2.1:3478" or "[2001:db8::1]:3478" (RFC 5952 text); port 0 is printed too. */
void addr_format(const struct addr *a, char out[ADDR_TEXT_MAX]);
/* Only the IP. */
void addr_format_ip(const struct addr *a, char out[ADDR_TEXT_MAX]);

/*
 * Parses "192.0.2.1:3478", "[2001:db8::1]:3478" or an IP alone (port 0; IPv6 with or without
 * brackets). No names, no shorthand ("127.1"), no leading zeros in IPv4 parts. CT_EVALUE otherwise.
 */
enum ct_err addr_parse(const char *text, size_t len, struct addr *out);

/* Parses "10.0.0.0/8", "fd00::/8" or an IP alone (full length). CT_EVALUE for set host bits too. */
enum ct_err addr_prefix_parse(const char *text, size_t len, struct addr_prefix *out);

/* True when the address lies in the prefix; false for another family. */
bool addr_prefix_has(const struct addr_prefix *p, const struct addr *a);

#endif
