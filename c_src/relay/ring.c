#include "relay/ring.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    CACHE_LINE = 64,
};

static const uint32_t to_the_start = UINT32_MAX; /* instead of a length: go on at the start */

/*
 * Positions count bytes since the beginning and never wrap (at 100 Gbit/s: 46 years). Each thread
 * has a cache line of its own and looks at the other's only when it has come to what it saw last.
 */
struct ring {
    uint8_t *memory;
    size_t size;
    struct {
        _Alignas(CACHE_LINE) _Atomic uint64_t published;
        uint64_t put;
        uint64_t seen; /* of `released` */
    } in;
    struct {
        _Alignas(CACHE_LINE) _Atomic uint64_t released;
        uint64_t taken;
        uint64_t seen; /* of `published` */
    } out;
};

struct ring *ring_new(size_t size)
{
    struct ring *r = aligned_alloc(CACHE_LINE, sizeof *r);

    if (!r)
        return NULL;
    memset(r, 0, sizeof *r);
    r->size = size;
    r->memory = malloc(size);
    if (!r->memory) {
        free(r);
        return NULL;
    }
    return r;
}

void ring_free(struct ring *r)
{
    if (!r)
        return;
    free(r->memory);
    free(r);
}

static uint8_t *at(const struct ring *r, uint64_t position)
{
    return r->memory + (position & (r->size - 1));
}

/* ---- the one thread ---- */

static bool has_room(struct ring *r, size_t need)
{
    if (r->size - (size_t)(r->in.put - r->in.seen) >= need)
        return true;
    r->in.seen = atomic_load_explicit(&r->out.released, memory_order_acquire);
    return r->size - (size_t)(r->in.put - r->in.seen) >= need;
}

/* A record lies in one piece: where the rest of the memory is too short, it is left out. */
uint8_t *ring_put(struct ring *r, size_t len)
{
    if (len > r->size)
        return NULL;
    size_t need = RING_ALIGN + (len + RING_ALIGN - 1) / RING_ALIGN * RING_ALIGN;
    size_t rest = r->size - (size_t)(r->in.put & (r->size - 1));
    size_t skip = need > rest ? rest : 0;
    uint32_t length = (uint32_t)len;

    if (!has_room(r, skip + need))
        return NULL;
    if (skip)
        memcpy(at(r, r->in.put), &to_the_start, sizeof to_the_start);
    r->in.put += skip;
    uint8_t *record = at(r, r->in.put);
    memcpy(record, &length, sizeof length);
    r->in.put += need;
    return record + RING_ALIGN;
}

bool ring_publish(struct ring *r)
{
    if (atomic_load_explicit(&r->in.published, memory_order_relaxed) == r->in.put)
        return false;
    atomic_store_explicit(&r->in.published, r->in.put, memory_order_release);
    return true;
}

/* ---- the other thread ---- */

struct span ring_take(struct ring *r)
{
    uint32_t length;

    if (r->out.taken == r->out.seen)
        r->out.seen = atomic_load_explicit(&r->in.published, memory_order_acquire);
    if (r->out.taken == r->out.seen)
        return span_of(NULL, 0);
    memcpy(&length, at(r, r->out.taken), sizeof length);
    if (length == to_the_start) {
        r->out.taken += r->size - (size_t)(r->out.taken & (r->size - 1));
        memcpy(&length, at(r, r->out.taken), sizeof length);
    }
    uint8_t *record = at(r, r->out.taken) + RING_ALIGN;
    r->out.taken += RING_ALIGN + (length + RING_ALIGN - 1u) / RING_ALIGN * RING_ALIGN;
    return span_of(record, length);
}

void ring_release(struct ring *r)
{
    atomic_store_explicit(&r->out.released, r->out.taken, memory_order_release);
}
