#include "relay/config.h"

#include "core/turn_grants.h"
#include "core/turn_users.h"
#include "crypto/crypto.h"
#include "relay/config_value.h"
#include "relay/own.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- keys ---- */

#define TURN_OFFSET(field) offsetof(struct relay_config, turn.field)
#define STREAM_NUMBER(field, from, to)                                          \
    {                                                                           \
        .name = #field, .read = config_read_number, .min = (from), .max = (to), \
        .offset = offsetof(struct relay_config, stream.field)                   \
    }
#define NUMBER(field, from, to)                                                                  \
    {                                                                                            \
        .name = #field, .read = config_read_number, .offset = TURN_OFFSET(field), .min = (from), \
        .max = (to)                                                                              \
    }

static const struct config_key keys[] = {
    {.name = "listen",
     .read = config_read_listen,
     .required = true,
     .right = "a list of 1 to 16 addresses like \"udp:IP:PORT\" or \"tcp:[IPv6]:PORT\""},
    {.name = "realm",
     .read = config_read_line,
     .required = true,
     .offset = TURN_OFFSET(realm),
     .min = 1,
     .max = TURN_REALM_MAX,
     .right = "one line of 1 to 127 bytes"},
    {.name = "secrets",
     .read = config_read_secrets,
     .required = true,
     .secret = true,
     .right = "a list of 1 to 8 binaries of 1 to 256 bytes"},
    {.name = "oauth_keys",
     .read = config_read_oauth_keys,
     .secret = true,
     .right = "a list of at most 16 maps #{kid, key}, also with not_before and not_after"},
    {.name = "oauth_server_name",
     .read = config_read_line,
     .offset = TURN_OFFSET(oauth_server_name),
     .max = TURN_REALM_MAX,
     .right = "one line of up to 127 bytes"},
    {.name = "relays",
     .read = config_read_relays,
     .required = true,
     .right = "a list of 1 to 8 pairs {BindIp, ExternalIp}, without ports, not 0.0.0.0 or ::"},
    {.name = "ports",
     .read = config_read_ports,
     .min = 1024,
     .max = UINT16_MAX,
     .right = "{Min, Max} with 1024 =< Min =< Max =< 65535"},
    {.name = "workers",
     .read = config_read_number,
     .offset = offsetof(struct relay_config, workers),
     .min = 1,
     .max = WORKERS_MAX},
    {.name = "allow_peers",
     .read = config_read_allow_peers,
     .right = "a list of CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "deny_peers",
     .read = config_read_deny_peers,
     .right = "a list of CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "software",
     .read = config_read_line,
     .offset = TURN_OFFSET(software),
     .max = TURN_SOFTWARE_MAX,
     .right = "one line of up to 127 bytes"},
    {.name = "alternate",
     .read = config_read_alternate,
     .right = "an address \"IP:PORT\" or \"[IPv6]:PORT\", not 0.0.0.0 or ::"},
    {.name = "redirect",
     .read = config_read_redirect,
     .right = "a list of at most 8 addresses \"IP:PORT\" or \"[IPv6]:PORT\""},
    {.name = "alternate_domain",
     .read = config_read_line,
     .offset = TURN_OFFSET(alternate_domain),
     .max = TURN_DOMAIN_MAX,
     .right = "a DNS name of up to 255 bytes"},
    {.name = "keep_dscp",
     .read = config_read_bool,
     .offset = TURN_OFFSET(keep_dscp),
     .right = "true or false"},
    {.name = "permission_events",
     .read = config_read_bool,
     .offset = TURN_OFFSET(permission_events),
     .right = "true or false"},
    {.name = "classic_stun",
     .read = config_read_bool,
     .offset = TURN_OFFSET(classic_stun),
     .right = "true or false"},
    {.name = "mobility",
     .read = config_read_bool,
     .offset = TURN_OFFSET(mobility),
     .right = "true or false"},
    {.name = "tcp_allocations",
     .read = config_read_bool,
     .offset = TURN_OFFSET(tcp_allocations),
     .right = "true or false"},
    NUMBER(max_tcp_peers, 1, 1u << 20),
    NUMBER(allocation_tcp_peers, 1, 4096),
    {.name = "mode", .read = config_read_mode, .right = "open or switch"},
    {.name = "admission", .read = config_read_admission, .right = "off, presence or room"},
    NUMBER(max_grants, 1, TURN_GRANTS_LIMIT),
    {.name = "pair",
     .read = config_read_bool,
     .offset = TURN_OFFSET(pair),
     .right = "true or false"},
    NUMBER(max_allocations, 1, 1u << 24),
    NUMBER(user_quota, 0, UINT32_MAX),
    NUMBER(user_bandwidth, 0, UINT32_MAX),
    NUMBER(userhashes, 0, TURN_USERS_LIMIT),
    NUMBER(max_permissions, 1, 4096),
    NUMBER(max_channels, 1, 4096),
    NUMBER(lifetime_default, 1, TURN_LIFETIME_LIMIT),
    NUMBER(lifetime_max, 1, TURN_LIFETIME_LIMIT),
    NUMBER(permission_lifetime, 1, TURN_LIFETIME_LIMIT),
    NUMBER(channel_lifetime, 1, TURN_LIFETIME_LIMIT),
    NUMBER(channel_quarantine, 1, TURN_LIFETIME_LIMIT),
    NUMBER(reservation_lifetime, 1, TURN_LIFETIME_LIMIT),
    NUMBER(nonce_lifetime, 1, TURN_LIFETIME_LIMIT),
    NUMBER(challenge_rate, 0, 1000000),
    NUMBER(challenge_burst, 1, 1000000),
    STREAM_NUMBER(max_connections, 1, 1u << 20),
    STREAM_NUMBER(source_connections, 1, 1u << 20),
    STREAM_NUMBER(connection_idle, 1, 3600),
    STREAM_NUMBER(handshake_rate, 0, 1000000),
    STREAM_NUMBER(handshake_burst, 1, 1000000),
    {.name = "proxy_from",
     .read = config_read_proxies,
     .right = "a list of at most 16 CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "cert",
     .read = config_read_cert,
     .right = "PEM text of at most 64 KiB",
     .secret = true},
    {.name = "key",
     .read = config_read_tls_key,
     .right = "PEM text of at most 64 KiB",
     .secret = true},
};

