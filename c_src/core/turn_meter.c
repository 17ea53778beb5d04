#include "core/turn_meter.h"

enum {
    BURST_LEAST = UINT16_MAX /* a datagram of any length can pass when nothing went before */
};

/* What no bucket can hold: it is full. */
#define FULL_MOST ((uint64_t)UINT32_MAX * 1000)

static struct turn_meter *meter_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->meters, number);
}

static uint32_t find(const struct turn_server *s, uint64_t user)
{
    struct map_iter it;
    uint32_t n = map_first(&s->meter_by_user, user, &it);
    while (n != MAP_NONE && meter_at(s, n)->user != user)
        n = map_next(&s->meter_by_user, &it);
    return n == MAP_NONE ? SLAB_NONE : n;
}

void turn_meter_join(struct turn_server *s, struct turn_alloc *a)
{
    uint32_t n = find(s, a->user);
    if (n == SLAB_NONE && slab_left(&s->meters)) {
        n = slab_take(&s->meters);
        *meter_at(s, n) = (struct turn_meter){
            .user = a->user, .buckets = {{.milli_bytes = FULL_MOST}, {.milli_bytes = FULL_MOST}}};
        map_put(&s->meter_by_user, a->user, n);
    }
    a->meter = n;
    if (n != SLAB_NONE)
        meter_at(s, n)->allocations++;
}

void turn_meter_leave(struct turn_server *s, struct turn_alloc *a)
{
    uint32_t n = a->meter;
    a->meter = SLAB_NONE;
    if (n == SLAB_NONE || --meter_at(s, n)->allocations)
        return;
    map_remove(&s->meter_by_user, a->user, n);
    slab_give(&s->meters, n);
}

/* rate bytes per second are rate milli-bytes per millisecond; both factors are below 2^32. */
static void fill(struct turn_bucket *b, uint32_t rate, struct turn_now now)
{
    uint64_t full = (uint64_t)(rate > BURST_LEAST ? rate : BURST_LEAST) * 1000;
    uint64_t elapsed = now.ms > b->at_ms ? now.ms - b->at_ms : 0;
    uint64_t tokens = b->milli_bytes + (elapsed < INT32_MAX ? elapsed : INT32_MAX) * rate;
    b->milli_bytes = tokens < full ? tokens : full;
    b->at_ms = now.ms;
}

bool turn_meter_take(struct turn_server *s, const struct turn_alloc *a, enum turn_direction which,
                     size_t bytes, struct turn_now now)
{
    uint64_t cost = (uint64_t)bytes * 1000;
    if (a->meter == SLAB_NONE || !s->config->user_bandwidth)
        return true;
    struct turn_bucket *b = &meter_at(s, a->meter)->buckets[which];
    fill(b, s->config->user_bandwidth, now);
    if (b->milli_bytes < cost) {
        turn_count(&s->counters, TURN_N_DROP_BANDWIDTH, 1);
        return false;
    }
    b->milli_bytes -= cost;
    return true;
}
