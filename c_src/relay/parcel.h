/*
 * A client's connection on its way from one worker to another (RFC 6062: a ConnectionBind has come
 * to a worker that does not have what it names). It takes along what has been read and not yet been
 * worked on, what has not yet been sent, and its TLS session.
 */
#ifndef CT_RELAY_PARCEL_H
#define CT_RELAY_PARCEL_H

#include "core/turn_io.h"
#include "relay/gate.h"
#include "relay/mailbox.h"
#include "relay/tls.h"

struct parcel {
    struct mail mail;
    unsigned worker;   /* that it is for */
    struct gate *gate; /* where it is counted, as `source` */
    struct addr source;
    struct turn_tuple tuple;
    struct tls *tls; /* NULL: none */
    int fd;          /* -1: not this parcel's yet */
    uint8_t *out;    /* frames, then what is already encrypted */
    size_t frames, wire;
    size_t len; /* of what was read, the request first */
    uint8_t in[];
};

/* With what has been read; the rest is the caller's to fill in. NULL when memory is short. */
struct parcel *parcel_new(struct span in);

/* Frees it, and closes the connection if it has one. NULL is fine. */
void parcel_free(struct parcel *p);

#endif
