#include "relay/config.h"

#include "core/turn_grants.h"
#include "core/turn_users.h"
#include "crypto/crypto.h"
#include "relay/oauth_keys.h"
#include "relay/own.h"

#include <stdio.h>
#include <stdlib.h>

struct reader {
    struct relay_config *config;
    struct term_in in;
    struct term_in culprit; /* the term that a refusal is about */
    const char *right;      /* what it should have been */
    struct span cert, key;  /* views of the frame */
};

enum {
    PEM_MAX = 64 * 1024
};

/* One key of the map. */
struct key {
    const char *name;
    const char *right; /* NULL: an integer from min to max, stored at offset */
    bool (*read)(struct reader *r, const struct key *key);
    size_t offset;
    uint32_t min, max;
    bool required;
    bool secret;
};

/* ---- values ---- */

static bool read_number(struct reader *r, const struct key *key)
{
    uint64_t v;

    if (!term_uint(&r->in, key->max, &v) || v < key->min)
        return false;
    *(uint32_t *)(void *)((char *)r->config + key->offset) = (uint32_t)v;
    return true;
}

static bool read_bool(struct reader *r, const struct key *key)
{
    return term_bool(&r->in, (bool *)((char *)r->config + key->offset));
}

/* open or switch. */
static bool read_mode(struct reader *r, const struct key *key)
{
    char mode[TERM_ATOM_MAX];

    (void)key;
    if (!term_atom(&r->in, mode))
        return false;
    r->config->turn.switched = strcmp(mode, "switch") == 0;
    return r->config->turn.switched || strcmp(mode, "open") == 0;
}

/* off, presence or room. */
static bool read_admission(struct reader *r, const struct key *key)
{
    static const char *const scopes[] = {[TURN_ADMISSION_OFF] = "off",
                                         [TURN_ADMISSION_PRESENCE] = "presence",
                                         [TURN_ADMISSION_ROOM] = "room"};
    char name[TERM_ATOM_MAX];

    (void)key;
    if (!term_atom(&r->in, name))
        return false;
    uint8_t *scope = &r->config->turn.admission;
    for (*scope = 0; *scope < sizeof scopes / sizeof *scopes; ++*scope)
        if (strcmp(scopes[*scope], name) == 0)
            return true;
    return false;
}

/* The next binary, as a C string of one line of min to max bytes. */
static bool read_line(struct reader *r, const struct key *key)
{
    char *out = (char *)r->config + key->offset;
    struct span text;

    if (!term_binary(&r->in, &text) || text.len < key->min || text.len > key->max)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] < 0x20 || text.data[i] == 0x7f)
            return false;
    memcpy(out, text.data, text.len);
    out[text.len] = '\0';
    return true;
}

/* Calls `item` for each of at least min elements, which it must refuse when there are too many. */
static bool read_list(struct reader *r, int min, bool (*item)(struct reader *r))
{
    int n = term_list(&r->in);

    if (n < min)
        return false;
    for (int i = 0; i < n; i++) {
        r->culprit = r->in;
        if (!item(r))
            return false;
    }
    if (n > 0)
        term_list_end(&r->in);
    return true;
}

/* addr_parse() takes an IP alone too; of a listener the port must be written out. */
static bool parse_endpoint(const char *text, size_t len, struct addr *out)
{
    if (len == 0 || addr_parse(text, len, out) != CT_OK)
        return false;
    return out->family == ADDR_V4 ? memchr(text, ':', len) != NULL
                                  : text[0] == '[' && text[len - 1] != ']';
}

static const struct {
    const char *scheme;
    enum turn_transport transport;
} transports[] = {{"udp", TURN_UDP}, {"tcp", TURN_TCP}, {"tls", TURN_TLS}, {"dtls", TURN_DTLS}};

const char *config_scheme(enum turn_transport transport)
{
    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++)
        if (transports[i].transport == transport)
            return transports[i].scheme;
    return "";
}

