#include "check.h"
#include "core/ratelimit.h"

static struct ratelimit limit;

static void start(void)
{
    limit = (struct ratelimit){.seed = {{0x0123456789abcdef, 0xfedcba9876543210}}};
}

static struct addr v4(uint32_t host, uint16_t port)
{
    const uint8_t ip[4] = {(uint8_t)(host >> 24), (uint8_t)(host >> 16), (uint8_t)(host >> 8),
                           (uint8_t)host};
    return addr_v4(ip, port);
}

static struct addr v6(uint8_t net, uint8_t host)
{
    const uint8_t ip[16] = {0x20, 0x01, 0x0d, 0xb8, [7] = net, [15] = host};
    return addr_v6(ip, 5000);
}

static unsigned take(const struct ratelimit_rule *rule, struct addr from, uint64_t now, unsigned n)
{
    unsigned granted = 0;
    while (n--)
        granted += ratelimit_take(&limit, rule, &from, now);
    return granted;
}

static void test_a_burst_and_then_the_rate(void)
{
    const struct ratelimit_rule rule = {.rate = 10, .burst = 5};
    const struct addr a = v4(1, 1000);
    start();
    CHECK_EQ(take(&rule, a, 50000, 100), 5);
    CHECK_EQ(take(&rule, a, 50099, 100), 0);
    CHECK_EQ(take(&rule, a, 50100, 100), 1);
    CHECK_EQ(take(&rule, a, 50350, 100), 2); /* 250 ms: two and a half */
    CHECK_EQ(take(&rule, a, 50400, 100), 1);
    CHECK_EQ(take(&rule, a, 60000, 100), 5); /* never more than a burst */
    CHECK_EQ(take(&rule, a, UINT64_C(1) << 50, 100), 5);
}

static void test_what_is_left_counts_into_the_burst(void)
{
    const struct ratelimit_rule rule = {.rate = 10, .burst = 5}, smaller = {.rate = 10, .burst = 2};
    const struct addr a = v4(1, 1000);
    start();
    CHECK_EQ(take(&rule, a, 50000, 1), 1);
    CHECK_EQ(take(&rule, a, 90000, 100), 5);
    CHECK_EQ(take(&rule, a, 90200, 1), 1);
    CHECK_EQ(take(&rule, a, 90300, 100), 2);
    CHECK_EQ(take(&rule, a, 99000, 1), 1);
    CHECK_EQ(take(&smaller, a, 99000, 100), 2); /* a rule that has changed holds at once */
}

static void test_the_clock_may_start_at_zero_and_stand_still(void)
{
    const struct ratelimit_rule rule = {.rate = 1, .burst = 3};
    const struct addr a = v4(1, 1000);
    start();
    CHECK_EQ(take(&rule, a, 0, 10), 3);
    CHECK_EQ(take(&rule, a, 0, 10), 0);
    CHECK_EQ(take(&rule, a, 1001, 10), 1);
    CHECK_EQ(take(&rule, a, 500, 10), 0); /* a clock that runs back gives nothing */
}

/* Asked every millisecond, exactly the rate comes out, also when it is no whole number per tick. */
static void test_nothing_is_lost_in_rounding(void)
{
    static const uint32_t rates[] = {1, 3, 7, 99, 333, 1000, 2500};
    const struct addr a = v4(1, 1000);
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        const struct ratelimit_rule rule = {.rate = rates[i], .burst = 10};
        unsigned granted = 0;
        start();
        for (uint64_t now = 1000; now <= 31000; now++)
            granted += take(&rule, a, now, 10);
        CHECK_EQ(granted, 10 + 30 * rates[i]);
    }
}

static void test_largest_rule(void)
{
    const struct ratelimit_rule rule = {.rate = 1000000, .burst = 1000000};
    const struct addr a = v4(1, 1000);
    start();
    CHECK_EQ(take(&rule, a, 1000, 1000001), 1000000);
    CHECK_EQ(take(&rule, a, 1001, 2000), 1000);
    CHECK_EQ(take(&rule, a, 10000000000, 1000001), 1000000);
}

static void test_a_source_is_an_ip(void)
{
    const struct ratelimit_rule rule = {.rate = 1, .burst = 4};
    start();
    CHECK_EQ(take(&rule, v4(1, 1000), 5000, 4), 4);
    CHECK_EQ(take(&rule, v4(1, 2000), 5000, 4), 0); /* another port is the same source */
    CHECK_EQ(take(&rule, v4(2, 1000), 5000, 4), 4);
    CHECK_EQ(take(&rule, v6(1, 1), 5000, 4), 4);
    CHECK_EQ(take(&rule, v6(1, 200), 5000, 4), 0); /* the same /64 */
    CHECK_EQ(take(&rule, v6(2, 1), 5000, 4), 4);
}

/* More sources than buckets: nobody new is refused, and one that keeps asking stays limited. */
static void test_a_flood_of_sources(void)
{
    const struct ratelimit_rule rule = {.rate = 10, .burst = 5};
    const struct addr busy = v4(1, 1000);
    uint64_t now = 1000;
    unsigned refused = 0, granted = 0;
    start();
    for (uint32_t i = 0; i < 100000; i++, now++) {
        refused += !take(&rule, v4(0x0b000000 + i, 1000), now, 1);
        granted += take(&rule, busy, now, 3);
    }
    CHECK_EQ(refused, 0);
    CHECK(granted >= 5 + 999 && granted <= 5 + 1000);
}

/* Sources that fit keep their own buckets. */
static void test_many_sources_side_by_side(void)
{
    const struct ratelimit_rule rule = {.rate = 1, .burst = 2};
    unsigned granted = 0, again = 0;
    start();
    for (uint32_t i = 0; i < 400; i++)
        granted += take(&rule, v4(0x0b000000 + i, 1000), 5000 + i, 2);
    for (uint32_t i = 0; i < 400; i++)
        again += take(&rule, v4(0x0b000000 + i, 1000), 5400, 2);
    CHECK_EQ(granted, 800);
    CHECK(again <= 8); /* a set of four that five sources share forgets one */
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_a_burst_and_then_the_rate),
        CHECK_TEST(test_what_is_left_counts_into_the_burst),
        CHECK_TEST(test_the_clock_may_start_at_zero_and_stand_still),
        CHECK_TEST(test_nothing_is_lost_in_rounding),
        CHECK_TEST(test_largest_rule),
        CHECK_TEST(test_a_source_is_an_ip),
        CHECK_TEST(test_a_flood_of_sources),
        CHECK_TEST(test_many_sources_side_by_side),
    };
    return CHECK_RUN(tests);
}
