/*
 * A worker's sockets with a real engine behind them and real sockets around them, turned by the
 * test; only the effects that a worker adds (events, other workers) are missing. Two rigs are two
 * workers, between which the test carries connections.
 */
#ifndef CT_TEST_RIG_H
#define CT_TEST_RIG_H

#include "check.h"
#include "core/turn_commons.h"
#include "relay/dtls.h"
#include "relay/parcel.h"
#include "relay/pipe.h"
#include "relay/sock.h"
#include "relay/stream.h"
#include "relay/udp.h"
#include "spell.h"

struct rig {
    struct turn_io io;
    struct turn_io_ops ops;
    uv_loop_t loop;
    uint8_t worker;
    struct udp *udp;
    struct crypto *crypto;
    struct turn_commons *commons;
    struct turn_config turn;
    struct turn_server *server;
    /* of streams, DTLS and TCP allocations; NULL: there are none */
    struct stream_config config;
    struct gate *gate;
    struct streams *streams;
    struct stream_exit exit;
    struct parcel *parcel; /* a connection that has left for another worker, until it is taken */
    struct pipes *pipes;
    struct dtls *dtls;
    struct addr listener;
};

/*
 * Loop, UDP and engine: realm "example.org", secret "north", relayed addresses on 127.0.0.1 and
 * ::1, peers on loopback allowed. Then rig_listen() or more, then udp_start().
 */
void rig_init(struct rig *r);
/* That configuration alone. */
void rig_configure(struct turn_config *config);
/* The same as worker `number`. */
void rig_init_worker(struct rig *r, uint8_t number);
/* A UDP listener at r->listener; returns its socket, which is the rig's. */
int rig_listen(struct rig *r, const char *at, struct udp_input *input);
/*
 * Streams with a TCP listener at a port of 127.0.0.1, and TCP allocations. r->config must be filled
 * in, and udp_start() called.
 */
void rig_listen_tcp(struct rig *r);
/* Ends and checks that nothing is left. */
void rig_free(struct rig *r);

uint64_t rig_counter(const struct rig *r, enum turn_counter which);
/* One turn of the loop. */
void rig_turn(struct rig *r);
/* Turns the loop until a counter has that value. */
void rig_run_until(struct rig *r, enum turn_counter which, uint64_t value);

/* A plain UDP socket, bound there, that waits at most five seconds. */
int rig_socket(const char *at);
struct addr rig_local(int fd);
void rig_send(int fd, const struct addr *to, const void *data, size_t n);
ssize_t rig_recv(int fd, void *buf, size_t size, struct addr *from);

#endif