/* Takes the scheme and its colon off the front of a listener. */
static bool take_scheme(struct span *text, enum turn_transport *transport)
{
    const uint8_t *colon = memchr(text->data, ':', text->len);
    size_t n = colon ? (size_t)(colon - text->data) : 0;

    for (size_t i = 0; i < sizeof transports / sizeof *transports; i++) {
        if (!colon || !span_eq(span_of(text->data, n), span_str(transports[i].scheme)))
            continue;
        *transport = transports[i].transport;
        *text = span_of(colon + 1, text->len - n - 1);
        return true;
    }
    return false;
}

static bool read_listener(struct reader *r)
{
    struct relay_config *c = r->config;
    struct span text;

    if (c->listen_count == UDP_LISTENERS_MAX || !term_binary(&r->in, &text))
        return false;
    struct relay_listener *l = &c->listen[c->listen_count];
    if (!take_scheme(&text, &l->transport) ||
        !parse_endpoint((const char *)text.data, text.len, &l->at))
        return false;
    c->listen_count++;
    return true;
}

static bool read_listen(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 1, read_listener);
}

static bool read_secret(struct reader *r)
{
    struct turn_config *c = &r->config->turn;
    struct span bytes;

    if (c->secret_count == TURN_SECRETS_MAX || !term_binary(&r->in, &bytes) || bytes.len == 0 ||
        bytes.len > TURN_SECRET_MAX)
        return false;
    struct turn_secret *s = &c->secrets[c->secret_count++];
    memcpy(s->bytes, bytes.data, bytes.len);
    s->len = (uint16_t)bytes.len;
    return true;
}

static bool read_secrets(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 1, read_secret);
}

static bool read_ip(struct reader *r, struct addr *out)
{
    struct span text;

    r->culprit = r->in;
    return term_binary(&r->in, &text) &&
           addr_parse((const char *)text.data, text.len, out) == CT_OK && out->port == 0 &&
           !addr_is_any(out);
}

static bool read_relay(struct reader *r)
{
    struct turn_config *c = &r->config->turn;
    struct turn_relay_ip ip;

    if (c->relay_count == TURN_RELAYS_MAX || term_tuple(&r->in) != 2 || !read_ip(r, &ip.bind) ||
        !read_ip(r, &ip.external))
        return false;
    if (ip.bind.family != ip.external.family) {
        r->right = "pairs of IPs of one family";
        return false;
    }
    c->relays[c->relay_count++] = ip;
    return true;
}

static bool read_relays(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 1, read_relay);
}

static bool read_ports(struct reader *r, const struct key *key)
{
    uint64_t min, max;

    if (term_tuple(&r->in) != 2)
        return false;
    r->culprit = r->in;
    if (!term_uint(&r->in, key->max, &min) || min < key->min)
        return false;
    r->culprit = r->in;
    if (!term_uint(&r->in, key->max, &max) || max < min)
        return false;
    r->config->turn.port_min = (uint16_t)min;
    r->config->turn.port_max = (uint16_t)max;
    return true;
}

static bool read_rule(struct reader *r, enum turn_rule_kind kind)
{
    struct span text;
    struct addr_prefix prefix;

    if (!term_binary(&r->in, &text) ||
        addr_prefix_parse((const char *)text.data, text.len, &prefix) != CT_OK)
        return false;
    if (turn_policy_add(&r->config->turn.policy, &prefix, kind) == CT_OK)
        return true;
    r->right = "a shorter list: together with the built-in rules there is room for 256";
    return false;
}

static bool read_allow_rule(struct reader *r)
{
    return read_rule(r, TURN_RULE_ALLOW);
}

static bool read_deny_rule(struct reader *r)
{
    return read_rule(r, TURN_RULE_DENY);
}

static bool read_allow_peers(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 0, read_allow_rule);
}

static bool read_deny_peers(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 0, read_deny_rule);
}

