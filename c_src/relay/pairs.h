/*
 * Datagrams between workers: one ring from each worker to each other one, and one wake-up for all
 * that a turn of the sender's loop has put into them. DSCP and ECN go with them where they are
 * kept.
 */
#ifndef CT_RELAY_PAIRS_H
#define CT_RELAY_PAIRS_H

#include "core/turn_commons.h"
#include "core/turn_server.h"
#include "relay/udp.h"

#include <uv.h>

enum {
    /* Bytes of a ring: half a dozen of the largest datagrams, 750 of 300 bytes. */
    PAIRS_RING = 1 << 18
};

/* The rings of the whole relay. */
struct pairs;

/* NULL when memory is short; rings are touched as they come into use. */
struct pairs *pairs_new(unsigned workers);
/* When all ends are closed. NULL is fine. */
void pairs_free(struct pairs *p);

/* One worker's end of them all; embedded in it. Functions belong to its thread. */
struct pairs_end {
    struct pairs *pairs;
    unsigned worker;
    uint64_t put;   /* a bit for each worker with something new in its ring from here, */
    uint64_t taken; /* and for each whose ring to here has something to be released */
    uv_async_t wake;
    struct turn_server *server; /* NULL: what comes is dropped */
    struct udp *udp;            /* knows the DSCP and ECN of what is sent, and is told those */
    uv_loop_t *loop;
};

/* 0 or a libuv error. The handle does not keep the loop running: other workers may still use it. */
int pairs_open(struct pairs_end *end, struct pairs *pairs, unsigned worker, uv_loop_t *loop);

/* What comes from other workers goes to this engine, whose effects are those of `udp`. */
void pairs_start(struct pairs_end *end, struct turn_server *server, struct udp *udp);
/* From here on it goes nowhere: the engine ends. */
void pairs_stop(struct pairs_end *end);

/* The effect of turn_io. False when the ring is full. */
bool pairs_put(struct pairs_end *end, unsigned worker, const struct turn_pair *pair);

/*
 * Wakes who has something new, and lets go of what was taken: to be called before the loop waits,
 * when everything has been sent that lies in a ring.
 */
void pairs_flush(struct pairs_end *end);

/*
 * When no other worker runs any more; the loop must turn once more. Nothing happens when it was
 * never opened.
 */
void pairs_close(struct pairs_end *end);

#endif
