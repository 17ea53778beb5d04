/*
 * Many datagrams in one system call, on either side: recvmmsg with UDP_GRO, sendmmsg, and sendmsg
 * with UDP_SEGMENT (udp(7)), where the kernel cuts one buffer into datagrams of equal size.
 */
#ifndef BENCH_BATCH_H
#define BENCH_BATCH_H

#include "core/buf.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    BATCH_MAX = 64,
    BATCH_GSO_BYTES = 65000, /* of all datagrams that go out as one */
};

struct batch;

/*
 * A packet(7) socket that puts IPv4 datagrams onto the loopback device: past the sending half of
 * the UDP stack, which costs the sender most. Dies where that is not allowed.
 */
int batch_packet_socket(void);

/* With gro a message may hold many datagrams of a flow. Dies when memory is short. */
struct batch *batch_new(bool gro);
void batch_free(struct batch *b);

/* Receives what is there, without waiting; returns how many messages, or -1. */
int batch_receive(struct batch *b, int fd);

/* Whether that many are all there was room for: more may be waiting. */
bool batch_was_full(const struct batch *b, int n);

/*
 * Takes the next datagram out of message i, from *at on, which begins as 0; empty when there is no
 * more. (An empty datagram ends its message too: nobody here sends any.)
 */
struct span batch_next(const struct batch *b, int i, size_t *at);

/* Sends received messages 0 to n - 1 back to where they came from. Not with gro. */
void batch_send_back(struct batch *b, int fd, int n);

/* Room for datagram i of the next batch_send(): one after the other in memory, all `len` long. */
uint8_t *batch_slot(struct batch *b, int i, size_t len);

/*
 * Sends datagrams 0 to n - 1, by one call, to `to` or where the socket is connected; returns how
 * many went out. With gso n * len is at most BATCH_GSO_BYTES.
 */
struct batch_way {
    int fd;
    const struct sockaddr_in *to; /* NULL: connected */
    struct in_addr from;          /* 0: where the socket is bound; else not with gso */
    bool gso;
    const struct sockaddr_in *as; /* whose datagram it is, where fd is a batch_packet_socket() */
};
int batch_send(struct batch *b, const struct batch_way *way, int n, size_t len);

/* The same where each has a way of its own, by one socket; none with gso. */
int batch_send_each(struct batch *b, const struct batch_way *ways, int n, size_t len);

/* One datagram from anywhere in memory; false when it could not be sent. */
bool batch_send_one(const struct batch_way *way, const void *bytes, size_t len);

#endif
