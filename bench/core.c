/*
 * What the engine itself can do, without sockets, on one thread: ChannelData forwarded and
 * authenticated Allocates per second of CPU time. It prints one line of JSON; bench/README.md says
 * what the figures mean.
 */
#define _GNU_SOURCE
#include "core/turn_frame.h"
#include "proc.h"
#include "world.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CHANNEL = 0x4000,
    BUFFERS = 64, /* packets lie in so many buffers in turn, as those of a batch do */
    BATCH = 512,  /* allocations there at a time, where they come and go */
    FEW = 64,     /* clients */
    MANY = 1000,
    CROWD = 50000,
    CLOCK_EVERY = 65536, /* packets: to read it is a system call, of which 64 packets feel a part */
    ROUNDS_MAX = 99
};

static const double ROUND_S = 0.3;

struct bench {
    struct world *world;
    struct caller *callers;
    uint32_t n;
    /* of the callers, side by side: a worker has them in cache, from recvmmsg() */
    struct turn_tuple *tuples;
    uint32_t *allocs;
    size_t payload;
    int rounds;
    uint8_t *frames; /* BUFFERS of ChannelData */
};

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const uint8_t *frame(const struct bench *b, uint64_t i)
{
    return b->frames + i % BUFFERS * (b->payload + STUN_CHANNEL_HEADER_SIZE);
}

/* ---- passes: each does its thing once for every caller ---- */

/* A worker's batch: it says whose packets it has, then gives them. */
static void batch_up(struct bench *b, uint32_t first, uint32_t end)
{
    struct turn_server *server = world_server(b->world);
    struct turn_now now = world_now(b->world);
    for (uint32_t i = first; i < end && turn_server_crowded(server); i++)
        turn_server_expect(server, &b->tuples[i]);
    for (uint32_t i = first; i < end; i++) {
        struct turn_packet packet = {frame(b, i), b->payload + STUN_CHANNEL_HEADER_SIZE};
        turn_server_from_client(server, &b->tuples[i], &packet, now);
    }
}

static void pass_up(struct bench *b)
{
    for (uint32_t i = 0; i < b->n; i += BUFFERS)
        batch_up(b, i, b->n - i < BUFFERS ? b->n : i + BUFFERS);
}

static void pass_down(struct bench *b)
{
    struct turn_server *server = world_server(b->world);
    struct turn_now now = world_now(b->world);
    struct addr peer = world_peer();
    for (uint32_t i = 0; i < b->n; i++) {
        struct turn_packet packet = {frame(b, i) + STUN_CHANNEL_HEADER_SIZE, b->payload};
        turn_server_from_peer(server, b->allocs[i], &peer, &packet, now);
    }
}

/* ---- rates ---- */

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Packets per second of CPU time: the median of the rounds. */
static double rate_of(struct bench *b, void (*pass)(struct bench *b))
{
    double rates[ROUNDS_MAX];
    pass(b);
    for (int i = 0; i < b->rounds; i++) {
        uint64_t done = 0;
        double start = cpu_s(), now;
        do {
            for (uint64_t until = done + CLOCK_EVERY; done < until; done += b->n)
                pass(b);
            now = cpu_s();
        } while (now - start < ROUND_S);
        rates[i] = (double)done / (now - start);
        world_pass(b->world, 1);
    }
    return median(rates, b->rounds);
}

static void meet_all(struct bench *b, uint32_t n)
{
    b->n = n;
    b->world = world_new(n);
    b->callers = calloc(n, sizeof *b->callers);
    b->tuples = calloc(n, sizeof *b->tuples);
    b->allocs = calloc(n, sizeof *b->allocs);
    if (!b->callers || !b->tuples || !b->allocs)
        die("no memory");
    for (uint32_t i = 0; i < n; i++) {
        world_meet(b->world, &b->callers[i], i);
        b->tuples[i] = b->callers[i].tuple;
    }
}

static void allocate_all(struct bench *b)
{
    for (uint32_t i = 0; i < b->n; i++) {
        world_allocate(b->world, &b->callers[i]);
        b->allocs[i] = b->callers[i].alloc;
    }
}

