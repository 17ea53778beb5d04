/* What pipe.c, where connections come and go, and pump.c, where data flows, share. */
#ifndef CT_RELAY_PIPE_STATE_H
#define CT_RELAY_PIPE_STATE_H

#include "core/deadline.h"
#include "relay/pipe.h"
#include "relay/queue.h"

enum {
    PIPE_READ_MAX = 48 * 1024, /* bytes of a peer per turn of the loop */
    /* The most that a client's connection brings at once: conn.h, CONN_RAW_MAX. */
    PIPE_QUEUE_SIZE = 88 * 1024,
    PIPE_BUFFERS = 512,   /* at once: 44 MiB, for ends that do not read */
    PIPE_HALF_MS = 60000, /* without a byte, when one end has closed */
};

struct turn_acceptor {
    uv_poll_t poll;
    struct pipes *p;
    struct addr at;
    uint32_t alloc;
    int fd;
};

struct turn_pipe {
    uv_poll_t poll;
    struct deadline deadline;
    struct pipes *p;
    struct conn *client; /* NULL: not joined, or gone */
    struct queue up, down;
    uint64_t moved_ms; /* when a byte was last relayed */
    uint32_t tcp;      /* the engine's number */
    int fd;
    int events; /* that are watched for */
    bool closed;
    bool up_ended;   /* the client sends no more */
    bool up_done;    /* and the peer has been told so, or takes no more */
    bool down_ended; /* the peer sends no more */
    bool down_done;  /* and the client has been told so, or takes no more */
};

struct pipes {
    uv_loop_t *loop;
    struct turn_server *server;
    struct turn_counters *counters;
    struct pool buffers;
    struct deadline_wheel wheel;
    int spare_fd;   /* given up for a moment to refuse a peer when descriptors have run out */
    uint8_t *input; /* PIPE_READ_MAX bytes: what a peer has sent */
};

/* Ends it and lets go of its client's connection; the engine is not told. */
void pipe_end(struct turn_pipe *pipe);

/* What is now to be done and watched for, after either end has changed. */
void pump_settle(struct turn_pipe *pipe);

/* Ends it before its time, with what was on the way. */
void pump_cut(struct turn_pipe *pipe);

#endif
