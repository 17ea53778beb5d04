/*
 * What the server asks of the world around it. The engine is sans I/O: bytes, a 5-tuple and a time
 * go in, these effects come out. A worker of the relay implements them over sockets; tests and
 * fuzzers implement them over arrays.
 */
#ifndef CT_CORE_TURN_IO_H
#define CT_CORE_TURN_IO_H

#include "core/addr.h"
#include "core/buf.h"
#include "core/err.h"

#include <stdbool.h>

/* Two clocks, read once per batch of packets by whoever calls the engine. */
struct turn_now {
    uint64_t ms;     /* monotonic, milliseconds */
    uint64_t unix_s; /* wall clock, seconds since 1970: only for the expiry of credentials */
};

enum turn_transport {
    TURN_UDP,
    TURN_TCP,
    TURN_TLS,
    TURN_DTLS
};

/* A client's 5-tuple (RFC 8656 §3.2) and the way back to it. */
struct turn_tuple {
    struct addr client;
    struct addr server; /* local address and port the bytes came to */
    uint32_t link;      /* the worker's own number of the socket or connection */
    uint8_t transport;  /* enum turn_transport */
    uint8_t worker;     /* whose connection it is; 0 for UDP, where any worker can answer */
    uint8_t zero[2];    /* always 0: tuples are compared as bytes */
};

/* One received datagram or frame. It is only read: its neighbours may be other ones. */
struct turn_packet {
    const uint8_t *data;
    size_t len;
};

/*
 * One datagram or frame for a client: the engine's own bytes, then a payload where it was received,
 * then zeros. The head alone is a whole message; a payload is never copied or written to.
 */
struct turn_out {
    struct span head; /* in reserved memory */
    struct span body; /* in the packet now being handled; data is NULL when there is none */
    uint8_t pad;      /* zero bytes behind it, 0 to 3 */
};

static inline size_t turn_out_len(const struct turn_out *out)
{
    return out->head.len + out->body.len + out->pad;
}

/* All of it, one after the other. */
static inline void turn_out_put(struct wbuf *w, const struct turn_out *out)
{
    wbuf_bytes(w, out->head.data, out->head.len);
    wbuf_bytes(w, out->body.data, out->body.len);
    wbuf_zeros(w, out->pad);
}

enum {
    TURN_REPLY_MAX = 1280,   /* no message that the engine composes itself is longer, */
    TURN_RESERVE_MAX = 2048, /* but for one with PADDING (RFC 5780 §7.6) */
};

/* Flags of to_peer. */
enum {
    TURN_DONT_FRAGMENT = 1
};

struct turn_rooms;

/*
 * A datagram from one relayed transport address of this relay to another one, whose allocation is
 * with another worker.
 */
struct turn_pair {
    struct addr from;               /* the sender's relayed address, as clients know it */
    uint32_t alloc;                 /* that was bound to the port when it was sent, */
    uint16_t port;                  /* the port, */
    uint8_t relay;                  /* and the index of its relay address in the configuration */
    const struct turn_rooms *rooms; /* of the sender, as he sent it; NULL: of no account */
    struct span data;
};

/* A socket bound to a relayed transport address; defined by who implements turn_io. */
struct turn_relay;
struct turn_event;
struct turn_io;

/* RFC 6062: a socket that listens on a relayed transport address, a TCP connection with a peer. */
struct turn_acceptor;
struct turn_pipe;

struct turn_io_ops {
    /*
     * size bytes (at most TURN_RESERVE_MAX) for a message of the engine's own, with the lifetime
     * that to_client asks for. Never NULL.
     */
    uint8_t *(*reserve)(struct turn_io *io, size_t size);

    /*
     * Sends one datagram or frame to a client, over another worker's connection too. It must be
     * sent or copied before the packet's buffer or reserved memory is used again. Never fails: what
     * cannot be sent is counted by the worker.
     */
    void (*to_client)(struct turn_io *io, const struct turn_tuple *to, const struct turn_out *out);

    /* Sends one datagram from a relayed transport address to a peer; data as a body above. */
    void (*to_peer)(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                    struct span data, unsigned flags);

    /*
     * Opens a relayed transport address at exactly this IP and port for allocation number `alloc`,
     * which the worker passes back with every datagram that arrives there. CT_EINUSE when somebody
     * else has the port; CT_ESYS for anything else (no descriptors left, address not ours).
     * Not called in switch mode, where relayed addresses are virtual.
     */
    enum ct_err (*relay_open)(struct turn_io *io, const struct addr *at, uint32_t alloc,
                              struct turn_relay **out);
    /* Closes it at once; no datagram of it reaches the engine afterwards. */
    void (*relay_close)(struct turn_io *io, struct turn_relay *relay);

    /* Fills n bytes with unpredictable randomness (RFC 6056 ports, tokens). */
    void (*random)(struct turn_io *io, void *out, size_t n);

    /*
     * Gives a copy of a client's packet to the engine of another worker, which gets it by
     * turn_server_handed() some time later. It may be lost as any datagram.
     */
    void (*hand_over)(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple,
                      struct span packet);
    /* Tells it that the connection is gone that such packets came over: turn_server_handed_gone. */
    void (*hand_over_gone)(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple);

    /*
     * Gives a copy of a datagram to the engine of another worker, which gets it by
     * turn_server_paired() some time later. What cannot be given is counted by the worker.
     */
    void (*pair_over)(struct turn_io *io, unsigned worker, const struct turn_pair *pair);

    /* Something worth telling; the event's pointers are valid during the call only. */
    void (*event)(struct turn_io *io, const struct turn_event *event);

    /* Brackets access to what workers share (turn_commons): never held across another effect. */
    void (*lock)(struct turn_io *io);
    void (*unlock)(struct turn_io *io);

    /* ---- TCP allocations (RFC 6062) ---- */

    /*
     * Listens at exactly this IP and port for allocation number `alloc`: what is accepted there
     * comes to turn_server_accepted(). Errors as of relay_open.
     */
    enum ct_err (*tcp_listen)(struct turn_io *io, const struct addr *at, uint32_t alloc,
                              struct turn_acceptor **out);
    /* Closes it at once, but not what was accepted there or connected from there. */
    void (*tcp_unlisten)(struct turn_io *io, struct turn_acceptor *acceptor);

    /*
     * Begins to connect to a peer, from the acceptor's address. How it ends is told later, never
     * from within, by turn_server_connected() with the number `tcp`. CT_ENOSPACE without memory or
     * descriptors; CT_ESYS when there is no way to the peer.
     */
    enum ct_err (*tcp_connect)(struct turn_io *io, struct turn_acceptor *from,
                               const struct addr *to, uint32_t tcp, struct turn_pipe **out);

    /*
     * From now on what comes from this client's connection, a TURN_TCP or TURN_TLS one, goes to the
     * peer as it is, beginning with the byte behind the request at hand, and the other way round.
     * What to_client was given before goes first. The end is told by turn_server_tcp_gone().
     */
    void (*tcp_join)(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client);

    /* Closes it at once, and the client's connection that it is joined to. Nothing is told. */
    void (*tcp_close)(struct turn_io *io, struct turn_pipe *pipe);

    /*
     * Gives the client's connection that the request at hand came over to another worker, whose
     * engine gets that request as if it had come there. False when that cannot be done: there is no
     * such worker, or the connection has been given away once.
     */
    bool (*tcp_hand_over)(struct turn_io *io, unsigned worker, const struct turn_tuple *client);
};

/* Embedded by the implementor, who finds itself again by container-of. */
struct turn_io {
    const struct turn_io_ops *ops;
};

#endif
