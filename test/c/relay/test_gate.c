#include "check.h"
#include "relay/gate.h"

static struct addr at(const char *text)
{
    struct addr a = {0};

    CHECK_EQ(addr_parse(text, strlen(text), &a), CT_OK);
    return a;
}

static void test_counts_per_source(void)
{
    struct gate *g = gate_new(10);
    struct addr a = at("192.0.2.1:1"), same = at("192.0.2.1:2"), b = at("192.0.2.2:1");

    CHECK(gate_enter(g, &a, 2));
    CHECK(gate_enter(g, &same, 2));
    CHECK(!gate_enter(g, &a, 2));
    CHECK(gate_enter(g, &b, 2));
    gate_leave(g, &same);
    CHECK(gate_enter(g, &a, 2));
    CHECK(!gate_enter(g, &a, 0));
    gate_free(g);
}

/* Of IPv6, a /64 is one source. */
static void test_networks(void)
{
    struct gate *g = gate_new(10);
    struct addr a = at("[2001:db8:0:1::1]:1"), same = at("[2001:db8:0:1:ffff::2]:1"),
                b = at("[2001:db8:0:2::1]:1");

    CHECK(gate_enter(g, &a, 1));
    CHECK(!gate_enter(g, &same, 1));
    CHECK(gate_enter(g, &b, 1));
    gate_free(g);
}

static void test_counts_in_total(void)
{
    struct gate *g = gate_new(3);
    struct addr nobody = {.family = ADDR_NONE}, a = at("192.0.2.1:1");

    CHECK(gate_enter(g, &nobody, 1));
    CHECK(gate_enter(g, &nobody, 1));
    CHECK(gate_enter(g, &a, 1));
    CHECK(!gate_enter(g, &nobody, 1));
    gate_leave(g, &nobody);
    CHECK(!gate_enter(g, &a, 1));
    CHECK(gate_enter(g, &nobody, 1));
    gate_free(g);
}

/* Sources come and go without end: their places are used again. */
static void test_many_sources(void)
{
    enum {
        MOST = 64
    };
    struct gate *g = gate_new(MOST);

    for (uint32_t i = 0; i < 10000; i++) {
        struct addr a = {.ip = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}, .family = ADDR_V4};
        CHECK(gate_enter(g, &a, 1));
        if (i < MOST - 1)
            continue;
        a = (struct addr){.family = ADDR_V4};
        uint32_t gone = i - (MOST - 1);
        memcpy(a.ip, (uint8_t[]){10, 0, (uint8_t)(gone >> 8), (uint8_t)gone}, 4);
        gate_leave(g, &a);
    }
    gate_free(g);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_counts_per_source),
        CHECK_TEST(test_networks),
        CHECK_TEST(test_counts_in_total),
        CHECK_TEST(test_many_sources),
    };
    return CHECK_RUN(tests);
}
