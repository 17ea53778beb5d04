#include "relay/pool.h"

#include <stdlib.h>

enum {
    KEPT_MOST = 32 /* free buffers beyond these go back to the system */
};

struct pool_buffer {
    struct pool_buffer *next;
};

void pool_init(struct pool *p, size_t size, uint32_t most)
{
    *p = (struct pool){.size = size, .most = most};
}

void pool_free(struct pool *p)
{
    while (p->kept) {
        struct pool_buffer *next = p->kept->next;
        free(p->kept);
        p->kept = next;
    }
    p->kept_count = 0;
}

uint8_t *pool_take(struct pool *p)
{
    struct pool_buffer *b = p->kept;

    if (p->out == p->most)
        return NULL;
    if (b) {
        p->kept = b->next;
        p->kept_count--;
    } else {
        b = malloc(p->size);
    }
    p->out += b != NULL;
    return (uint8_t *)b;
}

void pool_give(struct pool *p, uint8_t *buffer)
{
    struct pool_buffer *b = (struct pool_buffer *)(void *)buffer;

    if (!b)
        return;
    p->out--;
    if (p->kept_count == KEPT_MOST) {
        free(b);
        return;
    }
    b->next = p->kept;
    p->kept = b;
    p->kept_count++;
}
