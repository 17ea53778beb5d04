#include "relay/pairs.h"

#include "core/turn_grants.h"
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/ring.h"

#include <stdlib.h>

struct pairs {
    unsigned workers;
    struct pairs_end *ends[TURN_WORKERS_MAX];
    struct ring *rings[]; /* from worker i to worker k at i * workers + k; NULL to itself */
};

/* In front of a datagram in a ring; then its sender's rooms, as many as they are. */
struct record {
    struct addr from;
    uint32_t alloc;
    uint16_t port;
    uint8_t relay;
    uint8_t rooms;
};

static struct ring *ring_of(const struct pairs *p, unsigned from, unsigned to)
{
    return p->rings[from * p->workers + to];
}

struct pairs *pairs_new(unsigned workers)
{
    struct pairs *p = calloc(1, sizeof *p + (size_t)workers * workers * sizeof *p->rings);

    if (!p)
        return NULL;
    p->workers = workers;
    for (unsigned i = 0; i < workers * workers; i++) {
        if (i / workers == i % workers)
            continue;
        p->rings[i] = ring_new(PAIRS_RING);
        if (!p->rings[i]) {
            pairs_free(p);
            return NULL;
        }
    }
    return p;
}

void pairs_free(struct pairs *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < p->workers * p->workers; i++)
        ring_free(p->rings[i]);
    free(p);
}

/* ---- sending ---- */

bool pairs_put(struct pairs_end *end, unsigned worker, const struct turn_pair *pair)
{
    const unsigned rooms = pair->rooms ? turn_rooms_count(pair->rooms) : 0;
    const size_t rooms_len = rooms * sizeof pair->rooms->hash[0];
    const struct record record = {.from = pair->from,
                                  .alloc = pair->alloc,
                                  .port = pair->port,
                                  .relay = pair->relay,
                                  .rooms = (uint8_t)rooms};
    uint8_t *to = ring_put(ring_of(end->pairs, end->worker, worker),
                           sizeof record + rooms_len + pair->data.len);

    if (!to)
        return false;
    memcpy(to, &record, sizeof record);
    if (rooms)
        memcpy(to + sizeof record, pair->rooms, rooms_len);
    if (pair->data.len)
        memcpy(to + sizeof record + rooms_len, pair->data.data, pair->data.len);
    end->put |= UINT64_C(1) << worker;
    return true;
}

/* The lowest bit that is set, taken off. */
static unsigned take_bit(uint64_t *bits)
{
    unsigned n = 0;

    while (!(*bits >> n & 1))
        n++;
    *bits &= *bits - 1;
    return n;
}

void pairs_flush(struct pairs_end *end)
{
    while (end->taken)
        ring_release(ring_of(end->pairs, take_bit(&end->taken), end->worker));
    while (end->put) {
        unsigned worker = take_bit(&end->put);
        if (ring_publish(ring_of(end->pairs, end->worker, worker)))
            uv_async_send(&end->pairs->ends[worker]->wake);
    }
}

/* ---- receiving ---- */

static void hand_in(struct pairs_end *end, struct span bytes, struct turn_now now)
{
    struct record record;
    struct turn_rooms rooms = {{0}};

    memcpy(&record, bytes.data, sizeof record);
    const size_t head = sizeof record + record.rooms * sizeof rooms.hash[0];
    struct turn_pair pair = {.from = record.from,
                             .alloc = record.alloc,
                             .port = record.port,
                             .relay = record.relay,
                             .data = span_of(bytes.data + head, bytes.len - head)};
    if (record.rooms) {
        memcpy(rooms.hash, bytes.data + sizeof record, head - sizeof record);
        pair.rooms = &rooms;
    }
    if (end->server)
        turn_server_paired(end->server, &pair, now);
}

/* At most what a ring holds, so that the sockets have their turn. */
static void on_wake(uv_async_t *wake)
{
    struct pairs_end *end = OWNER_OF(wake, struct pairs_end, wake);
    struct turn_now now = now_of(end->loop);

    for (unsigned i = 0; i < end->pairs->workers; i++) {
        struct ring *ring = ring_of(end->pairs, i, end->worker);
        struct span bytes;
        if (!ring)
            continue;
        while ((bytes = ring_take(ring)).data) {
            end->taken |= UINT64_C(1) << i;
            hand_in(end, bytes, now);
        }
    }
}

/* ---- life ---- */

int pairs_open(struct pairs_end *end, struct pairs *pairs, unsigned worker, uv_loop_t *loop)
{
    *end = (struct pairs_end){.pairs = pairs, .worker = worker, .loop = loop};
    int err = uv_async_init(loop, &end->wake, on_wake);
    if (err) {
        end->pairs = NULL;
        return err;
    }
    uv_unref((uv_handle_t *)&end->wake);
    pairs->ends[worker] = end;
    return 0;
}

void pairs_start(struct pairs_end *end, struct turn_server *server)
{
    end->server = server;
}

void pairs_stop(struct pairs_end *end)
{
    end->server = NULL;
}

void pairs_close(struct pairs_end *end)
{
    if (end->pairs)
        uv_close((uv_handle_t *)&end->wake, NULL);
}
