/*
 * One connection, and what the connections of a worker share. Internal to stream.c and conn.c.
 *
 * A connection is never closed while the engine is at work on one of its frames: what goes wrong
 * then dooms it, and streams_flush() closes it.
 */
#ifndef CT_RELAY_CONN_H
#define CT_RELAY_CONN_H

#include "core/deadline.h"
#include "core/ratelimit.h"
#include "core/slab.h"
#include "relay/queue.h"
#include "relay/stream.h"

enum {
    /* No frame from a client is longer: a STUN header and the largest length that is allowed. */
    CONN_FRAME_MAX = 20 + 65532,
    /* Nor than this before it has an allocation: requests are some hundred bytes. */
    CONN_FRAME_SMALL = 4096,
    CONN_READ_MAX = 65536, /* bytes per turn of the loop */
    /*
     * The same once nothing is framed any more; with TLS there may be a record more to decrypt.
     * Into what is already read and not framed belongs a first small frame, and a read as above.
     */
    CONN_RAW_READ = 48 * 1024,
    CONN_RAW_MAX = CONN_FRAME_SMALL + CONN_READ_MAX + TLS_RECORD_MAX,
    CONN_INPUT = CONN_FRAME_MAX + CONN_READ_MAX,
    /* Frames that wait for a client: more than the longest one, which must fit. */
    CONN_QUEUE_MAX = 66 * 1024,
    /* Answers may wait too when media has taken all that: nobody asks again over a connection. */
    CONN_REPLIES_MAX = 70 * 1024,
    /* Of TLS: encrypted, with room left for what a session has to say on its own. */
    CONN_WIRE_MAX = 71 * 1024,
    CONN_QUEUE_SIZE = 72 * 1024,
    CONN_LISTENERS_MAX = UDP_LISTENERS_MAX,
    CONN_HANDSHAKE_MS = 10000, /* until STUN may be spoken */
};

enum conn_phase {
    CONN_PROXY,     /* a PROXY header comes first */
    CONN_FIRST,     /* the first byte tells TLS from STUN (RFC 7983 §7) */
    CONN_HANDSHAKE, /* of TLS */
    CONN_OPEN
};

struct conn_listener {
    uv_poll_t poll;
    struct streams *s;
    struct addr at;
    enum turn_transport transport;
    int fd;
};

struct conn {
    uv_poll_t poll;
    struct deadline deadline;
    struct streams *s;
    struct conn *next_dirty;
    struct turn_tuple tuple; /* tuple.link is the connection's number in the slab */
    struct addr source;      /* as it was counted at the gate */
    uint64_t heard_ms;       /* when its last whole frame came */
    struct queue part;       /* the beginning of a frame */
    struct queue frames;     /* on their way to the client */
    struct tls *tls;         /* NULL: none */
    struct queue wire;       /* of TLS: encrypted, frames go through here */
    enum conn_phase phase;
    int fd;
    bool open;       /* false from conn_close() on */
    bool part_large; /* `part` lies in a large buffer */
    bool dirty;      /* on the list of those that streams_flush() sees to */
    bool blocked;    /* the kernel takes no more: it tells when it does */
    bool doomed;
    /* RFC 6062 */
    struct turn_pipe *pipe; /* its bytes are for this peer; NULL: they are frames */
    int events;             /* that are watched for */
    bool deaf;              /* nothing is read: the peer does not take it */
    bool ending;            /* the last byte for the client has been queued */
    bool shut;              /* and the client has been told that it was the last */
    bool handed;            /* it came from another worker */
    bool moving;            /* it goes to worker move_to, as soon as streams_flush() can */
    unsigned move_to;
    struct parcel *parcel; /* what it goes in */
};

struct streams {
    uv_loop_t *loop;
    const struct stream_config *config;
    struct gate *gate;
    struct udp *udp;
    struct stream_exit *exit;
    struct turn_server *server; /* NULL: not started, or gone */
    struct turn_counters *counters;
    struct conn_listener *listeners[CONN_LISTENERS_MAX];
    uint32_t listener_count;
    uint8_t worker;
    int spare_fd; /* given up for a moment to refuse a connection when descriptors have run out */
    struct slab conns;
    struct conn *dirty;
    struct pool small, large; /* CONN_FRAME_SMALL, CONN_QUEUE_SIZE */
    struct deadline_wheel wheel;
    struct ratelimit handshakes;
    uint8_t *input;  /* CONN_INPUT bytes: what is being worked on, of whatever connection */
    uint8_t *cipher; /* CONN_READ_MAX bytes: what is to be decrypted to there */
};

/*
 * Takes over an accepted socket, counted at the gate as `source`, whose family is ADDR_NONE when it
 * is a proxy's, which will tell whose it is. It is to speak tuple->transport: TURN_TCP may still
 * turn out to be TURN_TLS. On failure nothing has happened.
 */
bool conn_open(struct streams *s, int fd, const struct turn_tuple *tuple,
               const struct addr *source);

/* When it is to be closed if nothing more comes from it. */
uint64_t conn_deadline(const struct conn *c);

/* Queues one frame for the client, or counts it as dropped. */
void conn_send(struct conn *c, const struct turn_out *frame);

/* Writes what is queued, as far as the kernel takes it. */
void conn_flush(struct conn *c);

/* Closes it at the next streams_flush(); what is queued is still written. Counts why. */
void conn_doom(struct conn *c, enum turn_counter why);

/* ---- RFC 6062 ---- */

/* Sends the connection to the worker that it is to move to; streams_flush() has written. */
void conn_leave(struct conn *c);

/* The other end of it: takes the parcel over. On failure nothing has happened. */
bool conn_adopt(struct streams *s, struct parcel *parcel);

/*
 * For the pipe: writes bytes as they are, and says how many were taken; when they are not all,
 * pipe_client_writable() comes later.
 */
size_t conn_write_raw(struct conn *c, struct span bytes);

/*
 * Nothing more comes for the client. False while it cannot yet be told so; then again after
 * pipe_client_writable().
 */
bool conn_end_raw(struct conn *c);

/* Stops reading, or goes on. */
void conn_deafen(struct conn *c, bool deaf);

/* The pipe has ended: the connection is closed at the next streams_flush(). */
void conn_release(struct conn *c);

/* Closes it at once. Its allocation ends, if there still is an engine. */
void conn_close(struct conn *c);

#endif
