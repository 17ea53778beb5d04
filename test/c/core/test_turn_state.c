/* What an allocation costs in memory, by the tables that a real engine has filled. */
#include "engine.h"

#include "core/turn_state.h"

#include <stdio.h>

static struct engine e;

enum {
    ALLOCATIONS = 2048, /* what the engine thinks a crowd */
    SWITCH_MOST = 1024, /* bytes per allocation with a permission and a channel */
    OPEN_MOST = 1536,   /* with what the relay keeps for its socket, but for the kernel's part */
    RELAY_MOST = 320,   /* test_udp measures that */
    USER_SLOTS = 4,     /* of a table that is at least a quarter full when it is full */
    USER_SLOT = 16,
    PORT = 5, /* a word and a bit, and ports are never all taken */
};

static size_t used(const struct slab *s)
{
    return s->fresh * s->stride;
}

/* Each from an address of its own, all of one user; each with a channel to the one before. */
static void allocate(void)
{
    char before[ADDR_TEXT_MAX] = "", at[ADDR_TEXT_MAX];
    for (unsigned i = 0; i < ALLOCATIONS; i++) {
        snprintf(at, sizeof at, "203.0.113.%u:%u", 1 + i % 250, 1000 + i);
        struct client c = client_at(&e, at, "a user with quite a long name, for a name");
        CHECK_EQ(client_allocate(&c), 0);
        addr_format(&c.relayed, at);
        CHECK_EQ(client_bind(&c, 0x4000, i ? before : at), 0);
        memcpy(before, at, sizeof at);
    }
}

static void test_cost(void)
{
    engine_init(&e);
    e.config.switched = true;
    e.config.max_allocations = 131072; /* the most that an operator is told of: it can be had */
    e.config.port_min = 1024;
    engine_start(&e);
    allocate();
    const struct turn_server *s = e.server;
    CHECK_EQ(s->allocs.fresh, ALLOCATIONS);
    CHECK_EQ(s->perms.fresh, ALLOCATIONS);
    CHECK_EQ(s->chans.fresh, 0); /* the first one is the allocation's own */
    size_t slabs = used(&s->allocs) + used(&s->perms) + used(&s->chans) + used(&s->names) +
                   used(&s->seconds) + used(&s->moves);
    size_t map = ((size_t)s->by_tuple.mask + 1) * sizeof *s->by_tuple.slots / s->by_tuple.capacity;
    size_t each = slabs / ALLOCATIONS + map + USER_SLOTS * USER_SLOT + PORT;
    printf("# %zu bytes per allocation, %zu of them in slabs\n", each, slabs / ALLOCATIONS);
    CHECK(each <= SWITCH_MOST);
    CHECK(each + RELAY_MOST <= OPEN_MOST);
    engine_stop(&e);
}

/* To expect a packet, whoever it is from, is no more than that. */
static void test_expecting(void)
{
    engine_init(&e);
    e.config.switched = true;
    e.config.max_allocations = ALLOCATIONS;
    e.config.port_min = 1024;
    engine_start(&e);
    CHECK(!turn_server_crowded(e.server));
    allocate();
    CHECK(turn_server_crowded(e.server));
    struct client here = client_at(&e, "203.0.113.1:1000", "a user"), nobody = here;
    nobody.tuple.client.port = 999;
    struct turn_counters before = *turn_server_counters(e.server);
    turn_server_expect(e.server, &here.tuple);
    turn_server_expect(e.server, &nobody.tuple);
    CHECK(memcmp(&before, turn_server_counters(e.server), sizeof before) == 0);
    CHECK(turn_server_holds(e.server, &here.tuple, e.now));
    CHECK(!turn_server_holds(e.server, &nobody.tuple, e.now));
    engine_stop(&e);
}

/* When the tables are full it is 508 that answers, or 486 for the user's share. */
static void test_limits(void)
{
    engine_init(&e);
    e.config.switched = true;
    e.config.max_allocations = 3;
    e.config.user_quota = 2;
    engine_start(&e);
    struct client a = client_at(&e, "203.0.113.1:1", "alice"), b = a, c = a;
    b.tuple.client.port++;
    c.tuple.client.port += 2;
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_allocate(&b), 0);
    CHECK_EQ(client_allocate(&c), 486);
    struct client d = client_at(&e, "203.0.113.2:1", "bob"), f = d;
    f.tuple.client.port++;
    CHECK_EQ(client_allocate(&d), 0);
    CHECK_EQ(client_allocate(&f), 508);
    CHECK_EQ(client_refresh(&a, 0), 0);
    CHECK_EQ(client_allocate(&f), 0);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_cost),
        CHECK_TEST(test_expecting),
        CHECK_TEST(test_limits),
    };
    return CHECK_RUN(tests);
}
