/*
 * Packets from worker to worker: where an allocation has moved to a 5-tuple whose packets the
 * kernel gives to another worker (RFC 8016). They pass through the main thread.
 */
#ifndef CT_RELAY_PACKET_H
#define CT_RELAY_PACKET_H

#include "core/turn_io.h"
#include "relay/credit.h"
#include "relay/mailbox.h"

enum {
    PACKETS_MAX = 1024 /* under way at a time, between all workers */
};

enum packet_kind {
    PACKET_FROM_CLIENT, /* for the engine of the worker that has the allocation */
    PACKET_TO_CLIENT,   /* for the worker that has the client's connection */
    PACKET_GONE,        /* that connection is gone; no bytes */
    PACKET_KINDS
};

struct packet {
    struct mail mail;
    enum packet_kind kind;
    unsigned worker; /* whose it is to be */
    struct credit *room;
    struct turn_tuple tuple;
    size_t len;
    uint8_t bytes[];
};

/*
 * A copy of what leaves, against room that packet_free() gives back. NULL when there is none, or no
 * memory: it is lost then, as any datagram may be. PACKET_GONE always finds room: there is one for
 * a connection.
 */
struct packet *packet_new(enum packet_kind kind, const struct turn_tuple *tuple,
                          const struct turn_out *out, struct credit *room);
void packet_free(struct packet *p);

#endif
