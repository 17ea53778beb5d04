#include "core/turn_ended.h"

#include "core/stun_wire.h"

#include <stdlib.h>

/*
 * 64 bits of a hash under a secret seed stand for 5-tuple and transaction id. Taken for another, a
 * request gets 437, and its client asks again from another port; with a full ring that is one
 * request in 10^15.
 */
struct turn_ended_entry {
    uint64_t hash;
    uint64_t until_ms;
};

bool turn_ended_init(struct turn_ended *e, uint32_t capacity)
{
    e->capacity = capacity;
    e->ring = calloc(capacity, sizeof *e->ring);
    return e->ring && map_init(&e->by_hash, capacity);
}

void turn_ended_free(struct turn_ended *e)
{
    free(e->ring);
    e->ring = NULL;
    map_free(&e->by_hash);
}

static uint64_t hash_of(const struct turn_ended *e, const struct turn_tuple *tuple,
                        const uint8_t *tid)
{
    uint8_t key[sizeof *tuple + STUN_TID_SIZE];
    memcpy(key, tuple, sizeof *tuple);
    memcpy(key + sizeof *tuple, tid, STUN_TID_SIZE);
    return hash_bytes(&e->seed, key, sizeof key);
}

void turn_ended_put(struct turn_ended *e, const struct turn_tuple *tuple, const uint8_t *tid,
                    uint64_t until_ms)
{
    uint32_t n = e->next;
    e->next = (n + 1) % e->capacity;
    if (e->used == e->capacity)
        map_remove(&e->by_hash, e->ring[n].hash, n);
    else
        e->used++;
    e->ring[n] = (struct turn_ended_entry){hash_of(e, tuple, tid), until_ms};
    map_put(&e->by_hash, e->ring[n].hash, n);
}

bool turn_ended_has(const struct turn_ended *e, const struct turn_tuple *tuple, const uint8_t *tid,
                    uint64_t now_ms)
{
    struct map_iter it;
    if (!e->used)
        return false;
    uint64_t hash = hash_of(e, tuple, tid);
    for (uint32_t n = map_first(&e->by_hash, hash, &it); n != MAP_NONE;
         n = map_next(&e->by_hash, &it))
        if (e->ring[n].hash == hash && e->ring[n].until_ms > now_ms)
            return true;
    return false;
}
