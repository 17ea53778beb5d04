/* What can be run and what is said about the rest. */
#include "check.h"
#include "core/turn_config.h"

static struct turn_config good(void)
{
    struct turn_config c;
    turn_config_defaults(&c);
    c.oauth_keys[0] =
        (struct turn_token_key){.kid = "a", .kid_len = 1, .key_len = 32, .until = UINT64_MAX};
    c.oauth_keys[1] =
        (struct turn_token_key){.kid = "b", .kid_len = 1, .key_len = 16, .from = 1, .until = 2};
    c.oauth_key_count = 2;
    c.secrets[0] = (struct turn_secret){.bytes = "secret", .len = 6};
    c.secret_count = 1;
    CHECK_EQ(addr_parse("192.0.2.1", 9, &c.relays[0].bind), CT_OK);
    c.relays[0].external = c.relays[0].bind;
    c.relay_count = 1;
    return c;
}

static void test_defaults(void)
{
    struct turn_config c = good();
    CHECK(turn_config_check(&c) == NULL);
    CHECK_EQ(c.lifetime_default, 600);
    CHECK_EQ(c.lifetime_max, 3600);
    CHECK_EQ(c.permission_lifetime, 300);
    CHECK_EQ(c.channel_lifetime, 600);
    CHECK_EQ(c.channel_quarantine, 300);
    CHECK_EQ(c.reservation_lifetime, 30);
    CHECK(c.nonce_lifetime <= 3600);
    CHECK(c.policy.count > 20);
    turn_config_defaults(&c);
    CHECK_EQ(c.oauth_key_count, 0);
}

static void test_server_name(void)
{
    struct turn_config c = good();
    CHECK(span_eq(turn_config_server_name(&c), span_str("cromulent_turn")));
    snprintf(c.oauth_server_name, sizeof c.oauth_server_name, "turn.example.org");
    CHECK(span_eq(turn_config_server_name(&c), span_str("turn.example.org")));
}

/* Each complaint names the field. */
#define REFUSED(field, change)                       \
    do {                                             \
        struct turn_config c = good();               \
        change;                                      \
        const char *problem = turn_config_check(&c); \
        CHECK(problem &&strstr(problem, field));     \
    } while (0)

static void test_refusals(void)
{
    REFUSED("realm", c.realm[0] = 0);
    REFUSED("secrets", c.secret_count = 0);
    REFUSED("secrets", c.secrets[0].len = 0);
    REFUSED("secrets", c.secret_count = TURN_SECRETS_MAX + 1);
    REFUSED("oauth_keys", c.oauth_key_count = TURN_TOKEN_KEYS_MAX + 1);
    REFUSED("kid", c.oauth_keys[0].kid_len = 0);
    REFUSED("kid", c.oauth_keys[0].kid_len = TURN_KID_MAX + 1);
    REFUSED("once", c.oauth_keys[1] = c.oauth_keys[0]);
    REFUSED("32 bytes", c.oauth_keys[0].key_len = 24);
    REFUSED("time", c.oauth_keys[1].from = c.oauth_keys[1].until);
    REFUSED("relays", c.relay_count = 0);
    REFUSED("relays", memset(c.relays[0].bind.ip, 0, 16));
    REFUSED("relays", c.relays[0].external.family = ADDR_V6);
    REFUSED("relays", c.relays[0].bind.port = 1);
    REFUSED("redirect", c.redirect_count = TURN_REDIRECTS_MAX + 1);
    REFUSED("redirect", (c.redirect[0] = c.relays[0].bind, c.redirect_count = 1)); /* no port */
    REFUSED("redirect", (c.redirect[0] = addr_v4((uint8_t[4]){0}, 3478), c.redirect_count = 1));
    REFUSED("ports", c.port_min = 1023);
    REFUSED("ports", c.port_max = (uint16_t)(c.port_min - 1));
    REFUSED("lifetime_max", c.lifetime_max = 3601);
    REFUSED("lifetime_default", c.lifetime_default = 0);
    REFUSED("lifetime_default", c.lifetime_default = 3601);
    REFUSED("permission", c.permission_lifetime = 0);
    REFUSED("channel", c.channel_lifetime = 4000);
    REFUSED("max_allocations", c.max_allocations = 0);
    REFUSED("max_permissions", c.max_permissions = 0);
    REFUSED("max_channels", c.max_channels = 5000);
    REFUSED("challenge_rate", c.challenge_rate = 2000000);
    REFUSED("challenge_burst", c.challenge_burst = 0);
    REFUSED("max_tcp_peers", c.max_tcp_peers = 0);
    REFUSED("allocation_tcp_peers", c.allocation_tcp_peers = 4097);
}

/* What switch mode cannot do without. */
static void test_switch_mode(void)
{
    REFUSED("pair", c.switched = true; c.pair = false);
    struct turn_config c = good();
    CHECK(c.pair && !c.switched);
    c.switched = true;
    CHECK(turn_config_check(&c) == NULL);
    c.relays[1] = c.relays[0];
    c.relay_count = 2;
    const char *problem = turn_config_check(&c);
    CHECK(problem && strstr(problem, "relays"));
    c.relays[1].external.ip[3]++;
    CHECK(turn_config_check(&c) != NULL);
    c.relays[1].bind.ip[3]++;
    CHECK(turn_config_check(&c) == NULL);
    c.switched = false;
    c.pair = false;
    CHECK(turn_config_check(&c) == NULL);
}

/* Tokens name no user, and what goes over sockets asks no room. */
static void test_admission(void)
{
    REFUSED("admission", c.admission = TURN_ADMISSION_PRESENCE);
    REFUSED("admission", c.admission = TURN_ADMISSION_ROOM);
    REFUSED("max_grants", c.max_grants = 0);
    REFUSED("max_grants", c.max_grants = (1u << 24) + 1);
    REFUSED("pair", c.oauth_key_count = 0; c.pair = false; c.admission = TURN_ADMISSION_ROOM);
    struct turn_config c = good();
    CHECK(c.admission == TURN_ADMISSION_OFF && !turn_config_closed(&c));
    c.oauth_key_count = 0;
    c.pair = false;
    c.admission = TURN_ADMISSION_PRESENCE;
    CHECK(turn_config_check(&c) == NULL && !turn_config_closed(&c));
    c.pair = true;
    c.admission = TURN_ADMISSION_ROOM;
    CHECK(turn_config_check(&c) == NULL && turn_config_closed(&c));
    c.admission = TURN_ADMISSION_OFF;
    c.switched = true;
    CHECK(turn_config_closed(&c));
}

int main(void)
{
    const struct check_test tests[] = {CHECK_TEST(test_defaults), CHECK_TEST(test_server_name),
                                       CHECK_TEST(test_refusals), CHECK_TEST(test_switch_mode),
                                       CHECK_TEST(test_admission)};
    return CHECK_RUN(tests);
}
