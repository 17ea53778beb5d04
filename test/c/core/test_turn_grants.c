/* Grants: the table against a simple one, and what it is that ends. */
#include "check.h"
#include "core/turn_grants.h"
#include "rng.h"

enum {
    USERS = 40, /* more than there is room for, */
    ROOMS = 12, /* and more than one user can be in */
    MAX = 100,
};

/* What it should be like: a bit for each user and room. */
struct model {
    bool in[USERS][ROOMS];
    uint32_t count;
    uint64_t time;
};

/* Hashes that share slots: the upper half is what the table goes by. */
static uint64_t user_of(size_t n)
{
    return ((uint64_t)(n % 5) << 32) | n;
}

static unsigned rooms_of(const struct model *m, size_t user)
{
    unsigned n = 0;
    for (size_t room = 0; room < ROOMS; room++)
        n += m->in[user][room];
    return n;
}

static void put(struct turn_grants *g, struct model *m, size_t user, size_t room)
{
    bool fresh, known = m->in[user][room];
    enum ct_err want = known                                      ? CT_OK
                       : rooms_of(m, user) == TURN_USER_ROOMS_MAX ? CT_EFORBIDDEN
                       : m->count == MAX                          ? CT_ENOSPACE
                                                                  : CT_OK;
    CHECK_EQ(turn_grants_put(g, user_of(user), room + 1, &fresh), want);
    CHECK_EQ(fresh, want == CT_OK && !known);
    m->in[user][room] = known || want == CT_OK;
    m->count += fresh;
}

static void take(struct turn_grants *g, struct model *m, size_t user, size_t room)
{
    uint64_t ended;
    bool known = m->in[user][room];
    m->in[user][room] = false;
    bool last = known && rooms_of(m, user) == 0;
    m->time += last;
    m->count -= known;
    CHECK_EQ(turn_grants_take(g, user_of(user), room + 1, &ended), known);
    CHECK_EQ(ended, last ? m->time : 0);
}

static void compare(const struct turn_grants *g, const struct model *m)
{
    CHECK_EQ(turn_grants_count(g), m->count);
    CHECK_EQ(turn_grants_time(g), m->time);
    for (size_t user = 0; user < USERS; user++) {
        const struct turn_rooms *rooms = turn_grants_of(g, user_of(user));
        CHECK_EQ(rooms ? turn_rooms_count(rooms) : 0, rooms_of(m, user));
        for (size_t room = 0; rooms && room < ROOMS; room++) {
            struct turn_rooms one = {{room + 1}};
            CHECK_EQ(turn_rooms_meet(rooms, &one), m->in[user][room]);
        }
    }
}

static void test_model(void)
{
    struct rng r = rng_new();
    struct turn_grants *g = turn_grants_new(MAX);
    struct model m = {.count = 0};
    CHECK(g != NULL);
    for (unsigned i = 0; i < 50000; i++) {
        size_t user = rng_below(&r, USERS), room = rng_below(&r, ROOMS);
        if (rng_below(&r, 1000) < (i / 5000 % 2 ? 300 : 700)) /* it fills and empties */
            put(g, &m, user, room);
        else
            take(g, &m, user, room);
        if (i % 100 == 0)
            compare(g, &m);
    }
    compare(g, &m);
    turn_grants_free(g);
}

static void test_limits(void)
{
    struct turn_grants *g = turn_grants_new(9);
    uint64_t ended;
    bool fresh;
    for (uint64_t room = 1; room <= 8; room++)
        CHECK_EQ(turn_grants_put(g, 7, room, &fresh), CT_OK);
    CHECK_EQ(turn_grants_put(g, 7, 9, &fresh), CT_EFORBIDDEN);
    CHECK_EQ(turn_grants_put(g, 8, 1, &fresh), CT_OK);
    CHECK_EQ(turn_grants_put(g, 9, 1, &fresh), CT_ENOSPACE);
    CHECK_EQ(turn_grants_put(g, 8, 1, &fresh), CT_OK); /* is there */
    CHECK(!fresh && !turn_grants_of(g, 9));
    CHECK_EQ(turn_grants_put(g, 8, 2, &fresh), CT_ENOSPACE);
    CHECK(turn_grants_take(g, 7, 3, &ended) && !ended);
    CHECK(!turn_grants_take(g, 7, 3, &ended) && !turn_grants_take(g, 9, 1, &ended));
    CHECK_EQ(turn_grants_put(g, 9, 1, &fresh), CT_OK);
    CHECK(fresh);
    turn_grants_free(g);
    turn_grants_free(NULL);
}

static void test_open(void)
{
    struct turn_grants *g = turn_grants_new(1);
    CHECK(!turn_grants_are_open(g));
    turn_grants_open(g);
    CHECK(turn_grants_are_open(g));
    turn_grants_free(g);
}

static void test_rooms(void)
{
    const struct turn_rooms none = {{0}}, one = {{5}}, full = {{1, 2, 3, 4, 5, 6, 7, 8}},
                            other = {{9, 10, 11, 12, 13, 14, 15, 16}};
    CHECK_EQ(turn_rooms_count(&none), 0);
    CHECK_EQ(turn_rooms_count(&one), 1);
    CHECK_EQ(turn_rooms_count(&full), 8);
    CHECK(!turn_rooms_meet(&none, &none)); /* who is nowhere meets nobody */
    CHECK(!turn_rooms_meet(&none, &full) && !turn_rooms_meet(&full, &none));
    CHECK(turn_rooms_meet(&one, &full) && turn_rooms_meet(&full, &one));
    CHECK(!turn_rooms_meet(&other, &full) && !turn_rooms_meet(&other, &one));
    CHECK(turn_rooms_meet(&other, &other));
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_model),
        CHECK_TEST(test_limits),
        CHECK_TEST(test_open),
        CHECK_TEST(test_rooms),
    };
    return CHECK_RUN(tests);
}
