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

bool queue_put_frame(struct queue *q, struct pool *pool, size_t most, const struct turn_out *frame,
                     size_t zeros)
{
    size_t used = queue_len(q), len = turn_out_len(frame);

    if (used > most || zeros > most - used || len > most - used - zeros)
        return false;
    if (!q->data)
        q->data = pool_take(pool);
    if (!q->data)
        return false;
    make_room(q, pool, len + zeros);
    struct wbuf w = wbuf_of(q->data + q->end, pool->size - q->end);
    turn_out_put(&w, frame);
    wbuf_zeros(&w, zeros);
    q->end += w.pos;
    return true;
}

bool queue_put(struct queue *q, struct pool *pool, size_t most, struct span bytes)
{
    struct turn_out frame = {.head = bytes};

    return queue_put_frame(q, pool, most, &frame, 0);
}

void queue_drop(struct queue *q, struct pool *pool, size_t n)
{
    q->start += n;
    if (q->start < q->end)
        return;
    pool_give(pool, q->data);
    *q = (struct queue){.data = NULL};
}
