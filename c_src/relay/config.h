/* The Config map of docs/control.md, read into what the relay and its engines run on. */
#ifndef CT_RELAY_CONFIG_H
#define CT_RELAY_CONFIG_H

#include "core/turn_config.h"
#include "relay/stream.h"
#include "relay/term.h"
#include "relay/udp.h"
#include "relay/worker.h"

enum {
    CONFIG_WHY_MAX = 320
};

struct relay_listener {
    struct addr at;
    enum turn_transport transport;
};

struct relay_config {
    struct turn_config turn; /* max_allocations may be lowered afterwards, see asked_allocations */
    struct stream_config stream; /* and max_connections, max_tcp_peers */
    struct relay_listener listen[UDP_LISTENERS_MAX];
    uint32_t listen_count;
    uint32_t workers;
    struct addr alternate;      /* of RFC 5780; family ADDR_NONE: none */
    uint32_t asked_allocations; /* max_allocations as it was configured */
    uint32_t asked_connections;
    uint32_t asked_tcp_peers;
};

/* "udp", "tcp", "tls", "dtls": how a listener of this transport is written in the configuration. */
const char *config_scheme(enum turn_transport transport);

/*
 * Reads the next term. NULL when it cannot be run on; then `why` is a sentence that names the key,
 * the value (a secret's never) and what would be right. The nonce key is left zero.
 */
struct relay_config *config_read(struct term_in *in, char why[CONFIG_WHY_MAX]);

/* Wiped before it is freed. NULL is fine. */
void config_free(struct relay_config *config);

/* The UDP listener that the alternate address stands beside, as an index into listen; -1: none. */
int config_discovery(const struct relay_config *config);

/* Whether `next` may replace `old` while running; `why` as above. */
bool config_may_follow(const struct relay_config *old, const struct relay_config *next,
                       char why[CONFIG_WHY_MAX]);

#endif