enum {
    KEYS = sizeof keys / sizeof *keys
};
_Static_assert(KEYS <= 64, "one bit of `seen` per key");

static const struct config_key *find_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* "KEY: must be RIGHT, not VALUE" */
static void explain(const struct config_key *key, const struct config_reader *r,
                    char why[CONFIG_WHY_MAX])
{
    char value[TERM_SHOW_MAX], right[64];

    if (!r->right)
        snprintf(right, sizeof right, "an integer from %u to %u", key->min, key->max);
    term_show(&r->culprit, value);
    snprintf(why, CONFIG_WHY_MAX, "%s: must be %s%s%s", key->name, r->right ? r->right : right,
             key->secret ? "" : ", not ", key->secret ? "" : value);
}

static bool read_key(struct config_reader *r, uint64_t *seen, char why[CONFIG_WHY_MAX])
{
    char name[TERM_ATOM_MAX], shown[TERM_SHOW_MAX];
    const struct config_key *key = NULL;

    term_show(&r->in, shown);
    if (term_atom(&r->in, name))
        key = find_key(name);
    if (!key) {
        snprintf(why, CONFIG_WHY_MAX, "%s: not a key of the configuration", shown);
        return false;
    }
    uint64_t bit = UINT64_C(1) << (key - keys);
    r->culprit = r->in;
    r->right = key->right;
    if (!(*seen & bit) && key->read(r, key)) {
        *seen |= bit;
        return true;
    }
    explain(key, r, why);
    return false;
}

static bool all_there(uint64_t seen, char why[CONFIG_WHY_MAX])
{
    for (size_t i = 0; i < KEYS; i++) {
        if (!keys[i].required || seen & UINT64_C(1) << i)
            continue;
        snprintf(why, CONFIG_WHY_MAX, "%s: missing, must be %s", keys[i].name, keys[i].right);
        return false;
    }
    return true;
}

int config_discovery(const struct relay_config *c)
{
    for (uint32_t i = 0; i < c->listen_count; i++)
        if (c->listen[i].transport == TURN_UDP && c->listen[i].at.family == c->alternate.family)
            return (int)i;
    return -1;
}

/* The two must differ in both parts, and answers leave from one address. */
static const char *alternate_problem(const struct relay_config *c)
{
    int first = config_discovery(c);

    if (c->alternate.family == ADDR_NONE)
        return NULL;
    if (first < 0 || addr_is_any(&c->listen[first].at))
        return "alternate: needs a udp: listener before it on one address of its family";
    if (addr_ip_eq(&c->listen[first].at, &c->alternate))
        return "alternate: must have another IP than the first udp: listener of its family";
    if (c->alternate.port && c->listen[first].at.port == c->alternate.port)
        return "alternate: must have another port than the first udp: listener of its family";
    return NULL;
}

static bool needs_tls(const struct relay_config *c)
{
    for (uint32_t i = 0; i < c->listen_count; i++)
        if (c->listen[i].transport == TURN_TLS || c->listen[i].transport == TURN_DTLS)
            return true;
    return false;
}

