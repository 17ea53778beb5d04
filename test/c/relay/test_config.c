#include "check.h"
#include "relay/config.h"

/* A map under construction: entries first, the header when their number is known. */
struct map {
    struct term_out entries;
    size_t count;
};

static void map_init(struct map *m)
{
    term_out_init(&m->entries);
    m->count = 0;
}

static struct term_out *key(struct map *m, const char *name)
{
    m->count++;
    term_put_atom(&m->entries, name);
    return &m->entries;
}

static void put_texts(struct term_out *out, const char *const *texts, size_t n)
{
    term_put_list(out, n);
    for (size_t i = 0; i < n; i++)
        term_put_text(out, texts[i]);
    term_put_nil(out);
}

static void put_pair(struct term_out *out, const char *a, const char *b)
{
    term_put_tuple(out, 2);
    term_put_text(out, a);
    term_put_text(out, b);
}

/* What cannot be left out. */
static void put_but_listen(struct map *m)
{
    term_put_text(key(m, "realm"), "r");
    put_texts(key(m, "secrets"), (const char *const[]){"s"}, 1);
    struct term_out *out = key(m, "relays");
    term_put_list(out, 1);
    put_pair(out, "127.0.0.1", "192.0.2.1");
    term_put_nil(out);
}

static void put_required(struct map *m)
{
    put_texts(key(m, "listen"), (const char *const[]){"udp:127.0.0.1:3478"}, 1);
    put_but_listen(m);
}

/* Reads the map, and frees it. */
static struct relay_config *read_map(struct map *m, char why[CONFIG_WHY_MAX])
{
    struct term_out out;
    struct term_in in;

    term_out_init(&out);
    ei_x_encode_version(&out.x);
    term_put_map(&out, m->count);
    term_put_terms(&out, &m->entries, (size_t)m->entries.x.index);
    CHECK(!out.failed);
    why[0] = '\0';
    struct relay_config *c = NULL;
    bool whole = term_in_init(&in, (const uint8_t *)out.x.buff, (size_t)out.x.index);
    CHECK(whole);
    if (whole)
        c = config_read(&in, why);
    if (c)
        CHECK_EQ(in.at, out.x.index);
    term_out_free(&m->entries);
    term_out_free(&out);
    return c;
}

static void check_refused(struct map *m, const char *want)
{
    char why[CONFIG_WHY_MAX];
    struct relay_config *c = read_map(m, why);

    CHECK(c == NULL);
    CHECK_STR(why, want);
    config_free(c);
}

static void check_addr(const struct addr *a, const char *want)
{
    char text[ADDR_TEXT_MAX];

    addr_format(a, text);
    CHECK_STR(text, want);
}

static void test_defaults(void)
{
    char why[CONFIG_WHY_MAX];
    struct turn_config want;
    struct map m;

    map_init(&m);
    put_required(&m);
    struct relay_config *c = read_map(&m, why);
    CHECK_STR(why, "");
    if (!c)
        return;
    turn_config_defaults(&want);
    CHECK_STR(c->turn.software, "cromulent_turn/" CT_VERSION);
    CHECK_EQ(c->turn.port_min, 49152);
    CHECK_EQ(c->turn.port_max, 65535);
    CHECK_EQ(c->turn.max_allocations, 65536);
    CHECK_EQ(c->asked_allocations, 65536);
    CHECK_EQ(c->turn.policy.count, want.policy.count);
    CHECK(c->workers >= 1 && c->workers <= WORKERS_MAX);
    CHECK_EQ(c->turn.own_count, 2); /* the IP of listener and relay, and its external one */
    config_free(c);
}

