/* Traffic through a server: stamped packets at a rate, and what arrives of them. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "client.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LOAD_BURST_MAX = 64,
    LOAD_SIZE_MIN = 16
};

/* What is sent from where. */
struct load {
    struct client *clients;
    int n;
    bool from_peer;  /* peers send to relayed addresses, else clients to the server */
    bool indication; /* clients send Send indications, else ChannelData */
    bool echo;       /* peers send back what they receive */
    int size;        /* payload bytes, LOAD_SIZE_MIN to CLIENT_PAYLOAD_MAX */
    int burst;       /* packets per client and turn, 1 to LOAD_BURST_MAX */
    double rate;     /* packets per second; 0: as many as go out */
};

struct load_result {
    uint64_t sent, unsent;    /* unsent: refused by our own kernel */
    uint64_t delivered, late; /* late: of those delivered, after sending ended */
    uint64_t bad;             /* arrived with another size or content */
    double seconds;           /* of sending */
    uint32_t *latency;        /* of each delivered packet up to latency_cap, 0.1 us */
    size_t latencies, latency_cap;
};

struct load_run;

/* Dies when memory or descriptors are short. The load must outlive it. */
struct load_run *load_new(const struct load *load);
void load_free(struct load_run *run);

/*
 * Sends for that long, then waits 200 ms for what is still on its way. Overwrites all of `result`
 * but the room for latencies.
 */
void load_send(struct load_run *run, double seconds, struct load_result *result);

/* The q-quantile (0 to 1) in microseconds, 0 when nothing arrived. load_sort() comes first. */
void load_sort(struct load_result *result);
double load_quantile(const struct load_result *result, double q);

#endif