static bool read_alternate(struct reader *r, const struct key *key)
{
    struct span text;

    (void)key;
    return term_binary(&r->in, &text) &&
           parse_endpoint((const char *)text.data, text.len, &r->config->alternate) &&
           !addr_is_any(&r->config->alternate);
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

static bool read_redirect_to(struct reader *r)
{
    struct turn_config *c = &r->config->turn;
    struct span text;

    if (c->redirect_count == TURN_REDIRECTS_MAX || !term_binary(&r->in, &text) ||
        !parse_endpoint((const char *)text.data, text.len, &c->redirect[c->redirect_count]))
        return false;
    c->redirect_count++;
    return true;
}

static bool read_redirect(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 0, read_redirect_to);
}

static bool read_proxy(struct reader *r)
{
    struct stream_config *c = &r->config->stream;
    struct span text;

    if (c->proxy_count == STREAM_PROXIES_MAX || !term_binary(&r->in, &text) ||
        addr_prefix_parse((const char *)text.data, text.len, &c->proxies[c->proxy_count]) != CT_OK)
        return false;
    c->proxy_count++;
    return true;
}

static bool read_proxies(struct reader *r, const struct key *key)
{
    (void)key;
    return read_list(r, 0, read_proxy);
}

/* ---- TLS ---- */

/* PEM text is parsed when all keys are read: a certificate and its key belong together. */
static bool read_pem(struct reader *r, struct span *out)
{
    return term_binary(&r->in, out) && out->len > 0 && out->len <= PEM_MAX;
}

static bool read_cert(struct reader *r, const struct key *key)
{
    (void)key;
    return read_pem(r, &r->cert);
}

static bool read_tls_key(struct reader *r, const struct key *key)
{
    (void)key;
    return read_pem(r, &r->key);
}

static bool needs_tls(const struct relay_config *c)
{
    for (uint32_t i = 0; i < c->listen_count; i++)
        if (c->listen[i].transport == TURN_TLS || c->listen[i].transport == TURN_DTLS)
            return true;
    return false;
}

static bool build_tls(struct reader *r, char why[CONFIG_WHY_MAX])
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

static bool read_oauth_keys(struct reader *r, const struct key *key)
{
    (void)key;
    return oauth_keys_read(&r->in, &r->config->turn);
}

/* ---- keys ---- */

#define TURN_OFFSET(field) offsetof(struct relay_config, turn.field)
#define STREAM_NUMBER(field, from, to)                                   \
    {                                                                    \
        .name = #field, .read = read_number, .min = (from), .max = (to), \
        .offset = offsetof(struct relay_config, stream.field)            \
    }
#define NUMBER(field, from, to)                                                           \
    {                                                                                     \
        .name = #field, .read = read_number, .offset = TURN_OFFSET(field), .min = (from), \
        .max = (to)                                                                       \
    }

