/*
 * Buffers of one size for what has to wait: taken when bytes must be kept, given back when they are
 * gone. So memory follows what is under way and not the number of connections, and the buffer that
 * was used last, still in the processor's cache, is the next one given out.
 */
#ifndef CT_RELAY_POOL_H
#define CT_RELAY_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool_buffer;

struct pool {
    struct pool_buffer *kept; /* free ones, last in, first out */
    size_t size;              /* bytes of each */
    uint32_t most;            /* out at the same time */
    uint32_t out;
    uint32_t kept_count;
};

/* size must hold a pointer. */
void pool_init(struct pool *p, size_t size, uint32_t most);
/* All buffers must have been given back. */
void pool_free(struct pool *p);

/* Not zeroed. NULL when `most` are out or memory is short. */
uint8_t *pool_take(struct pool *p);
/* NULL is fine. */
void pool_give(struct pool *p, uint8_t *buffer);

#endif