static void put_everything(struct map *m)
{
    static const char *const listen[] = {"udp:127.0.0.1:0", "tcp:[::1]:3478", "udp:0.0.0.0:65535"};
    static const char *const secrets[] = {"first", "second"};
    struct term_out *out;

    put_texts(key(m, "listen"), listen, 3);
    term_put_text(key(m, "realm"), "a realm");
    put_texts(key(m, "secrets"), secrets, 2);
    out = key(m, "relays");
    term_put_list(out, 2);
    put_pair(out, "127.0.0.1", "192.0.2.1");
    put_pair(out, "::1", "2001:db8::1");
    term_put_nil(out);
    out = key(m, "ports");
    term_put_tuple(out, 2);
    term_put_uint(out, 20000);
    term_put_uint(out, 20001);
    put_texts(key(m, "allow_peers"), (const char *const[]){"10.0.0.0/8"}, 1);
    put_texts(key(m, "deny_peers"), (const char *const[]){"2001:db8::/32"}, 1);
    term_put_text(key(m, "software"), "");
    term_put_text(key(m, "alternate"), "127.0.0.2:0");
    term_put_atom(key(m, "mobility"), "true");
    term_put_atom(key(m, "keep_dscp"), "true");
    term_put_atom(key(m, "tcp_allocations"), "false");
    term_put_atom(key(m, "mode"), "switch");
    term_put_atom(key(m, "pair"), "true");
    term_put_atom(key(m, "classic_stun"), "true");
}

/* The keys of one integer: with a value that none has by default. */
static const struct {
    const char *name;
    size_t offset;
    uint32_t max;
} numbers[] = {
    {"workers", offsetof(struct relay_config, workers), 64},
    {"max_allocations", offsetof(struct relay_config, turn.max_allocations), 1u << 24},
    {"user_quota", offsetof(struct relay_config, turn.user_quota), UINT32_MAX},
    {"user_bandwidth", offsetof(struct relay_config, turn.user_bandwidth), UINT32_MAX},
    {"userhashes", offsetof(struct relay_config, turn.userhashes), 1u << 20},
    {"max_permissions", offsetof(struct relay_config, turn.max_permissions), 4096},
    {"max_channels", offsetof(struct relay_config, turn.max_channels), 4096},
    {"lifetime_default", offsetof(struct relay_config, turn.lifetime_default), 3600},
    {"lifetime_max", offsetof(struct relay_config, turn.lifetime_max), 3600},
    {"permission_lifetime", offsetof(struct relay_config, turn.permission_lifetime), 3600},
    {"channel_lifetime", offsetof(struct relay_config, turn.channel_lifetime), 3600},
    {"channel_quarantine", offsetof(struct relay_config, turn.channel_quarantine), 3600},
    {"reservation_lifetime", offsetof(struct relay_config, turn.reservation_lifetime), 3600},
    {"nonce_lifetime", offsetof(struct relay_config, turn.nonce_lifetime), 3600},
    {"challenge_rate", offsetof(struct relay_config, turn.challenge_rate), 1000000},
    {"challenge_burst", offsetof(struct relay_config, turn.challenge_burst), 1000000},
    {"max_tcp_peers", offsetof(struct relay_config, turn.max_tcp_peers), 1u << 20},
    {"allocation_tcp_peers", offsetof(struct relay_config, turn.allocation_tcp_peers), 4096},
};

enum {
    NUMBERS = sizeof numbers / sizeof *numbers
};

