/*
 * A whole worker, on the test's thread: its sockets, its engine, and what its loop does at the end
 * of a turn.
 */
#include "caller.h"

#include "relay/pairs.h"
#include "relay/worker.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    CHANNEL = 0x4001
};

struct alone {
    struct turn_config turn;
    struct stream_config streams;
    struct turn_commons *commons;
    uv_mutex_t commons_lock;
    struct gate *gate;
    struct pairs *pairs;
    struct credit credit, packets; /* none: no events, nobody to send packets to */
    uv_loop_t home_loop;
    struct mailbox home;
    struct worker *worker;
    struct addr listener;
    struct crypto *crypto;
    struct caller caller;
    int peer;
    struct addr peer_at;
};

static void deliver(struct mailbox *box, struct mail *mail)
{
    (void)box;
    (void)mail;
}

static void turn_worker(struct worker *w)
{
    uv_run(worker_loop(w), UV_RUN_NOWAIT);
}

static void turn(struct caller *caller)
{
    turn_worker(
        ((struct alone *)(void *)((char *)caller - offsetof(struct alone, caller)))->worker);
}

static void start(struct alone *a)
{
    const struct worker_setup setup = {.workers = 1,
                                       .config = &a->turn,
                                       .streams = &a->streams,
                                       .commons = a->commons,
                                       .commons_lock = &a->commons_lock,
                                       .gate = a->gate,
                                       .pairs = a->pairs,
                                       .credit = &a->credit,
                                       .packets = &a->packets,
                                       .home = &a->home};
    int fd = -1;

    a->worker = worker_new(&setup);
    CHECK(a->worker != NULL);
    a->listener = addr_of("127.0.0.1:0");
    CHECK_EQ(sock_open_listener(&a->listener, SOCK_ALONE, &fd), 0);
    CHECK_EQ(worker_listen(a->worker, fd, &a->listener, TURN_UDP), 0);
    CHECK_EQ(worker_open(a->worker), 0);
}

/* With a client that has an allocation, and a channel to its peer. */
static void begin(struct alone *a)
{
    memset(a, 0, sizeof *a);
    rig_configure(&a->turn);
    a->streams = (struct stream_config){
        .max_connections = 4, .source_connections = 4, .connection_idle = 30};
    a->commons = turn_commons_new(&a->turn);
    a->gate = gate_new(a->streams.max_connections);
    a->pairs = pairs_new(1);
    a->crypto = crypto_new();
    CHECK(a->commons && a->gate && a->pairs && a->crypto);
    CHECK_EQ(uv_mutex_init(&a->commons_lock), 0);
    CHECK_EQ(uv_loop_init(&a->home_loop), 0);
    CHECK_EQ(mailbox_init(&a->home, &a->home_loop, deliver), 0);
    start(a);
    a->peer = rig_socket("127.0.0.1:0");
    a->peer_at = rig_local(a->peer);
    caller_init(&a->caller, a->crypto, "127.0.0.1:0", &a->listener, turn);
    caller_allocate(&a->caller, ADDR_V4);
    caller_admit(&a->caller, &a->peer_at, CHANNEL);
}

static void end(struct alone *a)
{
    caller_free(&a->caller);
    close(a->peer);
    worker_free(a->worker);
    mailbox_close(&a->home);
    uv_run(&a->home_loop, UV_RUN_DEFAULT);
    mailbox_free(&a->home);
    CHECK_EQ(uv_loop_close(&a->home_loop), 0);
    uv_mutex_destroy(&a->commons_lock);
    pairs_free(a->pairs);
    gate_free(a->gate);
    turn_commons_free(a->commons);
    crypto_free(a->crypto);
}

static uint64_t counted(const struct alone *a, enum turn_counter which)
{
    struct worker_counted c;

    worker_counted(a->worker, &c);
    return c.counters[which];
}

/* Turns the loop up to the end of the turn in which that happened, and not once more. */
static void turn_until(struct alone *a, enum turn_counter which, uint64_t value)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);

    while (counted(a, which) < value && uv_hrtime() < give_up)
        turn_worker(a->worker);
    CHECK_EQ(counted(a, which), value);
}

/* The length of the next datagram there, or on its way to there through the system; -1: none. */
static ssize_t come(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint8_t got[2048];

    return poll(&p, 1, 5000) == 1 ? recv(fd, got, sizeof got, MSG_DONTWAIT) : -1;
}

/*
 * What a turn of the loop has received it sends before it ends. From there on the loop stands
 * still, and with it every timer: what waited for one would never leave.
 */
static void test_nothing_waits_for_a_timer(void)
{
    enum {
        MOST = 5
    };
    static const uint8_t frame[] = {0x40, 1, 0, 4, 'd', 'a', 't', 'a'};
    static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 't', 'i', 'd'};
    static struct alone a;
    uint64_t sum = 0;

    begin(&a);
    int client = a.caller.fd;
    for (unsigned n = 1; n <= MOST; n++) { /* one datagram alone, then several together */
        sum += n;
        for (unsigned i = 0; i < n; i++)
            rig_send(client, &a.listener, frame, sizeof frame);
        turn_until(&a, TURN_N_UP_PACKETS, sum);
        for (unsigned i = 0; i < n; i++)
            CHECK_EQ(come(a.peer), 4);
        for (unsigned i = 0; i < n; i++)
            rig_send(a.peer, &a.caller.c.relayed, "data", 4);
        turn_until(&a, TURN_N_DOWN_PACKETS, sum);
        for (unsigned i = 0; i < n; i++)
            CHECK_EQ(come(client), sizeof frame);
        rig_send(client, &a.listener, binding, sizeof binding);
        turn_until(&a, TURN_N_BINDINGS, n);
        CHECK(come(client) > 20);
    }
    end(&a);
}

int main(void)
{
    const struct check_test tests[] = {CHECK_TEST(test_nothing_waits_for_a_timer)};
    return CHECK_RUN(tests);
}
