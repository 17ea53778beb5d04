/* TURN-SEC-03: which IPs are the relay's own. */
#include "check.h"
#include "relay/own.h"
#include "spell.h"

static struct relay_config *config(const char *listener)
{
    static struct relay_config c;

    memset(&c, 0, sizeof c);
    c.turn.relays[0].bind = addr_of("10.0.0.5");
    c.turn.relays[0].external = addr_of("192.0.2.5");
    c.turn.relay_count = 1;
    c.listen[0].at = addr_of(listener);
    c.listen_count = 1;
    return &c;
}

static bool has(const struct relay_config *c, const char *ip)
{
    struct addr want = addr_of(ip);
    unsigned n = 0;

    for (size_t i = 0; i < c->turn.own_count; i++)
        n += addr_eq(&c->turn.own[i], &want);
    CHECK(n <= 1);
    return n == 1;
}

static void test_named(void)
{
    struct relay_config *c = config("192.0.2.6:3478");

    c->listen[1].at = addr_of("[2001:db8::7]:5349");
    c->listen[2].at = addr_of("192.0.2.5:443");
    c->listen_count = 3;
    c->alternate = addr_of("192.0.2.8:3479");
    for (int again = 0; again < 2; again++) {
        own_note(c);
        CHECK_EQ(c->turn.own_count, 5);
        CHECK(has(c, "10.0.0.5") && has(c, "192.0.2.5") && has(c, "192.0.2.6"));
        CHECK(has(c, "192.0.2.8") && has(c, "2001:db8::7"));
    }
}

/* A wildcard listener has all addresses of the host, of which loopback is one. */
static void test_wildcards(void)
{
    struct relay_config *c = config("0.0.0.0:3478");

    own_note(c);
    CHECK(has(c, "127.0.0.1") && !has(c, "::1"));
    c = config("[::]:3478");
    own_note(c);
    CHECK(has(c, "::1") && !has(c, "127.0.0.1"));
}

static void test_many(void)
{
    struct relay_config *c = config("127.0.0.1:1");
    char text[32];

    for (unsigned i = 0; i < UDP_LISTENERS_MAX; i++) {
        snprintf(text, sizeof text, "192.0.2.%u:3478", 10 + i);
        c->listen[i].at = addr_of(text);
    }
    c->listen_count = UDP_LISTENERS_MAX;
    own_note(c);
    CHECK_EQ(c->turn.own_count, 2 + UDP_LISTENERS_MAX);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_named),
        CHECK_TEST(test_wildcards),
        CHECK_TEST(test_many),
    };
    return CHECK_RUN(tests);
}
