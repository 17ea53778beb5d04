#include "core/turn_away.h"

enum {
    FORGET_MS = 3600 * 1000 /* no allocation lives longer without a Refresh */
};

struct entry {
    struct turn_tuple tuple;
    uint64_t used_ms;
    uint16_t worker;
};

bool turn_away_init(struct turn_away *a, uint32_t capacity)
{
    return slab_init(&a->slab, sizeof(struct entry), capacity) && map_init(&a->by_tuple, capacity);
}

void turn_away_free(struct turn_away *a)
{
    slab_free(&a->slab);
    map_free(&a->by_tuple);
}

static uint64_t key_of(const struct turn_away *a, const struct turn_tuple *tuple)
{
    return hash_bytes(&a->seed, tuple, sizeof *tuple);
}

static struct entry *entry_at(const struct turn_away *a, uint32_t n)
{
    return slab_at(&a->slab, n);
}

static struct entry *find(const struct turn_away *a, const struct turn_tuple *tuple)
{
    struct map_iter it;
    for (uint32_t n = map_first(&a->by_tuple, key_of(a, tuple), &it); n != MAP_NONE;
         n = map_next(&a->by_tuple, &it))
        if (memcmp(&entry_at(a, n)->tuple, tuple, sizeof *tuple) == 0)
            return entry_at(a, n);
    return NULL;
}

static struct entry *make(struct turn_away *a, const struct turn_tuple *tuple)
{
    uint32_t n = slab_take(&a->slab);
    if (n == SLAB_NONE) {
        n = a->oldest;
        a->oldest = (n + 1) % a->slab.capacity;
        map_remove(&a->by_tuple, key_of(a, &entry_at(a, n)->tuple), n);
    }
    entry_at(a, n)->tuple = *tuple;
    map_put(&a->by_tuple, key_of(a, tuple), n);
    return entry_at(a, n);
}

void turn_away_put(struct turn_away *a, const struct turn_tuple *tuple, uint16_t worker,
                   uint64_t now_ms)
{
    struct entry *e = find(a, tuple);
    if (!e)
        e = make(a, tuple);
    e->worker = worker;
    e->used_ms = now_ms;
}

/* What is known and not too old; NULL when there is nothing. */
static struct entry *find_fresh(const struct turn_away *a, const struct turn_tuple *tuple,
                                uint64_t now_ms)
{
    struct entry *e = a->slab.used ? find(a, tuple) : NULL;
    return e && now_ms - e->used_ms <= FORGET_MS ? e : NULL;
}

bool turn_away_find(struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms,
                    uint16_t *worker)
{
    struct entry *e = find_fresh(a, tuple, now_ms);
    if (!e)
        return false;
    e->used_ms = now_ms;
    *worker = e->worker;
    return true;
}

bool turn_away_take(struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms,
                    uint16_t *worker)
{
    if (!turn_away_find(a, tuple, now_ms, worker))
        return false;
    uint32_t n = (uint32_t)((size_t)((uint8_t *)find(a, tuple) - a->slab.memory) / a->slab.stride);
    map_remove(&a->by_tuple, key_of(a, tuple), n);
    slab_give(&a->slab, n);
    return true;
}

bool turn_away_has(const struct turn_away *a, const struct turn_tuple *tuple, uint64_t now_ms)
{
    return find_fresh(a, tuple, now_ms) != NULL;
}