static void test_every_key(void)
{
    char why[CONFIG_WHY_MAX];
    struct map m;

    map_init(&m);
    put_everything(&m);
    for (size_t i = 0; i < NUMBERS; i++)
        term_put_uint(key(&m, numbers[i].name), 17 + i);
    struct relay_config *c = read_map(&m, why);
    CHECK_STR(why, "");
    if (!c)
        return;
    CHECK_EQ(c->listen_count, 3);
    CHECK_EQ(c->listen[0].transport, TURN_UDP);
    CHECK_EQ(c->listen[1].transport, TURN_TCP);
    CHECK_STR(config_scheme(c->listen[1].transport), "tcp");
    check_addr(&c->listen[0].at, "127.0.0.1:0");
    check_addr(&c->listen[1].at, "[::1]:3478");
    check_addr(&c->listen[2].at, "0.0.0.0:65535");
    CHECK_STR(c->turn.realm, "a realm");
    CHECK_EQ(c->turn.secret_count, 2);
    CHECK_EQ(c->turn.secrets[1].len, 6);
    CHECK_BYTES(c->turn.secrets[1].bytes, "second", 6);
    CHECK_EQ(c->turn.relay_count, 2);
    check_addr(&c->turn.relays[0].bind, "127.0.0.1:0");
    check_addr(&c->turn.relays[1].external, "[2001:db8::1]:0");
    CHECK_EQ(c->turn.port_min, 20000);
    CHECK_EQ(c->turn.port_max, 20001);
    CHECK_STR(c->turn.software, "");
    check_addr(&c->alternate, "127.0.0.2:0");
    CHECK_EQ(config_discovery(c), 0);
    CHECK(c->turn.mobility && c->turn.keep_dscp && c->turn.classic_stun &&
          !c->turn.tcp_allocations);
    CHECK(c->turn.switched && c->turn.pair);
    const struct turn_rule *rules = c->turn.policy.rules + c->turn.policy.count;
    CHECK_EQ(rules[-2].kind, TURN_RULE_ALLOW);
    CHECK_EQ(rules[-1].kind, TURN_RULE_DENY);
    for (size_t i = 0; i < NUMBERS; i++) {
        uint32_t v;
        memcpy(&v, (const char *)c + numbers[i].offset, sizeof v);
        CHECK_EQ(v, 17 + i);
    }
    config_free(c);
}

static void test_numbers_have_limits(void)
{
    char why[CONFIG_WHY_MAX], want[CONFIG_WHY_MAX];

    for (size_t i = 0; i < NUMBERS; i++) {
        struct map m;
        map_init(&m);
        put_required(&m);
        term_put_uint(key(&m, numbers[i].name), UINT64_C(1) + numbers[i].max);
        struct relay_config *c = read_map(&m, why);
        CHECK(c == NULL);
        snprintf(want, sizeof want, "%s: must be an integer from ", numbers[i].name);
        CHECK(strncmp(why, want, strlen(want)) == 0);
        snprintf(want, sizeof want, " to %u, not %" PRIu64, numbers[i].max,
                 UINT64_C(1) + numbers[i].max);
        CHECK(strlen(why) > strlen(want));
        CHECK_STR(why + strlen(why) - strlen(want), want);
        config_free(c);
    }
}

static void test_listeners(void)
{
    static const char *const wrong[] = {"udp:",
                                        "udp:127.0.0.1",
                                        "tcp",
                                        "sctp:127.0.0.1:1",
                                        "127.0.0.1:3478",
                                        "udp:::1",
                                        "udp:[::1]",
                                        "udp:::1:3478",
                                        "udp:localhost:1",
                                        "udp:127.0.0.1:",
                                        "udp:127.0.0.1:65536"};
    char want[CONFIG_WHY_MAX];

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct map m;
        map_init(&m);
        put_texts(key(&m, "listen"), &wrong[i], 1);
        snprintf(want, sizeof want,
                 "listen: must be a list of 1 to 16 addresses like \"udp:IP:PORT\" or "
                 "\"tcp:[IPv6]:PORT\", not \"%s\"",
                 wrong[i]);
        check_refused(&m, want);
    }
}

