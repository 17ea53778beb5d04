/* Transactions that are over, whose copies may still come: conformance.md STUN-BIND-10. */
#include "check.h"
#include "core/stun_wire.h"
#include "core/turn_ended.h"

enum {
    CAPACITY = 16
};

static struct turn_ended ended;

static void begin(void)
{
    memset(&ended, 0, sizeof ended);
    ended.seed = (struct hash_seed){{3, 5}};
    CHECK(turn_ended_init(&ended, CAPACITY));
}

static struct turn_tuple tuple_of(uint16_t port)
{
    struct turn_tuple t = {.transport = TURN_UDP};
    t.client = addr_v4((const uint8_t[]){203, 0, 113, 7}, port);
    t.server = addr_v4((const uint8_t[]){192, 0, 2, 1}, 3478);
    return t;
}

static void put(uint16_t port, const char *tid, uint64_t until_ms)
{
    struct turn_tuple t = tuple_of(port);
    turn_ended_put(&ended, &t, (const uint8_t *)tid, until_ms);
}

static bool has(uint16_t port, const char *tid, uint64_t now_ms)
{
    struct turn_tuple t = tuple_of(port);
    return turn_ended_has(&ended, &t, (const uint8_t *)tid, now_ms);
}

/* Both count, 5-tuple and transaction id, and the time. */
static void test_key(void)
{
    begin();
    CHECK(!has(1, "transaction1", 0));
    put(1, "transaction1", 100);
    CHECK(has(1, "transaction1", 99));
    CHECK(!has(1, "transaction1", 100));
    CHECK(!has(2, "transaction1", 99));
    CHECK(!has(1, "transaction2", 99));
    struct turn_tuple dtls = tuple_of(1);
    dtls.transport = TURN_DTLS;
    CHECK(!turn_ended_has(&ended, &dtls, (const uint8_t *)"transaction1", 99));
    put(1, "transaction1", 300); /* the same again */
    CHECK(has(1, "transaction1", 200));
    turn_ended_free(&ended);
}

/* The newest stay. */
static void test_bounded(void)
{
    begin();
    for (uint16_t i = 1; i <= 5 * CAPACITY + 3; i++) {
        put(i, "transaction1", 100);
        for (uint16_t j = 1; j <= i; j++)
            CHECK_EQ(has(j, "transaction1", 50), j + CAPACITY > i);
    }
    turn_ended_free(&ended);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_key),
        CHECK_TEST(test_bounded),
    };
    return CHECK_RUN(tests);
}
