/* Bytes on their way out of a connection: at most one pool buffer of them, none when it is empty.
 */
#ifndef CT_RELAY_QUEUE_H
#define CT_RELAY_QUEUE_H

#include "core/turn_io.h"
#include "relay/pool.h"

/* All zero: empty. */
struct queue {
    uint8_t *data; /* NULL: no buffer */
    size_t start, end;
};

static inline size_t queue_len(const struct queue *q)
{
    return q->end - q->start;
}

static inline struct span queue_bytes(const struct queue *q)
{
    return span_of(q->data ? q->data + q->start : NULL, queue_len(q));
}

/*
 * Appends all of the bytes; false, and nothing happens, when the queue would then hold more than
 * `most` (at most the pool's size), or there is no buffer for it.
 */
bool queue_put(struct queue *q, struct pool *pool, size_t most, struct span bytes);

/* The same with a frame and `zeros` zero bytes behind it. */
bool queue_put_frame(struct queue *q, struct pool *pool, size_t most, const struct turn_out *frame,
                     size_t zeros);

/* The first n bytes are gone. */
void queue_drop(struct queue *q, struct pool *pool, size_t n);

#endif