static void part(struct bench *b)
{
    world_free(b->world);
    free(b->callers);
    free(b->tuples);
    free(b->allocs);
}

/* Every packet must have come out where it should. */
static void check(const struct bench *b, enum turn_counter counter, uint64_t effects)
{
    if (world_counter(b->world, counter) != effects || effects < b->n)
        die("packets were lost in the engine");
}

static void open_channels(struct bench *b, uint32_t n)
{
    struct sockaddr_in peer = world_peer_name();
    meet_all(b, n);
    allocate_all(b);
    for (uint32_t i = 0; i < n; i++)
        world_bind(b->world, &b->callers[i], CHANNEL, &peer);
}

static double measure_up(struct bench *b, uint32_t n)
{
    open_channels(b, n);
    double rate = rate_of(b, pass_up);
    check(b, TURN_N_UP_PACKETS, world_to_peers(b->world));
    part(b);
    return rate;
}

static double measure_down(struct bench *b, uint32_t n)
{
    open_channels(b, n);
    uint64_t before = world_to_clients(b->world);
    double rate = rate_of(b, pass_down);
    check(b, TURN_N_DOWN_PACKETS, world_to_clients(b->world) - before);
    part(b);
    return rate;
}

/*
 * Callers 2k and 2k + 1 are each other's peers. Negative when the engine gives such packets to the
 * relay sockets: it has no short cut then.
 */
static double measure_pair(struct bench *b, uint32_t n)
{
    double rate = -1;
    meet_all(b, n);
    allocate_all(b);
    for (uint32_t i = 0; i < n; i++)
        world_bind(b->world, &b->callers[i], CHANNEL, &b->callers[i ^ 1].relayed);
    pass_up(b);
    if (world_to_peers(b->world) == 0) {
        rate = rate_of(b, pass_up);
        check(b, TURN_N_DOWN_PACKETS, world_counter(b->world, TURN_N_UP_PACKETS));
    }
    part(b);
    return rate;
}

/* ---- allocations ---- */

struct alloc_rates {
    double allocate, release, cycle;
};

/* BATCH callers from `first` on come, and go: adds the CPU seconds of either. */
static void come_and_go(struct bench *b, uint32_t first, double *come, double *go)
{
    double start = cpu_s();
    for (uint32_t i = first; i < first + BATCH; i++)
        world_send(b->world, &b->tuples[i], b->callers[i].allocate, b->callers[i].allocate_len);
    double between = cpu_s();
    for (uint32_t i = first; i < first + BATCH; i++)
        world_send(b->world, &b->tuples[i], b->callers[i].release, b->callers[i].release_len);
    *come += between - start;
    *go += cpu_s() - between;
}

static void measure_round(struct bench *b, struct alloc_rates *out)
{
    uint64_t created = world_counter(b->world, TURN_N_CREATED), done = 0;
    uint64_t released = world_counter(b->world, TURN_N_RELEASED);
    double come = 0, go = 0;
    for (uint32_t first = 0; come + go < ROUND_S; first = (first + BATCH) % b->n) {
        for (uint32_t i = first; i < first + BATCH; i++)
            world_come_again(&b->callers[i]);
        come_and_go(b, first, &come, &go);
        world_pass(b->world, 1);
        done += BATCH;
    }
    if (world_counter(b->world, TURN_N_CREATED) - created != done ||
        world_counter(b->world, TURN_N_RELEASED) - released != done)
        die("the engine refused an allocation");
    *out = (struct alloc_rates){(double)done / come, (double)done / go, (double)done / (come + go)};
}

/* n users, a multiple of BATCH, one batch after the other. */
static struct alloc_rates measure_alloc(struct bench *b, uint32_t n)
{
    struct alloc_rates r[ROUNDS_MAX];
    double allocate[ROUNDS_MAX], release[ROUNDS_MAX], cycle[ROUNDS_MAX];
    meet_all(b, n);
    measure_round(b, &r[0]);
    for (int i = 0; i < b->rounds; i++) {
        measure_round(b, &r[i]);
        allocate[i] = r[i].allocate;
        release[i] = r[i].release;
        cycle[i] = r[i].cycle;
    }
    part(b);
    return (struct alloc_rates){median(allocate, b->rounds), median(release, b->rounds),
                                median(cycle, b->rounds)};
}

