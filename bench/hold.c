/*
 * Memory against the number of allocations, each of which has one channel and has carried a packet
 * each way: it is there, and has used what it needs.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    PEERS = 64, /* sockets that all clients share as peers */
    CARRY_TRIES = 10,
    CARRY_S = 5, /* at most, for one try */
    CARRY_RATE_MIN = 4000
};

/* Where memory is looked at, if so many are asked for. */
static const int steps[] = {1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000};

static void open_one(struct bench *b, int i)
{
    struct client *c = &b->load.clients[i];
    client_open_shared(b->load.clients, &b->source, i);
    client_allocate(c, &b->source);
    if (b->mode->paired)
        return;
    if (i < PEERS)
        client_open_peer(c, &b->source);
    else
        client_share_peer(c, &b->load.clients[i % PEERS]);
    client_bind(c, &b->source, &c->peer_addr);
}

static void open_range(struct bench *b, int from, int to)
{
    for (int i = from; i < to; i++)
        open_one(b, i);
    for (int i = from; b->mode->paired && i < to; i++)
        client_bind(&b->load.clients[i], &b->source, &b->load.clients[i ^ 1].relay);
}

static uint64_t with_some(const uint64_t *got, int n)
{
    uint64_t some = 0;
    for (int i = 0; i < n; i++)
        some += got[i] > 0;
    return some;
}

/* How many of the first n have carried a packet, after a few tries: a busy server may lose some. */
static uint64_t carry(struct bench *b, int n)
{
    struct load_result *r = malloc(sizeof *r);
    struct load all = b->load;
    uint64_t carried = 0;
    all.n = n;
    all.server = b->source.server;
    all.echo = !b->mode->paired;
    all.burst = 1;
    all.rate = n > CARRY_S * CARRY_RATE_MIN ? (double)n / CARRY_S : CARRY_RATE_MIN;
    all.got = calloc((size_t)n, sizeof *all.got);
    if (!r || !all.got)
        die("no memory");
    struct load_run *run = load_new(&all);
    for (int tries = 0; tries < CARRY_TRIES && carried < (uint64_t)n; tries++) {
        load_send(run, (n + 0.5) / all.rate, r);
        carried = with_some(all.got, n);
    }
    load_free(run);
    free(all.got);
    free(r);
    return carried;
}

struct memory {
    int allocations;
    uint64_t kb, kb_of[PROC_MAX];
};

static struct memory look(const struct procs *server, int allocations)
{
    struct memory m = {.allocations = allocations, .kb = procs_settled_rss_kb(server)};
    for (size_t i = 0; i < server->n; i++)
        m.kb_of[i] = proc_rss_kb(server->pid[i]);
    return m;
}

static double growth(uint64_t from, uint64_t to, int n)
{
    return ((double)to - (double)from) / n;
}

/* [allocations, KiB of each process] */
static void print_point(const struct bench *b, const struct memory *m, const char *comma)
{
    printf("%s[%d", comma, m->allocations);
    for (size_t i = 0; i < b->server.n; i++)
        printf(",%" PRIu64, m->kb_of[i]);
    printf("]");
}

static struct memory step(struct bench *b, int from, int to, uint64_t *carried)
{
    open_range(b, from, to);
    *carried = carry(b, to);
    return look(&b->server, to);
}

static void print_growth(const struct bench *b, const struct memory *warm,
                         const struct memory *full)
{
    int n = full->allocations - warm->allocations;
    printf("\"rss_kb_per_alloc\":%.3f,\"by_process\":[", growth(warm->kb, full->kb, n));
    for (size_t i = 0; i < b->server.n; i++)
        printf("%s%.3f", i ? "," : "", growth(warm->kb_of[i], full->kb_of[i], n));
    printf("]");
}

void hold_run(struct bench *b)
{
    if (b->server.n == 0)
        die("%s wants -P", b->mode->name);
    if (b->mode->paired && (b->load.n % 2 || b->warm % 2))
        die("%s wants even numbers of clients", b->mode->name);
    int all = b->load.n + b->warm, open = b->warm;
    uint64_t carried;
    struct memory empty = look(&b->server, 0), warm = step(b, 0, b->warm, &carried);
    printf("{\"mode\":\"%s\",\"warm\":%d,\"allocations\":%d,\"curve\":[", b->mode->name, b->warm,
           b->load.n);
    print_point(b, &empty, "");
    print_point(b, &warm, ",");
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        if (steps[i] <= open || steps[i] >= all)
            continue;
        struct memory m = step(b, open, steps[i], &carried);
        print_point(b, &m, ",");
        open = steps[i];
    }
    struct memory full = step(b, open, all, &carried);
    print_point(b, &full, ",");
    printf("],");
    b->load.n = all;
    bench_close_all(b);
    print_growth(b, &warm, &full);
    printf(",\"carried\":%" PRIu64 ",\"rss_empty_kb\":%" PRIu64 ",\"rss_warm_kb\":%" PRIu64
           ",\"rss_full_kb\":%" PRIu64 ",\"rss_released_kb\":%" PRIu64 "}\n",
           carried, empty.kb, warm.kb, full.kb, look(&b->server, 0).kb);
}