/* A certificate and its key come together; what is in them is for test_tls.c. */
static void test_certificates(void)
{
    static const char *const secure = "tls:127.0.0.1:5349";
    struct map m;

    map_init(&m);
    put_required(&m);
    term_put_text(key(&m, "cert"), "x");
    check_refused(
        &m,
        "key: missing, a certificate and its key are given together, and tls: and dtls: need them");
    map_init(&m);
    put_required(&m);
    term_put_text(key(&m, "key"), "x");
    check_refused(
        &m,
        "cert: missing, a certificate and its key are given together, and tls: and dtls: need them");
    map_init(&m);
    put_required(&m);
    term_put_text(key(&m, "key"), "x");
    term_put_text(key(&m, "cert"), "y");
    check_refused(&m, "cert: must be a certificate in PEM form, and those that it leads to");
    map_init(&m);
    put_required(&m);
    term_put_nil(key(&m, "key"));
    check_refused(&m, "key: must be PEM text of at most 64 KiB");
    map_init(&m);
    put_but_listen(&m);
    put_texts(key(&m, "listen"), &secure, 1);
    check_refused(
        &m,
        "key: missing, a certificate and its key are given together, and tls: and dtls: need them");
}

static void test_no_key_twice(void)
{
    struct map m;

    map_init(&m);
    put_required(&m);
    term_put_text(key(&m, "realm"), "again");
    check_refused(&m, "realm: must be one line of 1 to 127 bytes, not \"again\"");
}

static void test_names_what_is_missing(void)
{
    struct map m;

    map_init(&m);
    check_refused(&m,
                  "listen: missing, must be a list of 1 to 16 addresses like \"udp:IP:PORT\" or "
                  "\"tcp:[IPv6]:PORT\"");
}

static void test_relays_have_no_port(void)
{
    struct map m;
    struct term_out *out;

    map_init(&m);
    out = key(&m, "relays");
    term_put_list(out, 1);
    put_pair(out, "127.0.0.1", "192.0.2.1:99");
    term_put_nil(out);
    check_refused(&m, "relays: must be a list of 1 to 8 pairs {BindIp, ExternalIp}, without ports, "
                      "not 0.0.0.0 or ::, not \"192.0.2.1:99\"");
}

static struct relay_config *simple(void)
{
    char why[CONFIG_WHY_MAX];
    struct map m;

    map_init(&m);
    put_required(&m);
    return read_map(&m, why);
}

static void test_what_may_follow(void)
{
    char why[CONFIG_WHY_MAX] = "";
    struct relay_config *old = simple(), *next = simple();

    CHECK(old && next);
    if (!old || !next)
        return;
    memcpy(next->turn.realm, "other", 6);
    next->turn.secrets[0].len = 0;
    next->turn.lifetime_max = 1;
    next->turn.max_allocations = 3; /* as lowered by the system, not as asked for */
    CHECK(config_may_follow(old, next, why));
    CHECK_STR(why, "");
    next->turn.max_grants++;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "max_grants: must be what it was, a change needs a restart");
    next->turn.admission = TURN_ADMISSION_PRESENCE;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "admission: must be what it was, a change needs a restart");
    next->turn.switched = true;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "mode: must be what it was, a change needs a restart");
    next->asked_allocations = 3;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "max_allocations: must be what it was, a change needs a restart");
    next->workers++;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "workers: must be what it was, a change needs a restart");
    next->turn.port_max--;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "ports: must be what it was, a change needs a restart");
    next->turn.relays[0].external.ip[0]++;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "relays: must be what it was, a change needs a restart");
    next->listen[0].at.port++;
    CHECK(!config_may_follow(old, next, why));
    CHECK_STR(why, "listen: must be what it was, a change needs a restart");
    config_free(old);
    config_free(next);
}

static void test_admission(void)
{
    static const char *const scopes[] = {"off", "presence", "room"};
    char why[CONFIG_WHY_MAX];
    struct map m;

    for (uint8_t i = 0; i < 3; i++) {
        map_init(&m);
        put_required(&m);
        term_put_atom(key(&m, "admission"), scopes[i]);
        term_put_uint(key(&m, "max_grants"), 7);
        struct relay_config *c = read_map(&m, why);
        CHECK(c && c->turn.admission == i && c->turn.max_grants == 7);
        config_free(c);
    }
    map_init(&m);
    put_required(&m);
    term_put_atom(key(&m, "admission"), "on");
    check_refused(&m, "admission: must be off, presence or room, not on");
    map_init(&m);
    put_required(&m);
    term_put_uint(key(&m, "max_grants"), 16777217);
    check_refused(&m, "max_grants: must be an integer from 1 to 16777216, not 16777217");
}

