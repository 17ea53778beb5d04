/* Datagrams between workers: two loops of one thread, with an engine that drops what it gets. */
#include "check.h"
#include "core/engine.h"
#include "relay/pairs.h"

static struct engine engine;
static enum turn_admission engine_scope;

struct world {
    struct pairs *pairs;
    uv_loop_t loops[3];
    struct pairs_end ends[3];
};

static void open_world(struct world *w)
{
    w->pairs = pairs_new(3);
    CHECK(w->pairs != NULL);
    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(uv_loop_init(&w->loops[i]), 0);
    engine_init(&engine);
    engine.config.admission = (uint8_t)engine_scope;
    engine.now.ms = uv_now(&w->loops[0]); /* what comes over has the loop's time */
    engine_start(&engine);
    for (unsigned i = 0; i < 3; i++) {
        CHECK_EQ(pairs_open(&w->ends[i], w->pairs, i, &w->loops[i]), 0);
        pairs_start(&w->ends[i], engine.server);
    }
}

static void close_world(struct world *w)
{
    for (unsigned i = 0; i < 3; i++)
        pairs_close(&w->ends[i]);
    for (unsigned i = 0; i < 3; i++) {
        uv_run(&w->loops[i], UV_RUN_DEFAULT);
        CHECK_EQ(uv_loop_close(&w->loops[i]), 0);
    }
    pairs_free(w->pairs);
    engine_stop(&engine);
}

/* Once, without waiting. The handle alone keeps no loop running: a worker has others. */
static void turn(struct world *w, unsigned worker)
{
    uv_handle_t *handle = (uv_handle_t *)&w->ends[worker].wake;
    uv_ref(handle);
    uv_run(&w->loops[worker], UV_RUN_NOWAIT);
    uv_unref(handle);
}

static struct turn_pair pair_of(const struct client *c, const char *data)
{
    return (struct turn_pair){.from = addr_of("192.0.2.1:55555"),
                              .port = c->relayed.port,
                              .data = span_of((const uint8_t *)data, strlen(data))};
}

static struct client with_allocation(void)
{
    struct client c = client_at(&engine, "203.0.113.7:1", "alice");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_permit(&c, "192.0.2.1:1"), 0);
    engine_clear(&engine);
    return c;
}

/* All that a turn has put comes over whole, in order, from every worker, with one wake-up. */
static void test_over(void)
{
    struct world w;
    open_world(&w);
    struct client c = with_allocation();
    struct turn_pair first = pair_of(&c, "first"), second = pair_of(&c, "second");
    CHECK(pairs_put(&w.ends[1], 0, &first) && pairs_put(&w.ends[1], 0, &second));
    turn(&w, 0);
    CHECK_EQ(engine.to_clients, 0);
    pairs_flush(&w.ends[1]);
    turn(&w, 0);
    CHECK_EQ(engine.to_clients, 2);
    CHECK(got_indication(&c, "192.0.2.1:55555", "second"));
    struct turn_pair empty = pair_of(&c, "");
    CHECK(pairs_put(&w.ends[2], 0, &empty));
    pairs_flush(&w.ends[2]);
    turn(&w, 1);
    CHECK_EQ(engine.to_clients, 2);
    turn(&w, 0);
    CHECK(got_indication(&c, "192.0.2.1:55555", ""));
    pairs_flush(&w.ends[0]);
    close_world(&w);
}

/* The sender's rooms come along, as many as they are, and do not outlast their datagram. */
static void test_rooms(void)
{
    struct world w;
    engine_scope = TURN_ADMISSION_ROOM;
    open_world(&w);
    struct turn_grants *grants = turn_commons_grants(engine.commons);
    uint64_t user = turn_commons_user(engine.commons, (const uint8_t *)"alice", 5);
    bool fresh;
    CHECK_EQ(turn_grants_put(grants, user, 8, &fresh), CT_OK);
    struct client c = with_allocation();
    const struct turn_rooms full = {{1, 2, 3, 4, 5, 6, 7, 8}}, one = {{8}}, other = {{9}};
    const struct turn_rooms none = {{0}};
    const struct turn_rooms *const rooms[] = {&full, NULL, &one, &other, &full, &none};
    static const char *const data[] = {"full", "without", "one", "other", "full again", "none"};
    for (size_t i = 0; i < 6; i++) {
        struct turn_pair pair = pair_of(&c, data[i]);
        pair.rooms = rooms[i];
        CHECK(pairs_put(&w.ends[1], 0, &pair));
    }
    pairs_flush(&w.ends[1]);
    turn(&w, 0);
    CHECK_EQ(engine.to_clients, 3);
    CHECK(got_indication(&c, "192.0.2.1:55555", "full again"));
    CHECK_EQ(engine_counter(&engine, TURN_N_DROP_OTHER_ROOM), 3);
    close_world(&w);
    engine_scope = TURN_ADMISSION_OFF;
}

/* A full ring takes no more, and all that it took arrives; then there is room again. */
static void test_full(void)
{
    static char big[60000];
    struct world w;
    unsigned n = 0;
    open_world(&w);
    struct client c = with_allocation();
    struct turn_pair none = {.port = (uint16_t)(c.relayed.port ^ 1),
                             .data = span_of((const uint8_t *)big, sizeof big)};
    while (pairs_put(&w.ends[1], 0, &none))
        n++;
    CHECK(n >= 4);
    pairs_flush(&w.ends[1]);
    turn(&w, 0);
    CHECK_EQ(engine_counter(&engine, TURN_N_DROP_NO_ALLOCATION), n);
    CHECK(!pairs_put(&w.ends[1], 0, &none)); /* what was taken may still wait to be sent */
    pairs_flush(&w.ends[0]);
    CHECK(pairs_put(&w.ends[1], 0, &none));
    /* an engine that ends gets nothing any more */
    pairs_stop(&w.ends[0]);
    pairs_flush(&w.ends[1]);
    turn(&w, 0);
    CHECK_EQ(engine_counter(&engine, TURN_N_DROP_NO_ALLOCATION), n);
    close_world(&w);
}

/* One worker has no rings; an end that was never opened can be closed. */
static void test_alone(void)
{
    struct pairs *p = pairs_new(1);
    struct pairs_end end = {0};
    CHECK(p != NULL);
    pairs_stop(&end);
    pairs_close(&end);
    pairs_free(p);
    pairs_free(NULL);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_over),
        CHECK_TEST(test_rooms),
        CHECK_TEST(test_full),
        CHECK_TEST(test_alone),
    };
    return CHECK_RUN(tests);
}
