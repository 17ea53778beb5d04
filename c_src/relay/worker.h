/*
 * A worker: one thread, one libuv loop, one engine, and the sockets of its clients.
 *
 * The main thread builds it and sends it jobs; everything else about it belongs to its own thread.
 */
#ifndef CT_RELAY_WORKER_H
#define CT_RELAY_WORKER_H

#include "core/turn_commons.h"
#include "core/turn_server.h"
#include "relay/mailbox.h"
#include "relay/news.h"
#include "relay/packet.h"
#include "relay/stream.h"
#include "relay/term.h"

enum {
    WORKERS_MAX = TURN_WORKERS_MAX
};

/* What the main thread's mailbox receives from workers. */
enum worker_mail {
    MAIL_JOB_DONE,
    MAIL_NEWS,
    MAIL_PACKET,
    MAIL_CONNECTION /* a parcel */
};

enum job_kind {
    JOB_CONFIGURE,
    JOB_PING,
    JOB_LIST,
    JOB_KILL,
    JOB_DRAIN,
    JOB_ADMISSION,
    JOB_STOP,
    JOB_KINDS
};

/* What all workers are asked; must stay as it is until the last one has answered. */
struct job_request {
    enum job_kind kind;
    const struct turn_config *config;    /* JOB_CONFIGURE */
    const struct stream_config *streams; /* JOB_CONFIGURE */
    uint64_t limit;                      /* JOB_LIST */
    bool drain;                          /* JOB_DRAIN */
    struct {                             /* JOB_KILL */
        struct turn_selector which;
        bool one_worker; /* which.id is an allocation of `worker` */
        unsigned worker;
    } kill;
    struct { /* JOB_ADMISSION */
        const struct turn_grant_change *changes;
        size_t count;
        bool admits; /* else they were withdrawn: a matter of the reply */
    } admission;
};

/* One worker's part of it. */
struct job {
    struct mail mail;
    const struct job_request *request;
    unsigned worker;
    uint64_t count;        /* JOB_KILL, JOB_LIST: how many */
    struct term_out terms; /* JOB_LIST: `count` allocations; initialised by the sender */
};

struct worker_counted {
    uint64_t allocations; /* now */
    uint64_t counters[TURN_N_COUNT];
};

struct worker;

struct worker_setup {
    unsigned index, workers; /* which of how many */
    const struct turn_config *config;
    const struct stream_config *streams;
    struct turn_commons *commons;
    uv_mutex_t *commons_lock;
    struct gate *gate;
    struct pairs *pairs; /* of all workers: outlives them */
    struct credit *credit;
    struct credit *packets; /* room for those between workers */
    struct mailbox *home;   /* the main thread's */
};

/* NULL when memory, descriptors or an algorithm of libcrypto is missing. */
struct worker *worker_new(const struct worker_setup *setup);

/* Before worker_start(): adds a listening socket, and owns it. 0 or a libuv error. */
int worker_listen(struct worker *w, int fd, const struct addr *at, enum turn_transport transport);

/* Before worker_start(): the link number that the next listening socket gets. */
uint32_t worker_links(const struct worker *w);

/* Starts the thread. 0 or a libuv error. */
int worker_start(struct worker *w);

/* What a running worker has counted; it is read, not asked, and goes on meanwhile. */
void worker_counted(const struct worker *w, struct worker_counted *out);

/* Hands over a job; it comes back through `home` as MAIL_JOB_DONE. JOB_STOP must be the last. */
void worker_post(struct worker *w, struct job *job);

/* Hands over a packet, which is freed when it has been handled. Not after JOB_STOP. */
void worker_post_packet(struct worker *w, struct packet *packet);

/* Hands over a client's connection. Not after JOB_STOP. */
void worker_post_parcel(struct worker *w, struct parcel *parcel);

/*
 * Frees a worker that was never started, or that has answered JOB_STOP as all others have, and
 * waits for its thread. NULL is fine.
 */
void worker_free(struct worker *w);

#endif