static void put_oauth_key(struct term_out *out, const char *kid, size_t key_len)
{
    static const uint8_t bytes[64] = "not to be told to anybody at all";

    term_put_atom(out, "kid");
    term_put_text(out, kid);
    term_put_atom(out, "key");
    term_put_binary(out, span_of(bytes, key_len));
}

static void test_oauth_keys(void)
{
    char why[CONFIG_WHY_MAX];
    struct map m;

    map_init(&m);
    put_required(&m);
    term_put_text(key(&m, "oauth_server_name"), "turn.example.org");
    struct term_out *out = key(&m, "oauth_keys");
    term_put_list(out, 2);
    term_put_map(out, 2);
    put_oauth_key(out, "a", 32);
    term_put_map(out, 4);
    put_oauth_key(out, "b", 16);
    term_put_atom(out, "not_before");
    term_put_uint(out, 7);
    term_put_atom(out, "not_after");
    term_put_uint(out, 9);
    term_put_nil(out);
    struct relay_config *c = read_map(&m, why);
    CHECK_STR(why, "");
    if (!c)
        return;
    CHECK_STR(c->turn.oauth_server_name, "turn.example.org");
    CHECK_EQ(c->turn.oauth_key_count, 2);
    const struct turn_token_key *keys = c->turn.oauth_keys;
    CHECK_EQ(keys[0].kid_len, 1);
    CHECK_EQ(keys[0].kid[0], 'a');
    CHECK_EQ(keys[0].key_len, 32);
    CHECK_BYTES(keys[0].key, "not to be told to anybody at all", 32);
    CHECK_EQ(keys[0].from, 0);
    CHECK(keys[0].until == UINT64_MAX);
    CHECK_EQ(keys[1].key_len, 16);
    CHECK_EQ(keys[1].from, 7);
    CHECK_EQ(keys[1].until, 9);
    config_free(c);
}

static void test_redirect(void)
{
    static const char *const to[] = {"192.0.2.9:3478", "[2001:db8::9]:3479"};
    static const struct {
        const char *to, *want;
    } wrong[] = {
        {"192.0.2.9", "redirect: must be a list of at most 8 addresses \"IP:PORT\" or "
                      "\"[IPv6]:PORT\", not \"192.0.2.9\""},
        {"192.0.2.9:0", "redirect: each must be one IP, not 0.0.0.0 or ::, with a port"},
        {"[::]:3478", "redirect: each must be one IP, not 0.0.0.0 or ::, with a port"},
    };
    char why[CONFIG_WHY_MAX];
    struct map m;

    map_init(&m);
    put_required(&m);
    put_texts(key(&m, "redirect"), to, 2);
    term_put_text(key(&m, "alternate_domain"), "turn2.example.org");
    struct relay_config *c = read_map(&m, why);
    CHECK_STR(why, "");
    if (!c)
        return;
    CHECK_EQ(c->turn.redirect_count, 2);
    check_addr(&c->turn.redirect[0], to[0]);
    check_addr(&c->turn.redirect[1], to[1]);
    CHECK_STR(c->turn.alternate_domain, "turn2.example.org");
    config_free(c);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        map_init(&m);
        put_required(&m);
        put_texts(key(&m, "redirect"), &wrong[i].to, 1);
        check_refused(&m, wrong[i].want);
    }
}

