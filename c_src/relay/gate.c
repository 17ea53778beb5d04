#include "relay/gate.h"

#include "core/hash.h"
#include "core/map.h"
#include "core/slab.h"
#include "crypto/crypto.h"

#include <stdlib.h>
#include <uv.h>

struct source {
    struct addr key;
    uint32_t count;
};

struct gate {
    uv_mutex_t lock;
    struct hash_seed seed;
    struct slab sources;
    struct map by_key;
    uint32_t most, total;
};

static struct addr key_of(const struct addr *source)
{
    struct addr key = {.family = source->family};

    memcpy(key.ip, source->ip, source->family == ADDR_V6 ? 8 : 4);
    return key;
}

static uint64_t hash_of(const struct gate *g, const struct addr *key)
{
    return hash_bytes(&g->seed, key, sizeof *key);
}

static struct source *source_at(const struct gate *g, uint32_t number)
{
    return slab_at(&g->sources, number);
}

static uint32_t find(const struct gate *g, const struct addr *key)
{
    struct map_iter it;
    uint32_t n = map_first(&g->by_key, hash_of(g, key), &it);

    while (n != MAP_NONE && !addr_eq(&source_at(g, n)->key, key))
        n = map_next(&g->by_key, &it);
    return n;
}

/* There are as many places as connections, so that there is one for each source. */
static uint32_t find_or_add(struct gate *g, const struct addr *key)
{
    uint32_t n = find(g, key);

    if (n != MAP_NONE)
        return n;
    n = slab_take(&g->sources);
    if (n == SLAB_NONE)
        return MAP_NONE;
    source_at(g, n)->key = *key;
    map_put(&g->by_key, hash_of(g, key), n);
    return n;
}

static bool count_source(struct gate *g, const struct addr *key, uint32_t most)
{
    uint32_t n = most > 0 ? find_or_add(g, key) : MAP_NONE;

    if (n == MAP_NONE || source_at(g, n)->count >= most)
        return false;
    source_at(g, n)->count++;
    return true;
}

bool gate_enter(struct gate *g, const struct addr *source, uint32_t source_most)
{
    struct addr key = key_of(source);

    uv_mutex_lock(&g->lock);
    bool in =
        g->total < g->most && (source->family == ADDR_NONE || count_source(g, &key, source_most));
    g->total += in;
    uv_mutex_unlock(&g->lock);
    return in;
}

void gate_leave(struct gate *g, const struct addr *source)
{
    struct addr key = key_of(source);

    uv_mutex_lock(&g->lock);
    g->total--;
    uint32_t n = source->family == ADDR_NONE ? MAP_NONE : find(g, &key);
    if (n != MAP_NONE && --source_at(g, n)->count == 0) {
        map_remove(&g->by_key, hash_of(g, &key), n);
        slab_give(&g->sources, n);
    }
    uv_mutex_unlock(&g->lock);
}

struct gate *gate_new(uint32_t most)
{
    struct gate *g = calloc(1, sizeof *g);

    if (!g)
        return NULL;
    g->most = most;
    if (uv_mutex_init(&g->lock) != 0) {
        free(g);
        return NULL;
    }
    if (crypto_random(&g->seed, sizeof g->seed) != CT_OK ||
        !slab_init(&g->sources, sizeof(struct source), most) || !map_init(&g->by_key, most)) {
        gate_free(g);
        return NULL;
    }
    return g;
}

void gate_free(struct gate *g)
{
    if (!g)
        return;
    uv_mutex_destroy(&g->lock);
    slab_free(&g->sources);
    map_free(&g->by_key);
    free(g);
}
