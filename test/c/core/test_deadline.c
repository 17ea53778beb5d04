#include "check.h"
#include "core/deadline.h"
#include "rng.h"

enum {
    TURN_MS = DEADLINE_SLOTS * DEADLINE_TICK_MS /* once around the wheel */
};

static struct deadline_wheel wheel;

static void test_an_empty_wheel(void)
{
    deadline_init(&wheel, 5000);
    CHECK(deadline_next(&wheel) == UINT64_MAX);
    CHECK(deadline_due(&wheel, 5000) == NULL);
    CHECK(deadline_due(&wheel, UINT64_C(1) << 50) == NULL);
    CHECK(deadline_next(&wheel) == UINT64_MAX);
}

static void test_due_once_and_not_early(void)
{
    struct deadline d = {0};
    deadline_init(&wheel, 5300);
    deadline_set(&wheel, &d, 8000);
    CHECK_EQ(wheel.count, 1);
    CHECK(deadline_due(&wheel, 7999) == NULL);
    CHECK(deadline_due(&wheel, 8000) == &d);
    CHECK_EQ(wheel.count, 0);
    CHECK(deadline_due(&wheel, 8000) == NULL);
    CHECK(deadline_due(&wheel, 8000 + 2 * (uint64_t)TURN_MS) == NULL);
}

static void test_the_past_is_due_at_once(void)
{
    struct deadline a = {0}, b = {0};
    deadline_init(&wheel, 900000);
    deadline_set(&wheel, &a, 1);
    deadline_set(&wheel, &b, 0);
    CHECK(deadline_due(&wheel, 900000) != NULL);
    CHECK(deadline_due(&wheel, 900000) != NULL);
    CHECK(deadline_due(&wheel, 900000) == NULL);
}

static void test_moved_and_cleared(void)
{
    struct deadline d = {0}, e = {0};
    deadline_init(&wheel, 0);
    deadline_clear(&wheel, &d); /* on no wheel: nothing happens */
    CHECK_EQ(wheel.count, 0);
    deadline_set(&wheel, &d, 5000);
    deadline_set(&wheel, &e, 5000);
    deadline_set(&wheel, &d, 9000);
    CHECK_EQ(wheel.count, 2);
    CHECK(deadline_due(&wheel, 5000) == &e);
    CHECK(deadline_due(&wheel, 8999) == NULL);
    deadline_clear(&wheel, &d);
    deadline_clear(&wheel, &d);
    CHECK_EQ(wheel.count, 0);
    CHECK(deadline_due(&wheel, 20000) == NULL);
}

/* Beyond the wheel's reach: passed over every time round until it is time. */
static void test_far_away(void)
{
    struct deadline d = {0};
    uint64_t at = 3 * (uint64_t)TURN_MS + 7000;
    deadline_init(&wheel, 7000);
    deadline_set(&wheel, &d, at);
    for (uint64_t now = 7000; now < at; now += 500)
        CHECK(deadline_due(&wheel, now) == NULL);
    CHECK(deadline_due(&wheel, at) == &d);
}

static void test_never(void)
{
    struct deadline d = {0};
    deadline_init(&wheel, 0);
    deadline_set(&wheel, &d, UINT64_MAX);
    CHECK(deadline_due(&wheel, UINT64_C(1) << 50) == NULL);
    CHECK_EQ(wheel.count, 1);
}

static void test_a_sleep_of_many_turns(void)
{
    struct deadline d[50] = {{0}};
    unsigned taken = 0;
    deadline_init(&wheel, 0);
    for (unsigned i = 0; i < 50; i++)
        deadline_set(&wheel, &d[i], 100000 * (uint64_t)i);
    while (deadline_due(&wheel, 9 * (uint64_t)TURN_MS))
        taken++;
    CHECK_EQ(taken, 50);
    CHECK(deadline_next(&wheel) == UINT64_MAX);
}

static void test_set_again_from_its_own_end(void)
{
    struct deadline d = {0};
    deadline_init(&wheel, 1000);
    deadline_set(&wheel, &d, 2000);
    for (uint64_t now = 2000; now < 60000; now += 1000) {
        CHECK(deadline_due(&wheel, now) == &d);
        deadline_set(&wheel, &d, now + 1000);
        CHECK(deadline_due(&wheel, now) == NULL);
    }
}

