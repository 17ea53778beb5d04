/* One run of turnbench: what the command line asks for, and the modes that do it. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "client.h"
#include "load.h"
#include "proc.h"
#include "team.h"

struct bench {
    const struct mode *mode;
    struct client_source source;
    struct load load; /* clients, their number and what they send */
    struct team_setup team;
    struct procs server;
    int seconds;
    int warm;      /* hold: allocations made before memory is first looked at */
    int floor_cpu; /* -1: anywhere */
    double setup_s;
};

struct mode {
    const char *name;
    void (*run)(struct bench *b);
    bool with_peers; /* each client has a channel to a socket of its own */
    bool paired;     /* clients 2k and 2k + 1 have channels to each other's relayed address */
    bool from_peer, indication, echo;
    const char *help;
};

/* ---- clients, for all modes ---- */

void bench_open(struct bench *b, int i);
void bench_open_all(struct bench *b);

/* Releases every allocation, so that the next run meets a server without any. */
void bench_close_all(struct bench *b);

/* ---- modes: each prints one line of JSON, or dies ---- */

void traffic_run(struct bench *b);
void traffic_floor(struct bench *b);

/* Release and allocate on a new 5-tuple with a new challenge: what a client that comes and goes
 * costs. One after another, and -n of them under way at any time. */
void cycle_run(struct bench *b);
void storm_run(struct bench *b);

/* Memory against the number of allocations. */
void hold_run(struct bench *b);

/* Stops the busiest thread of the server's first process, and looks who is still served. */
void stall_run(struct bench *b);

#endif