/* One key too many, one that lacks its kid, one of a wrong length: said, and not shown. */
static void test_wrong_oauth_keys(void)
{
    static const char right[] =
        "oauth_keys: must be a list of at most 16 maps #{kid, key}, also with not_before and "
        "not_after";
    struct map m;
    char kid[16];

    map_init(&m);
    put_required(&m);
    struct term_out *out = key(&m, "oauth_keys");
    term_put_list(out, TURN_TOKEN_KEYS_MAX + 1);
    for (int i = 0; i <= TURN_TOKEN_KEYS_MAX; i++) {
        snprintf(kid, sizeof kid, "%d", i);
        term_put_map(out, 2);
        put_oauth_key(out, kid, 32);
    }
    term_put_nil(out);
    check_refused(&m, right);
    static const size_t lengths[] = {0, 33};
    for (size_t i = 0; i < 2; i++) {
        map_init(&m);
        put_required(&m);
        out = key(&m, "oauth_keys");
        term_put_list(out, 1);
        term_put_map(out, 2);
        put_oauth_key(out, "a", lengths[i]);
        term_put_nil(out);
        check_refused(&m, right);
    }
    map_init(&m);
    put_required(&m);
    out = key(&m, "oauth_keys");
    term_put_list(out, 1);
    term_put_map(out, 0);
    term_put_nil(out);
    check_refused(&m, "oauth_keys: each kid must have 1 to 128 bytes");
    map_init(&m);
    put_required(&m);
    out = key(&m, "oauth_keys");
    term_put_list(out, 1);
    term_put_map(out, 2);
    put_oauth_key(out, "a", 24);
    term_put_nil(out);
    check_refused(&m, "oauth_keys: each key must have 32 bytes (A256GCM) or 16 (A128GCM)");
}

/* The alternate address beside the first listener of its family. */
static void test_alternate(void)
{
    static const struct {
        const char *listen, *alternate, *want;
    } cases[] = {
        {"udp:127.0.0.1:3478", "127.0.0.1:3479",
         "alternate: must have another IP than the first udp: listener of its family"},
        {"udp:127.0.0.1:3478", "127.0.0.2:3478",
         "alternate: must have another port than the first udp: listener of its family"},
        {"udp:127.0.0.1:3478", "[::1]:3479",
         "alternate: needs a udp: listener before it on one address of its family"},
        {"udp:0.0.0.0:3478", "127.0.0.2:3479",
         "alternate: needs a udp: listener before it on one address of its family"},
        {"udp:127.0.0.1:3478", "0.0.0.0:3479",
         "alternate: must be an address \"IP:PORT\" or \"[IPv6]:PORT\", not 0.0.0.0 or ::, not "
         "\"0.0.0.0:3479\""},
        {"udp:127.0.0.1:3478", "127.0.0.2:3479", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char why[CONFIG_WHY_MAX];
        struct map m;

        map_init(&m);
        put_texts(key(&m, "listen"), &cases[i].listen, 1);
        term_put_text(key(&m, "realm"), "r");
        put_texts(key(&m, "secrets"), (const char *const[]){"s"}, 1);
        struct term_out *out = key(&m, "relays");
        term_put_list(out, 1);
        put_pair(out, "127.0.0.1", "192.0.2.1");
        term_put_nil(out);
        term_put_text(key(&m, "alternate"), cases[i].alternate);
        struct relay_config *c = read_map(&m, why);
        CHECK_STR(why, cases[i].want);
        CHECK((c != NULL) == (*cases[i].want == '\0'));
        config_free(c);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_defaults),
        CHECK_TEST(test_every_key),
        CHECK_TEST(test_numbers_have_limits),
        CHECK_TEST(test_listeners),
        CHECK_TEST(test_certificates),
        CHECK_TEST(test_no_key_twice),
        CHECK_TEST(test_names_what_is_missing),
        CHECK_TEST(test_relays_have_no_port),
        CHECK_TEST(test_what_may_follow),
        CHECK_TEST(test_admission),
        CHECK_TEST(test_alternate),
        CHECK_TEST(test_oauth_keys),
        CHECK_TEST(test_redirect),
        CHECK_TEST(test_wrong_oauth_keys),
    };
    return CHECK_RUN(tests);
}
