#include "core/slab.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINE = 64
};

bool slab_init(struct slab *s, size_t size, uint32_t capacity)
{
    size_t stride = (size + 15) & ~(size_t)15;
    *s = (struct slab){.stride = stride, .capacity = capacity, .free = SLAB_NONE};
    s->block = calloc((size_t)capacity + 1, stride); /* one more: room to begin at a cache line */
    if (!s->block)
        return false;
    size_t past = (uintptr_t)s->block % LINE;
    s->memory = (uint8_t *)s->block + (past && stride % LINE == 0 ? LINE - past : 0);
    return true;
}

void slab_free(struct slab *s)
{
    free(s->block);
    *s = (struct slab){.free = SLAB_NONE};
}

uint32_t slab_take(struct slab *s)
{
    uint32_t number = s->free;
    if (number != SLAB_NONE)
        memcpy(&s->free, slab_at(s, number), sizeof s->free);
    else if (s->fresh < s->capacity)
        number = s->fresh++;
    else
        return SLAB_NONE;
    s->used++;
    memset(slab_at(s, number), 0, s->stride);
    return number;
}

void slab_give(struct slab *s, uint32_t number)
{
    memcpy(slab_at(s, number), &s->free, sizeof s->free);
    s->free = number;
    s->used--;
}