static const struct key keys[] = {
    {.name = "listen",
     .read = read_listen,
     .required = true,
     .right = "a list of 1 to 16 addresses like \"udp:IP:PORT\" or \"tcp:[IPv6]:PORT\""},
    {.name = "realm",
     .read = read_line,
     .required = true,
     .offset = TURN_OFFSET(realm),
     .min = 1,
     .max = TURN_REALM_MAX,
     .right = "one line of 1 to 127 bytes"},
    {.name = "secrets",
     .read = read_secrets,
     .required = true,
     .secret = true,
     .right = "a list of 1 to 8 binaries of 1 to 256 bytes"},
    {.name = "oauth_keys",
     .read = read_oauth_keys,
     .secret = true,
     .right = "a list of at most 16 maps #{kid, key}, also with not_before and not_after"},
    {.name = "oauth_server_name",
     .read = read_line,
     .offset = TURN_OFFSET(oauth_server_name),
     .max = TURN_REALM_MAX,
     .right = "one line of up to 127 bytes"},
    {.name = "relays",
     .read = read_relays,
     .required = true,
     .right = "a list of 1 to 8 pairs {BindIp, ExternalIp}, without ports, not 0.0.0.0 or ::"},
    {.name = "ports",
     .read = read_ports,
     .min = 1024,
     .max = UINT16_MAX,
     .right = "{Min, Max} with 1024 =< Min =< Max =< 65535"},
    {.name = "workers",
     .read = read_number,
     .offset = offsetof(struct relay_config, workers),
     .min = 1,
     .max = WORKERS_MAX},
    {.name = "allow_peers",
     .read = read_allow_peers,
     .right = "a list of CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "deny_peers",
     .read = read_deny_peers,
     .right = "a list of CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "software",
     .read = read_line,
     .offset = TURN_OFFSET(software),
     .max = TURN_SOFTWARE_MAX,
     .right = "one line of up to 127 bytes"},
    {.name = "alternate",
     .read = read_alternate,
     .right = "an address \"IP:PORT\" or \"[IPv6]:PORT\", not 0.0.0.0 or ::"},
    {.name = "redirect",
     .read = read_redirect,
     .right = "a list of at most 8 addresses \"IP:PORT\" or \"[IPv6]:PORT\""},
    {.name = "alternate_domain",
     .read = read_line,
     .offset = TURN_OFFSET(alternate_domain),
     .max = TURN_DOMAIN_MAX,
     .right = "a DNS name of up to 255 bytes"},
    {.name = "keep_dscp",
     .read = read_bool,
     .offset = TURN_OFFSET(keep_dscp),
     .right = "true or false"},
    {.name = "permission_events",
     .read = read_bool,
     .offset = TURN_OFFSET(permission_events),
     .right = "true or false"},
    {.name = "classic_stun",
     .read = read_bool,
     .offset = TURN_OFFSET(classic_stun),
     .right = "true or false"},
    {.name = "mobility",
     .read = read_bool,
     .offset = TURN_OFFSET(mobility),
     .right = "true or false"},
    {.name = "tcp_allocations",
     .read = read_bool,
     .offset = TURN_OFFSET(tcp_allocations),
     .right = "true or false"},
    NUMBER(max_tcp_peers, 1, 1u << 20),
    NUMBER(allocation_tcp_peers, 1, 4096),
    {.name = "mode", .read = read_mode, .right = "open or switch"},
    {.name = "admission", .read = read_admission, .right = "off, presence or room"},
    NUMBER(max_grants, 1, TURN_GRANTS_LIMIT),
    {.name = "pair", .read = read_bool, .offset = TURN_OFFSET(pair), .right = "true or false"},
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
     .read = read_proxies,
     .right = "a list of at most 16 CIDRs like \"10.0.0.0/8\", without host bits"},
    {.name = "cert", .read = read_cert, .right = "PEM text of at most 64 KiB", .secret = true},
    {.name = "key", .read = read_tls_key, .right = "PEM text of at most 64 KiB", .secret = true},
};

enum {
    KEYS = sizeof keys / sizeof *keys
};
_Static_assert(KEYS <= 64, "one bit of `seen` per key");

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* "KEY: must be RIGHT, not VALUE" */
static void explain(const struct key *key, const struct reader *r, char why[CONFIG_WHY_MAX])
{
    char value[TERM_SHOW_MAX], right[64];

    if (!r->right)
        snprintf(right, sizeof right, "an integer from %u to %u", key->min, key->max);
    term_show(&r->culprit, value);
    snprintf(why, CONFIG_WHY_MAX, "%s: must be %s%s%s", key->name, r->right ? r->right : right,
             key->secret ? "" : ", not ", key->secret ? "" : value);
}

static bool read_key(struct reader *r, uint64_t *seen, char why[CONFIG_WHY_MAX])
{
    char name[TERM_ATOM_MAX], shown[TERM_SHOW_MAX];
    const struct key *key = NULL;

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

static bool read_map(struct reader *r, char why[CONFIG_WHY_MAX])
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
    struct reader r = {.config = c, .in = *in};
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