/* ---- the whole ---- */

static void make_frames(struct bench *b)
{
    uint8_t payload[MESSAGE_PAYLOAD_MAX] = {0};
    size_t len = b->payload + STUN_CHANNEL_HEADER_SIZE;
    b->frames = malloc(BUFFERS * len + MESSAGE_MAX);
    if (!b->frames)
        die("no memory");
    for (size_t i = 0; i < BUFFERS; i++)
        message_channel_data(b->frames + i * len, CHANNEL, payload, b->payload);
}

static void print_rate(const char *name, double rate)
{
    if (rate < 0)
        printf(",\"%s\":null", name);
    else
        printf(",\"%s\":%.0f", name, rate);
}

static const struct way {
    const char *name;
    double (*measure)(struct bench *b, uint32_t n);
} ways[] = {{"up", measure_up}, {"down", measure_down}, {"pair", measure_pair}};

enum {
    WAYS = sizeof ways / sizeof *ways
};

static void print_data(struct bench *b, uint32_t n)
{
    char name[32];
    for (size_t i = 0; i < WAYS; i++) {
        snprintf(name, sizeof name, "%s_%u", ways[i].name, n);
        print_rate(name, ways[i].measure(b, n));
    }
}

static void print_alloc(struct bench *b, const char *users, uint32_t n)
{
    char name[32];
    struct alloc_rates r = measure_alloc(b, n);
    snprintf(name, sizeof name, "allocate_%s", users);
    print_rate(name, r.allocate);
    snprintf(name, sizeof name, "release_%s", users);
    print_rate(name, r.release);
    snprintf(name, sizeof name, "cycle_%s", users);
    print_rate(name, r.cycle);
}

/* One figure alone: for a profiler. */
static void only(struct bench *b, const char *what, uint32_t clients)
{
    printf("{\"program\":\"core\"");
    for (size_t i = 0; i < WAYS; i++)
        if (strcmp(what, ways[i].name) == 0)
            print_rate(what, ways[i].measure(b, clients));
    if (strcmp(what, "alloc") == 0)
        print_alloc(b, "again", BATCH);
    printf("}\n");
}

static void all(struct bench *b)
{
    printf("{\"program\":\"core\",\"payload\":%zu,\"rounds\":%d", b->payload, b->rounds);
    print_data(b, FEW);
    print_data(b, MANY);
    print_data(b, CROWD);
    print_alloc(b, "again", BATCH);
    print_alloc(b, "new", 64 * BATCH);
    printf("}\n");
}

static int number(const char *text, int min, int max)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < min || v > max)
        die("want a number from %d to %d, not %s", min, max, text);
    return (int)v;
}

int main(int argc, char **argv)
{
    struct bench b = {.payload = 160, .rounds = 5};
    const char *what = NULL;
    uint32_t clients = MANY;
    for (int o; (o = getopt(argc, argv, "l:n:o:c:u:")) != -1;) {
        if (o == 'l')
            b.payload = (size_t)number(optarg, 1, MESSAGE_PAYLOAD_MAX);
        else if (o == 'n')
            b.rounds = number(optarg, 1, ROUNDS_MAX);
        else if (o == 'u')
            clients = (uint32_t)number(optarg, 2, CROWD) & ~1u; /* they come in pairs */
        else if (o == 'o')
            what = optarg;
        else if (o == 'c')
            proc_pin(0, number(optarg, 0, 1023));
        else
            die("usage: core [-l PAYLOAD] [-n ROUNDS] [-c CPU] [-o up|down|pair|alloc [-u CLIENTS]]");
    }
    make_frames(&b);
    if (what)
        only(&b, what, clients);
    else
        all(&b);
    free(b.frames);
    return 0;
}
