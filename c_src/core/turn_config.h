/* The configuration of an engine: one validated, immutable struct, shared by all workers. */
#ifndef CT_CORE_TURN_CONFIG_H
#define CT_CORE_TURN_CONFIG_H

#include "core/addr.h"
#include "core/turn_policy.h"
#include "core/turn_token.h"

enum {
    TURN_REALM_MAX = 127, /* characters, RFC 8489 §14.9 */
    TURN_SOFTWARE_MAX = 127,
    TURN_SECRETS_MAX = 8,
    TURN_SECRET_MAX = 256, /* bytes */
    TURN_RELAYS_MAX = 8,
    TURN_OWN_MAX = 64,
    TURN_REDIRECTS_MAX = 8,
    TURN_DOMAIN_MAX = 255,      /* ASCII, RFC 8489 §14.16 */
    TURN_LIFETIME_LIMIT = 3600, /* seconds: the most that lifetime_max may be, RFC 8656 §7.2 */
};

/* Whom allocations are made for, and how far they reach. */
enum turn_admission {
    TURN_ADMISSION_OFF,      /* whoever has credentials */
    TURN_ADMISSION_PRESENCE, /* and a grant, as of turn_grants.h */
    TURN_ADMISSION_ROOM      /* and only to relayed addresses of users in the same room */
};

struct turn_secret {
    uint8_t bytes[TURN_SECRET_MAX];
    uint16_t len;
};

/* One IP that relayed transport addresses are made of. Ports are 0. */
struct turn_relay_ip {
    struct addr bind;     /* where sockets are bound */
    struct addr external; /* what clients are told; equal to bind without a 1:1 NAT */
};

/* NAT behaviour discovery, RFC 5780 §6: two IPs and two ports, four sockets. */
enum {
    TURN_OTHER_PORT = 1, /* bits of an index into the four */
    TURN_OTHER_IP = 2,
    TURN_DISCOVERY_PLACES = 4,
};

struct turn_discovery {
    bool on;
    struct addr at[TURN_DISCOVERY_PLACES]; /* where sockets are bound */
    uint32_t link[TURN_DISCOVERY_PLACES];  /* turn_tuple.link of each, for all workers */
};

struct turn_config {
    char realm[TURN_REALM_MAX + 1];
    char software[TURN_SOFTWARE_MAX + 1];         /* empty: no SOFTWARE attribute */
    struct turn_secret secrets[TURN_SECRETS_MAX]; /* all valid at once; the first is tried first */
    uint8_t secret_count;
    /* of authorization servers (RFC 7635); none: third-party authorization is not offered */
    struct turn_token_key oauth_keys[TURN_TOKEN_KEYS_MAX];
    uint8_t oauth_key_count;
    char oauth_server_name[TURN_REALM_MAX + 1]; /* empty: the realm */
    struct turn_relay_ip relays[TURN_RELAYS_MAX];
    uint8_t relay_count;
    /* every IP of the relay itself, ports 0: no peer unless allowed, but for relayed ports */
    struct addr own[TURN_OWN_MAX];
    uint8_t own_count;
    uint16_t port_min, port_max; /* relayed ports, both included */
    /* where Allocate requests are sent instead (RFC 8489 §10); none: they are served */
    struct addr redirect[TURN_REDIRECTS_MAX];
    uint8_t redirect_count;
    char alternate_domain[TURN_DOMAIN_MAX + 1]; /* of the certificates there, if it is another */

    /* seconds */
    uint32_t lifetime_default;     /* 600 */
    uint32_t lifetime_max;         /* 3600 */
    uint32_t permission_lifetime;  /* 300 */
    uint32_t channel_lifetime;     /* 600 */
    uint32_t channel_quarantine;   /* 300: a channel's number and peer stay married that long */
    uint32_t reservation_lifetime; /* 30 */
    uint32_t nonce_lifetime;       /* 3600 */

    uint32_t max_allocations; /* in the whole relay */
    uint32_t user_quota;      /* allocations per user, 0: no limit */
    /*
     * bytes of payload per second, user and direction, on each worker; 0: no limit. Fixed when the
     * engine is made in so far as it is 0 or not.
     */
    uint32_t user_bandwidth;
    uint32_t max_permissions; /* per allocation */
    uint32_t max_channels;    /* per allocation */
    uint32_t challenge_rate;  /* refusals per second and source, 0: no limit; loopback is exempt */
    uint32_t challenge_burst;
    /* usernames remembered to be found by USERHASH, RFC 8489 §14.4; 0: not served, not announced */
    uint32_t userhashes;
    bool keep_dscp;         /* for the worker: relayed datagrams keep DSCP and ECN, RFC 8656 §14 */
    bool tcp_allocations;   /* RFC 6062 */
    uint32_t max_tcp_peers; /* TCP connections with peers, in the whole relay */
    uint32_t allocation_tcp_peers; /* and per allocation */
    bool permission_events;        /* each new permission is told, RFC 8656 §21.3.2 */
    bool classic_stun;             /* Binding requests of RFC 3489 are answered over UDP */
    bool mobility; /* RFC 8016; fixed when the engine is made, but for being turned off */
    /* data between two relayed addresses of this relay stays in memory, not over the sockets */
    bool pair;
    /*
     * Relayed addresses are virtual: no socket is opened for any, and only relayed addresses of
     * this relay can be peers. Fixed when the engine is made; needs `pair`.
     */
    bool switched;
    uint8_t admission;   /* enum turn_admission; fixed when the engine is made, */
    uint32_t max_grants; /* as is this: pairs of user and room */

    struct turn_policy policy;
    struct turn_discovery discovery;
    uint8_t nonce_key[32]; /* random, one for all workers */
};

/* Whether only relayed addresses of this relay can be peers. */
static inline bool turn_config_closed(const struct turn_config *config)
{
    return config->switched || config->admission == TURN_ADMISSION_ROOM;
}

/* Every default of the RFCs and ours; realm "cromulent_turn", no secret, no relay address. */
void turn_config_defaults(struct turn_config *config);

/* By which name tokens are for this server: THIRD-PARTY-AUTHORIZATION, RFC 7635 §6.1. */
struct span turn_config_server_name(const struct turn_config *config);

/*
 * NULL when the configuration can be run, else a sentence that says what is wrong with which field.
 */
const char *turn_config_check(const struct turn_config *config);

#endif
