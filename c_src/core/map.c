#include "core/map.h"

#include <stdlib.h>
#include <string.h>

static uint32_t home(const struct map *m, uint32_t tag)
{
    return tag & m->mask;
}

static uint32_t tag_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32);
}

bool map_init(struct map *m, uint32_t capacity)
{
    uint32_t size = 16;
    *m = (struct map){0};
    if (capacity > MAP_CAPACITY_MAX)
        return false;
    while (size / 2 < capacity)
        size *= 2;
    *m = (struct map){.mask = size - 1, .capacity = capacity};
    m->slots = malloc(size * sizeof *m->slots);
    if (!m->slots)
        return false;
    memset(m->slots, 0xff, size * sizeof *m->slots);
    return true;
}

void map_free(struct map *m)
{
    free(m->slots);
    *m = (struct map){0};
}

bool map_put(struct map *m, uint64_t hash, uint32_t number)
{
    if (m->used == m->capacity)
        return false;
    uint32_t at = home(m, tag_of(hash));
    while (m->slots[at].number != MAP_NONE)
        at = (at + 1) & m->mask;
    m->slots[at] = (struct map_slot){.tag = tag_of(hash), .number = number};
    m->used++;
    return true;
}

/* Closes the gap at `hole`: whatever was pushed past it by a collision moves back. */
static void shift_back(struct map *m, uint32_t hole)
{
    for (uint32_t at = (hole + 1) & m->mask;; at = (at + 1) & m->mask) {
        if (m->slots[at].number == MAP_NONE)
            break;
        uint32_t from_home = (at - home(m, m->slots[at].tag)) & m->mask;
        uint32_t from_hole = (at - hole) & m->mask;
        if (from_home < from_hole)
            continue;
        m->slots[hole] = m->slots[at];
        hole = at;
    }
    m->slots[hole].number = MAP_NONE;
}

bool map_remove(struct map *m, uint64_t hash, uint32_t number)
{
    uint32_t tag = tag_of(hash);
    for (uint32_t at = home(m, tag); m->slots[at].number != MAP_NONE; at = (at + 1) & m->mask) {
        if (m->slots[at].number != number || m->slots[at].tag != tag)
            continue;
        shift_back(m, at);
        m->used--;
        return true;
    }
    return false;
}
