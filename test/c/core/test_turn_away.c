/* 5-tuples whose packets are for another worker. */
#include "check.h"
#include "core/turn_away.h"

enum {
    CAPACITY = 64,
    HOUR_MS = 3600 * 1000
};

static struct turn_away away;

static void begin(void)
{
    memset(&away, 0, sizeof away);
    away.seed = (struct hash_seed){{3, 5}};
    CHECK(turn_away_init(&away, CAPACITY));
}

static struct turn_tuple tuple_of(uint16_t port)
{
    struct turn_tuple t = {.transport = TURN_UDP};
    t.client = addr_v4((const uint8_t[]){203, 0, 113, 7}, port);
    t.server = addr_v4((const uint8_t[]){192, 0, 2, 1}, 3478);
    return t;
}

static bool is_at(uint16_t port, uint64_t now_ms, uint16_t want)
{
    struct turn_tuple t = tuple_of(port);
    uint16_t worker = UINT16_MAX;
    return turn_away_find(&away, &t, now_ms, &worker) && worker == want;
}

static void put(uint16_t port, uint16_t worker, uint64_t now_ms)
{
    struct turn_tuple t = tuple_of(port);
    turn_away_put(&away, &t, worker, now_ms);
}

/* The newest stay, each with its worker; one that is named again has the last one named. */
static void test_bounded(void)
{
    begin();
    for (uint16_t i = 1; i <= 3 * CAPACITY; i++)
        put(i, i % 7, 10);
    for (uint16_t i = 1; i <= 3 * CAPACITY; i++)
        CHECK_EQ(is_at(i, 11, i % 7), i > 2 * CAPACITY);
    put(3 * CAPACITY, 99, 12);
    CHECK(is_at(3 * CAPACITY, 13, 99));
    CHECK(is_at(2 * CAPACITY + 1, 13, (2 * CAPACITY + 1) % 7)); /* nobody had to go for it */
    turn_away_free(&away);
}

/* An hour after it was last asked for it is forgotten. */
static void test_forgotten(void)
{
    begin();
    put(1, 1, 1000);
    CHECK(is_at(1, 1000 + HOUR_MS, 1));
    CHECK(is_at(1, 1000 + 2 * HOUR_MS, 1));
    CHECK(!is_at(1, 1001 + 3 * HOUR_MS, 1));
    put(1, 2, 1002 + 3 * HOUR_MS);
    CHECK(is_at(1, 1003 + 3 * HOUR_MS, 2));
    turn_away_free(&away);
}

/* Every part of a 5-tuple counts. */
static void test_parts(void)
{
    begin();
    struct turn_tuple t = tuple_of(1), other;
    uint16_t worker;
    CHECK(!turn_away_find(&away, &t, 1, &worker));
    put(1, 1, 1);
    other = t;
    other.server.port++;
    CHECK(!turn_away_find(&away, &other, 1, &worker));
    other = t;
    other.link++;
    CHECK(!turn_away_find(&away, &other, 1, &worker));
    other = t;
    other.transport = TURN_TCP;
    CHECK(!turn_away_find(&away, &other, 1, &worker));
    turn_away_free(&away);
}

/* Asking is not using; taken, it is forgotten, and its place is another's. */
static void test_taken(void)
{
    begin();
    struct turn_tuple t = tuple_of(1);
    uint16_t worker = 0;
    CHECK(!turn_away_has(&away, &t, 1));
    CHECK(!turn_away_take(&away, &t, 1, &worker));
    put(1, 5, 1000);
    put(2, 6, 1000);
    CHECK(turn_away_has(&away, &t, 1000 + HOUR_MS));
    CHECK(!turn_away_has(&away, &t, 1001 + HOUR_MS));
    CHECK(turn_away_take(&away, &t, 1000, &worker));
    CHECK_EQ(worker, 5);
    CHECK(!turn_away_has(&away, &t, 1000));
    for (uint16_t i = 3; i < CAPACITY + 2; i++)
        put(i, 7, 1000);
    for (uint16_t i = 2; i < CAPACITY + 2; i++)
        CHECK(is_at(i, 1000, i == 2 ? 6 : 7));
    turn_away_free(&away);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_bounded),
        CHECK_TEST(test_forgotten),
        CHECK_TEST(test_parts),
        CHECK_TEST(test_taken),
    };
    return CHECK_RUN(tests);
}
