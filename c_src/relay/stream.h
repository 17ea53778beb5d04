/*
 * A worker's connections: listeners of TCP and TLS, and what is accepted there. All functions
 * belong to the loop's thread.
 *
 * A connection carries STUN messages and ChannelData one after the other (RFC 8489 §6.2.2, RFC 8656
 * §12.5). What comes in is always read; what goes out and finds the client not reading is dropped
 * by whole frames, as a datagram would be. A connection's 5-tuple ends with it.
 */
#ifndef CT_RELAY_STREAM_H
#define CT_RELAY_STREAM_H

#include "core/turn_server.h"
#include "relay/gate.h"
#include "relay/parcel.h"
#include "relay/tls.h"
#include "relay/udp.h"

#include <uv.h>

enum {
    STREAM_PROXIES_MAX = 16
};

/* Shared by all workers; outlives them or their next streams_configure(). */
struct stream_config {
    uint32_t max_connections;    /* in the whole relay; fixed when it starts */
    uint32_t source_connections; /* per source */
    uint32_t connection_idle;    /* seconds that one without allocation may be silent */
    uint32_t handshake_rate;     /* handshakes per second, source and worker, 0: no limit */
    uint32_t handshake_burst;
    struct tls_context *tls; /* NULL: no certificate, no TLS */
    /* Networks whose connections must begin with a PROXY header. */
    struct addr_prefix proxies[STREAM_PROXIES_MAX];
    uint32_t proxy_count;
};

struct streams;
struct conn;

/* Takes connections to other workers; embedded in its owner. */
struct stream_exit {
    void (*send)(struct stream_exit *exit, struct parcel *parcel);
};

struct streams_setup {
    uv_loop_t *loop;
    const struct stream_config *config;
    struct gate *gate;        /* of all workers */
    struct udp *udp;          /* where what clients send leaves through */
    uint8_t worker;           /* turn_tuple.worker of its connections */
    struct stream_exit *exit; /* NULL: there are no others */
};

/* NULL when memory is short. */
struct streams *streams_new(const struct streams_setup *setup);

/*
 * Adds a listening socket, bound to `at` (sock_open_acceptor), which it then owns, also when it
 * fails. 0 or a libuv error. With TURN_TLS it takes nothing else; with TURN_TCP the first byte of a
 * connection tells, if there is a certificate.
 */
int streams_listen(struct streams *s, int fd, const struct addr *at, enum turn_transport transport);

/* Starts to accept; frames go to the engine. 0 or a libuv error. */
int streams_start(struct streams *s, struct turn_server *server);

/*
 * The effect of turn_io: queues one frame, or counts it as dropped, as when the connection is gone
 * and another one has its number: the frame may come from another worker's engine.
 */
void streams_to_client(struct streams *s, const struct turn_tuple *to,
                       const struct turn_out *frame);

/*
 * The effects of RFC 6062: from now on this connection is the pipe's, and it is what is returned;
 * it goes to another worker after the request at hand, which goes with it.
 */
struct conn *streams_join(struct streams *s, const struct turn_tuple *client,
                          struct turn_pipe *pipe);
bool streams_hand_over(struct streams *s, unsigned worker, const struct turn_tuple *client);

/* Takes over a connection from another worker, and the parcel, also when it fails. */
void streams_adopt(struct streams *s, struct parcel *parcel);

/* Writes what is queued. To be called before the loop waits. */
void streams_flush(struct streams *s);

/* Closes connections that have been silent too long; when to be called next, as for the engine. */
void streams_expire(struct streams *s);
uint64_t streams_deadline(const struct streams *s);

/* What changes while running: all but max_connections. Connections stay. */
void streams_configure(struct streams *s, const struct stream_config *config);

/* Closes everything; the engine must be gone. streams_free() when the loop has run out. */
void streams_close(struct streams *s);
void streams_free(struct streams *s);

#endif
