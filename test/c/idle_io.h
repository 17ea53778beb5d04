/*
 * The effects of turn_io in a world where nothing happens: no worker but this one, nobody who
 * listens to events, nobody to lock out. Who implements turn_io for a test lists what it does
 * itself, and idle_io_fill() adds these. What is in neither must not be asked for: it stays NULL.
 */
#ifndef CT_TEST_IDLE_IO_H
#define CT_TEST_IDLE_IO_H

#include "core/turn_io.h"

#include <stdlib.h>

/* There is nobody to give it to: an engine that tries is wrong. */
static inline void idle_hand_over(struct turn_io *io, unsigned worker,
                                  const struct turn_tuple *tuple, struct span packet)
{
    (void)io;
    (void)worker;
    (void)tuple;
    (void)packet;
    abort();
}

static inline void idle_pair_over(struct turn_io *io, unsigned worker, const struct turn_pair *pair)
{
    (void)io;
    (void)worker;
    (void)pair;
    abort();
}

static inline void idle_hand_over_gone(struct turn_io *io, unsigned worker,
                                       const struct turn_tuple *tuple)
{
    (void)io;
    (void)worker;
    (void)tuple;
}

static inline bool idle_tcp_hand_over(struct turn_io *io, unsigned worker,
                                      const struct turn_tuple *client)
{
    (void)io;
    (void)worker;
    (void)client;
    return false;
}

static inline void idle_event(struct turn_io *io, const struct turn_event *event)
{
    (void)io;
    (void)event;
}

static inline void idle_lock(struct turn_io *io)
{
    (void)io;
}

/* `own`, and beside it what is idle. */
static inline struct turn_io_ops idle_io_fill(struct turn_io_ops own)
{
    own.hand_over = own.hand_over ? own.hand_over : idle_hand_over;
    own.hand_over_gone = own.hand_over_gone ? own.hand_over_gone : idle_hand_over_gone;
    own.pair_over = own.pair_over ? own.pair_over : idle_pair_over;
    own.tcp_hand_over = own.tcp_hand_over ? own.tcp_hand_over : idle_tcp_hand_over;
    own.event = own.event ? own.event : idle_event;
    own.lock = own.lock ? own.lock : idle_lock;
    own.unlock = own.unlock ? own.unlock : idle_lock;
    return own;
}

/* Random bytes that are the same in every run; an LCG. */
static inline void idle_random(uint64_t *state, void *out, size_t n)
{
    uint8_t *p = out;
    for (size_t i = 0; i < n; i++) {
        *state = *state * 6364136223846793005u + 1442695040888963407u;
        p[i] = (uint8_t)(*state >> 56);
    }
}

#endif