enum {
    COUNT = 120
};

struct model {
    struct deadline d[COUNT];
    uint64_t at[COUNT];
    bool set[COUNT];
    uint32_t count;
    uint64_t now;
};

static uint64_t some_time(struct rng *rng, uint64_t now)
{
    switch (rng_below(rng, 6)) {
    case 0:
        return now > 5000 ? now - rng_below(rng, 5000) : 0;
    case 1:
        return now + rng_below(rng, 3000);
    case 2: /* on a tick */
        return (now / 1000 + rng_below(rng, 700)) * 1000;
    case 3: /* around a whole turn */
        return now + TURN_MS - 2000 + rng_below(rng, 4000);
    case 4:
        return now + rng_below(rng, 4 * (uint64_t)TURN_MS);
    default:
        return now + rng_below(rng, 600000);
    }
}

/* What comes is due; what is left is not due, but for less than a tick. */
static void drain(struct model *m)
{
    struct deadline *d;
    while ((d = deadline_due(&wheel, m->now))) {
        size_t i = (size_t)(d - m->d);
        CHECK(i < COUNT && m->set[i]);
        CHECK(m->at[i] <= m->now);
        m->set[i] = false;
        m->count--;
    }
    uint64_t tick = m->now / DEADLINE_TICK_MS * DEADLINE_TICK_MS;
    for (size_t i = 0; i < COUNT; i++)
        CHECK(!m->set[i] || m->at[i] > tick);
    CHECK_EQ(wheel.count, m->count);
    uint64_t next = deadline_next(&wheel);
    CHECK(m->count ? next > m->now && next <= m->now + DEADLINE_TICK_MS : next == UINT64_MAX);
}

static void step(struct model *m, struct rng *rng)
{
    size_t i = rng_below(rng, COUNT);
    switch (rng_below(rng, 8)) {
    case 0:
        m->now += rng_below(rng, 2500);
        drain(m);
        break;
    case 1:
        if (rng_below(rng, 20) == 0)
            m->now += rng_below(rng, 3 * (uint64_t)TURN_MS);
        drain(m);
        break;
    case 2:
        deadline_clear(&wheel, &m->d[i]);
        m->count -= m->set[i];
        m->set[i] = false;
        break;
    default:
        m->at[i] = some_time(rng, m->now);
        deadline_set(&wheel, &m->d[i], m->at[i]);
        m->count += !m->set[i];
        m->set[i] = true;
    }
    CHECK_EQ(wheel.count, m->count);
}

static void test_against_a_model(void)
{
    struct rng rng = rng_new();
    static struct model m;
    m = (struct model){.now = rng_below(&rng, 100000)};
    deadline_init(&wheel, m.now);
    for (unsigned i = 0; i < 100000; i++)
        step(&m, &rng);
    m.now += 10 * (uint64_t)TURN_MS;
    drain(&m);
    CHECK_EQ(wheel.count, 0);
}

/* A loop that sleeps until deadline_next() serves each deadline in the second after it. */
static void test_a_loop_that_sleeps(void)
{
    struct rng rng = rng_new();
    struct deadline d[COUNT] = {{0}}, *due;
    uint64_t now = 123456;
    unsigned taken = 0;
    deadline_init(&wheel, now);
    for (size_t i = 0; i < COUNT; i++)
        deadline_set(&wheel, &d[i], now + rng_below(&rng, 900000));
    while (deadline_next(&wheel) != UINT64_MAX) {
        now = deadline_next(&wheel);
        while ((due = deadline_due(&wheel, now))) {
            CHECK(due->at <= now && now < due->at + DEADLINE_TICK_MS);
            taken++;
        }
    }
    CHECK_EQ(taken, COUNT);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_an_empty_wheel),
        CHECK_TEST(test_due_once_and_not_early),
        CHECK_TEST(test_the_past_is_due_at_once),
        CHECK_TEST(test_moved_and_cleared),
        CHECK_TEST(test_far_away),
        CHECK_TEST(test_never),
        CHECK_TEST(test_a_sleep_of_many_turns),
        CHECK_TEST(test_set_again_from_its_own_end),
        CHECK_TEST(test_against_a_model),
        CHECK_TEST(test_a_loop_that_sleeps),
    };
    return CHECK_RUN(tests);
}
