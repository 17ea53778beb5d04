#include "relay/queue.h"

/* Room for n bytes behind the end, by moving what is there to the front if need be. */
static void make_room(struct queue *q, const struct pool *pool, size_t n)
{
    if (n <= pool->size - q->end)
        return;
    memmove(q->data, q->data + q->start, queue_len(q));
    q->end -= q->start;
    q->start = 0;
}

bool queue_put(struct queue *q, struct pool *pool, size_t most, struct span bytes, size_t zeros)
{
    size_t used = queue_len(q);

    if (used > most || zeros > most - used || bytes.len > most - used - zeros)
        return false;
    if (!q->data)
        q->data = pool_take(pool);
    if (!q->data)
        return false;
    make_room(q, pool, bytes.len + zeros);
    struct wbuf w = wbuf_of(q->data + q->end, pool->size - q->end);
    wbuf_bytes(&w, bytes.data, bytes.len);
    wbuf_zeros(&w, zeros);
    q->end += w.pos;
    return true;
}

void queue_drop(struct queue *q, struct pool *pool, size_t n)
{
    q->start += n;
    if (q->start < q->end)
        return;
    pool_give(pool, q->data);
    *q = (struct queue){.data = NULL};
}
