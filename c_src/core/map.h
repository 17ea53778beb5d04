/*
 * An open-addressing table from 64-bit hashes to object numbers. It knows no keys: who looks up
 * walks the candidates of a hash and compares.
 *
 *     for (uint32_t n = map_first(m, h, &it); n != MAP_NONE; n = map_next(m, &it))
 *         if (same(n)) ...
 */
#ifndef CT_CORE_MAP_H
#define CT_CORE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAP_NONE UINT32_MAX

enum {
    MAP_CAPACITY_MAX = 1 << 30
};

struct map_slot {
    uint32_t tag;    /* high half of the hash */
    uint32_t number; /* MAP_NONE: empty */
};

struct map {
    struct map_slot *slots;
    uint32_t mask;
    uint32_t used;
    uint32_t capacity; /* entries it takes; the slots are at least twice as many */
};

struct map_iter {
    uint32_t at, tag;
};

/*
 * Slots are written at once, so that memory does not grow with use. False when memory is short or
 * capacity is beyond MAP_CAPACITY_MAX.
 */
bool map_init(struct map *m, uint32_t capacity);
void map_free(struct map *m);

static inline uint32_t map_next(const struct map *m, struct map_iter *it)
{
    for (;;) {
        struct map_slot slot = m->slots[it->at];
        if (slot.number == MAP_NONE)
            return MAP_NONE;
        it->at = (it->at + 1) & m->mask;
        if (slot.tag == it->tag)
            return slot.number;
    }
}

/* The home slot is a function of the tag alone, so that entries can be moved without their keys. */
static inline uint32_t map_first(const struct map *m, uint64_t hash, struct map_iter *it)
{
    it->tag = (uint32_t)(hash >> 32);
    it->at = it->tag & m->mask;
    return map_next(m, it);
}

/* False when `capacity` entries are there. */
bool map_put(struct map *m, uint64_t hash, uint32_t number);
/* Removes the entry of this hash and number; false when there is none. */
bool map_remove(struct map *m, uint64_t hash, uint32_t number);

#endif
