/*
 * Datagrams on their way out, on Linux: noted while a turn of the loop goes on, then sent with as
 * few system calls as their sockets and destinations allow.
 *
 * What leaves through one socket leaves together. Of that, what goes to one destination is one
 * flow: it keeps its order, and consecutive datagrams of one length cross the network stack as one
 * and are cut apart by the kernel or the device (UDP_SEGMENT, "GSO"). Flows overtake each other.
 */
#ifndef CT_RELAY_UDP_BATCH_H
#define CT_RELAY_UDP_BATCH_H

#include "core/turn_server.h"

enum {
    BATCH_MAX = 512 /* datagrams; one more sends those before it */
};

/* A socket that sends: embedded in its owner, set up by batch_socket_init(). */
struct batch_socket {
    int fd;
    uint16_t segment_max;    /* longer datagrams are not left to the kernel to cut apart */
    uint16_t first, last;    /* flows of the batch that is being sent */
    uint32_t round;          /* the batch for which these two hold */
    uint64_t segment_max_ms; /* until then, as the kernel has refused a longer one */
};

/* One datagram. The first three tell its flow. */
struct batch_note {
    struct batch_socket *socket;
    struct addr to;
    struct addr from; /* the address to leave from, for sockets of a wildcard address; else zero */
    struct turn_out out;
    uint8_t tos; /* DSCP and ECN, 0: as the socket has it */
    bool dont_fragment;
};

struct batch;

/* NULL when memory or randomness is missing. */
struct batch *batch_new(void);
void batch_free(struct batch *b);

/* The socket's datagrams are all noted in this batch. */
void batch_socket_init(const struct batch *b, struct batch_socket *s, int fd);

/* Where datagrams are counted that the kernel refuses; before the first note. */
void batch_counters(struct batch *b, struct turn_counters *counters);

/* `note` is copied; its bytes and its socket must last until batch_send(). */
void batch_note(struct batch *b, const struct batch_note *note, uint64_t now_ms);

/* Sends what was noted; what the kernel refuses is counted and forgotten. */
void batch_send(struct batch *b, uint64_t now_ms);

#endif
