/*
 * A pool of equal-sized objects, numbered from 0: memory is reserved once and touched as the pool
 * fills, freed objects are reused last in, first out.
 */
#ifndef CT_CORE_SLAB_H
#define CT_CORE_SLAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_NONE UINT32_MAX

struct slab {
    uint8_t *memory;
    void *block;       /* that it lies in */
    size_t stride;     /* bytes per object */
    uint32_t capacity; /* objects */
    uint32_t used;
    uint32_t fresh; /* objects from here on have never been used */
    uint32_t free;  /* head of the free list, SLAB_NONE when empty */
};

/*
 * size >= 4 bytes per object; of a multiple of 64, each begins a cache line. False when memory is
 * short.
 */
bool slab_init(struct slab *s, size_t size, uint32_t capacity);
void slab_free(struct slab *s);

/* A zeroed object's number, or SLAB_NONE when the pool is full. */
uint32_t slab_take(struct slab *s);
/* Gives back a number that slab_take() gave. */
void slab_give(struct slab *s, uint32_t number);

static inline uint32_t slab_left(const struct slab *s)
{
    return s->capacity - s->used;
}

/* Whether the address lies in the pool's memory. */
static inline bool slab_has(const struct slab *s, const void *p)
{
    uintptr_t at = (uintptr_t)p, start = (uintptr_t)s->memory;
    return at >= start && at - start < (size_t)s->capacity * s->stride;
}

static inline void *slab_at(const struct slab *s, uint32_t number)
{
    return s->memory + (size_t)number * s->stride;
}

/* The same where the compiler knows the stride. */
static inline void *slab_at_of(const struct slab *s, uint32_t number, size_t stride)
{
    return s->memory + (size_t)number * stride;
}

#endif
