/* Traffic through a server: stamped packets at a rate, and what arrives of them. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "batch.h"
#include "client.h"
#include "hist.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LOAD_SIZE_MIN = 16
};

/* What is sent from where. */
struct load {
    struct client *clients;
    int n;
    struct sockaddr_in server; /* for clients that share a socket */
    bool from_peer;            /* peers send to relayed addresses, else clients to the server */
    bool indication;           /* clients send Send indications, else ChannelData */
    bool echo;                 /* peers send back what they receive; not with gro */
    bool gso;                  /* a burst leaves as one, and the kernel cuts it up */
    bool gro;                  /* sockets were opened so: many datagrams may arrive as one */
    bool hub;                  /* clients share one socket and peers another */
    bool inject;               /* and packets leave by a packet socket instead */
    int size;                  /* payload bytes, LOAD_SIZE_MIN to MESSAGE_PAYLOAD_MAX */
    int burst;                 /* packets per client and turn, 1 to BATCH_MAX */
    double rate;               /* packets per second; 0: as many as go out */
    uint64_t *got;             /* packets that arrived, by who sent them; NULL: nobody asks */
};

struct load_result {
    uint64_t sent, unsent;    /* unsent: refused by our own kernel */
    uint64_t delivered, late; /* late: of those delivered, after sending ended */
    uint64_t bad;             /* arrived with another size or content */
    double seconds;           /* of sending */
    struct hist latency;      /* of each delivered packet */
};

struct load_run;

/* Dies when memory or descriptors are short. The load must outlive it. */
struct load_run *load_new(const struct load *load);
void load_free(struct load_run *run);

/* Sends for that long, then waits 200 ms for what is still on its way. Overwrites `result`. */
void load_send(struct load_run *run, double seconds, struct load_result *result);

#endif
