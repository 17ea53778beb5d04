/*
 * The main thread: it holds everything that lives as long as the process, follows the BEAM's
 * commands, and ends when the BEAM is gone.
 */
#ifndef CT_RELAY_DAEMON_H
#define CT_RELAY_DAEMON_H

#include "relay/config.h"
#include "relay/control.h"
#include "relay/credit.h"
#include "relay/mailbox.h"
#include "relay/worker.h"

enum {
    DAEMON_PROTOCOL = 1,
    DAEMON_LOGS_HELD = 8
};

enum daemon_stage {
    STAGE_HELLO,
    STAGE_CONFIGURE,
    STAGE_RUNNING,
    STAGE_STOPPING
};

struct daemon {
    uv_loop_t loop;
    struct control control;
    struct mailbox home; /* what workers send */
    uv_signal_t sigterm, sigint;
    uv_timer_t patience; /* with a BEAM that does not read our last words */
    enum daemon_stage stage;
    int status; /* of the process, once it stops */
    struct credit credit;
    struct credit packets;                  /* room for those from worker to worker */
    struct term_out held[DAEMON_LOGS_HELD]; /* log events from before the first credit */
    unsigned held_count;

    struct relay_config *config;
    struct turn_commons *commons;
    uv_mutex_t commons_lock;
    struct gate *gate;
    struct pairs *pairs;
    struct worker *workers[WORKERS_MAX];
    unsigned worker_count; /* built */
    unsigned threads;      /* of those, running */
    uint64_t ready_ms;
    struct job_request stop;
    struct job stop_jobs[WORKERS_MAX];
    unsigned stop_left;
};

/* Runs until the BEAM is gone, a signal comes or something fails; returns the exit status. */
int daemon_run(void);

/* Builds and starts what d->config asks for, and tells the BEAM; or fails (see start.c). */
void daemon_start(struct daemon *d);

/* Ends the process in good order with this exit status. */
void daemon_stop(struct daemon *d, int status);

/* Sends `{failed, Reason, Detail}` and ends with exit status 1. Takes over what `detail` holds. */
void daemon_fail(struct daemon *d, const char *reason, struct term_out *detail);
void daemon_fail_text(struct daemon *d, const char *reason, const char *text);

/* A log event; level is "info", "warning" or "error". */
void daemon_log(struct daemon *d, const char *level, const char *message);

/* Ready, or more credit came: what was held back can go. */
void daemon_send_held(struct daemon *d);

#endif