static bool build_tls(struct config_reader *r, char why[CONFIG_WHY_MAX])
{
    if (r->cert.len && r->key.len) {
        r->config->stream.tls = tls_context_new(r->cert, r->key, why);
        return r->config->stream.tls != NULL;
    }
    const char *missing = r->key.len ? "cert" : r->cert.len || needs_tls(r->config) ? "key" : NULL;
    if (missing)
        snprintf(
            why, CONFIG_WHY_MAX,
            "%s: missing, a certificate and its key are given together, and tls: and dtls: need them",
            missing);
    return !missing;
}

/* What no key can see alone. */
static bool fits_together(const struct relay_config *config, char why[CONFIG_WHY_MAX])
{
    const struct turn_config *c = &config->turn;

    if (c->lifetime_default > c->lifetime_max) {
        snprintf(why, CONFIG_WHY_MAX, "lifetime_default: must be at most lifetime_max (%u), not %u",
                 c->lifetime_max, c->lifetime_default);
        return false;
    }
    const char *problem = turn_config_check(c);
    if (!problem)
        problem = alternate_problem(config);
    if (problem)
        snprintf(why, CONFIG_WHY_MAX, "%s", problem);
    return !problem;
}

static bool read_map(struct config_reader *r, char why[CONFIG_WHY_MAX])
{
    uint64_t seen = 0;
    int n = term_map(&r->in);

    if (n < 0) {
        snprintf(why, CONFIG_WHY_MAX, "the configuration must be a map");
        return false;
    }
    for (int i = 0; i < n; i++)
        if (!read_key(r, &seen, why))
            return false;
    return all_there(seen, why) && fits_together(r->config, why) && build_tls(r, why);
}

static uint32_t default_workers(void)
{
    unsigned cores = uv_available_parallelism();

    return cores < 1 ? 1 : cores > WORKERS_MAX ? WORKERS_MAX : cores;
}

struct relay_config *config_read(struct term_in *in, char why[CONFIG_WHY_MAX])
{
    struct relay_config *c = calloc(1, sizeof *c);

    if (!c) {
        snprintf(why, CONFIG_WHY_MAX, "no memory for the configuration");
        return NULL;
    }
    turn_config_defaults(&c->turn);
    c->stream = (struct stream_config){
        .max_connections = 8192,
        .source_connections = 1024,
        .connection_idle = 30,
        .handshake_rate = 100,
        .handshake_burst = 400,
    };
    c->workers = default_workers();
    struct config_reader r = {.config = c, .in = *in};
    if (!read_map(&r, why)) {
        config_free(c);
        return NULL;
    }
    c->asked_allocations = c->turn.max_allocations;
    c->asked_connections = c->stream.max_connections;
    c->asked_tcp_peers = c->turn.max_tcp_peers;
    own_note(c);
    *in = r.in;
    return c;
}

void config_free(struct relay_config *config)
{
    if (!config)
        return;
    tls_context_free(config->stream.tls);
    crypto_wipe(config, sizeof *config);
    free(config);
}

bool config_may_follow(const struct relay_config *old, const struct relay_config *next,
                       char why[CONFIG_WHY_MAX])
{
    const struct turn_config *a = &old->turn, *b = &next->turn;
    const struct {
        const char *key;
        bool same;
    } fixed[] = {
        {"listen", old->listen_count == next->listen_count &&
                       memcmp(old->listen, next->listen, sizeof old->listen) == 0},
        {"relays",
         a->relay_count == b->relay_count && memcmp(a->relays, b->relays, sizeof a->relays) == 0},
        {"ports", a->port_min == b->port_min && a->port_max == b->port_max},
        {"workers", old->workers == next->workers},
        {"max_allocations", old->asked_allocations == next->asked_allocations},
        {"userhashes", a->userhashes == b->userhashes},
        {"mobility", a->mobility == b->mobility},
        {"mode", a->switched == b->switched},
        {"admission", a->admission == b->admission},
        {"max_grants", a->max_grants == b->max_grants},
        {"user_bandwidth", !a->user_bandwidth == !b->user_bandwidth},
        {"keep_dscp", a->keep_dscp == b->keep_dscp},
        {"alternate", memcmp(&old->alternate, &next->alternate, sizeof old->alternate) == 0},
        {"max_tcp_peers", old->asked_tcp_peers == next->asked_tcp_peers},
        {"max_connections", old->asked_connections == next->asked_connections},
    };

    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        if (fixed[i].same)
            continue;
        snprintf(why, CONFIG_WHY_MAX, "%s: must be what it was, a change needs a restart",
                 fixed[i].key);
        return false;
    }
    return true;
}
