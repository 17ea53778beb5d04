#include "relay/config_value.h"

#include "relay/oauth_keys.h"

enum {
    PEM_MAX = 64 * 1024
};

bool config_read_number(struct config_reader *r, const struct config_key *key)
{
    uint64_t v;

    if (!term_uint(&r->in, key->max, &v) || v < key->min)
        return false;
    *(uint32_t *)(void *)((char *)r->config + key->offset) = (uint32_t)v;
    return true;
}

bool config_read_bool(struct config_reader *r, const struct config_key *key)
{
    return term_bool(&r->in, (bool *)((char *)r->config + key->offset));
}

/* open or switch. */
bool config_read_mode(struct config_reader *r, const struct config_key *key)
{
    char mode[TERM_ATOM_MAX];

    (void)key;
    if (!term_atom(&r->in, mode))
        return false;
    r->config->turn.switched = strcmp(mode, "switch") == 0;
    return r->config->turn.switched || strcmp(mode, "open") == 0;
}

/* off, presence or room. */
bool config_read_admission(struct config_reader *r, const struct config_key *key)
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
bool config_read_line(struct config_reader *r, const struct config_key *key)
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
static bool read_list(struct config_reader *r, int min, bool (*item)(struct config_reader *r))
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

static bool read_listener(struct config_reader *r)
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

bool config_read_listen(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 1, read_listener);
}

static bool read_secret(struct config_reader *r)
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

bool config_read_secrets(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 1, read_secret);
}

static bool read_ip(struct config_reader *r, struct addr *out)
{
    struct span text;

    r->culprit = r->in;
    return term_binary(&r->in, &text) &&
           addr_parse((const char *)text.data, text.len, out) == CT_OK && out->port == 0 &&
           !addr_is_any(out);
}

static bool read_relay(struct config_reader *r)
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

bool config_read_relays(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 1, read_relay);
}

bool config_read_ports(struct config_reader *r, const struct config_key *key)
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

static bool read_rule(struct config_reader *r, enum turn_rule_kind kind)
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

static bool read_allow_rule(struct config_reader *r)
{
    return read_rule(r, TURN_RULE_ALLOW);
}

static bool read_deny_rule(struct config_reader *r)
{
    return read_rule(r, TURN_RULE_DENY);
}

bool config_read_allow_peers(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 0, read_allow_rule);
}

bool config_read_deny_peers(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 0, read_deny_rule);
}

bool config_read_alternate(struct config_reader *r, const struct config_key *key)
{
    struct span text;

    (void)key;
    return term_binary(&r->in, &text) &&
           parse_endpoint((const char *)text.data, text.len, &r->config->alternate) &&
           !addr_is_any(&r->config->alternate);
}

static bool read_redirect_to(struct config_reader *r)
{
    struct turn_config *c = &r->config->turn;
    struct span text;

    if (c->redirect_count == TURN_REDIRECTS_MAX || !term_binary(&r->in, &text) ||
        !parse_endpoint((const char *)text.data, text.len, &c->redirect[c->redirect_count]))
        return false;
    c->redirect_count++;
    return true;
}

bool config_read_redirect(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 0, read_redirect_to);
}

static bool read_proxy(struct config_reader *r)
{
    struct stream_config *c = &r->config->stream;
    struct span text;

    if (c->proxy_count == STREAM_PROXIES_MAX || !term_binary(&r->in, &text) ||
        addr_prefix_parse((const char *)text.data, text.len, &c->proxies[c->proxy_count]) != CT_OK)
        return false;
    c->proxy_count++;
    return true;
}

bool config_read_proxies(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_list(r, 0, read_proxy);
}

/* ---- TLS ---- */

/* PEM text is parsed when all keys are read: a certificate and its key belong together. */
static bool read_pem(struct config_reader *r, struct span *out)
{
    return term_binary(&r->in, out) && out->len > 0 && out->len <= PEM_MAX;
}

bool config_read_cert(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_pem(r, &r->cert);
}

bool config_read_tls_key(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return read_pem(r, &r->key);
}

bool config_read_oauth_keys(struct config_reader *r, const struct config_key *key)
{
    (void)key;
    return oauth_keys_read(&r->in, &r->config->turn);
}
