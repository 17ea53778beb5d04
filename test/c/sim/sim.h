/*
 * A world in virtual time: the real engine, fake clients and peers, a link between them, and a
 * model that looks on and says at each step what has to come out.
 *
 * The engine stands in the bottle of core/engine.h, as in the tests of its parts; what it sends is
 * put on the link after each step. The fuzzer's world is another one, on purpose: it ends the
 * program on the spot, gives no engine but a tiny one, and has nobody who waits for an answer.
 */
#ifndef CT_TEST_SIM_SIM_H
#define CT_TEST_SIM_SIM_H

#include "client.h"
#include "core/engine.h"
#include "link.h"
#include "model.h"
#include "peer.h"
#include "trace.h"

enum {
    SIM_CLIENTS = 8,
    SIM_PROBES = 16,
    SIM_NEWS = 512,
};

/* What a script does, and what it expects. */
enum sim_act {
    SIM_ASK,      /* the client begins `ask` */
    SIM_SEND,     /* the client sends a Send indication to the peer */
    SIM_CHANNEL,  /* the same as ChannelData */
    SIM_UNASKED,  /* the peer sends to the client's relayed address */
    SIM_LOSE,     /* the next `value` datagrams from client to server are lost */
    SIM_LOSE_ANS, /* and from server to client */
    SIM_ADMIT,    /* the client's user to room `value`, */
    SIM_WITHDRAW, /* or from it */
    SIM_STRANGER, /* the client has lost its nonce, and allocates with another transaction */
    SIM_REPLAY,   /* the client's last Allocate request comes again */
    SIM_CODE,     /* the last transaction ended with `value`: 0, a code, NO_REPLY */
    SIM_SENDS,    /* it was sent `value` times */
    SIM_WORTH,    /* the last LIFETIME was `value` */
    SIM_PEER_GOT, /* since the last time the peer got `value` datagrams */
    SIM_GOT,      /* the client did */
    SIM_LIVE,     /* the server has `value` allocations that have not expired */
    SIM_OPEN,     /* so many relayed ports are open */
    SIM_PORTS     /* `value` ports are taken, reserved ones included */
};

struct sim_step {
    uint32_t at_ms;
    enum sim_act act;
    uint8_t client, peer;
    int32_t value;
    struct sim_ask ask;
};

/* All that a run is made of; the seed decides the rest. */
struct sim_plan {
    const char *name;
    uint64_t seed;
    uint64_t duration_ms;
    struct sim_weather weather;
    struct model_rules rules;
    uint8_t clients;
    struct sim_manner manners[SIM_CLIENTS];
    unsigned valid_s[SIM_CLIENTS];
    unsigned answers, unasked_ms, probes; /* answers and probes per mille */
    const struct sim_step *script;
    size_t steps;
};

struct sim_probe {
    uint64_t at_ms;
    uint8_t client;
    struct addr relayed[2];
};

/* What the engine is yet to be told of a user's grants. */
struct sim_news {
    uint64_t at_ms;
    size_t user;
    uint32_t withdrawal;
    struct turn_grant_change change;
};

struct sim {
    struct engine engine;
    struct model model;
    struct sim_tally tally;
    struct sim_trace trace;
    struct rng rng;
    struct sim_client clients[SIM_CLIENTS];
    struct sim_peer peers[SIM_PEERS];
    const struct sim_plan *plan;
    struct sim_probe probes[SIM_PROBES];
    size_t probe_count, step;
    struct sim_news news[SIM_NEWS];
    size_t news_count;
    uint64_t grant_ms, open_ms; /* when the next grant comes or goes, and when they are complete */
    uint64_t start_ms, expire_ms, expired, packets;
    uint64_t paired; /* data from one client to another in one step */
    uint64_t handed; /* packets that the engine got; others came to closed relays */
    uint64_t client_heard[SIM_CLIENTS], peer_heard[SIM_PEERS]; /* at the last look of the script */
    unsigned failures_before;
    char problem[160]; /* empty: none */
    struct sim_link link;
};

/* Runs the plan to its end and looks whether anything is left. True when all was well. */
bool sim_run(struct sim *sim, const struct sim_plan *plan);

/* ---- for its parts ---- */

/* The first problem counts. */
void sim_fail(struct sim *sim, const char *why);
/* Hands one datagram to the engine and judges what comes out (exchange.c). */
void sim_exchange(struct sim *sim, const struct sim_path *path, struct span bytes);
/* Grants that come and go, and what is told of them (admission.c). */
void sim_admission_init(struct sim *sim);
uint64_t sim_admission_due(const struct sim *sim);
void sim_admission_tick(struct sim *sim);
void sim_admit(struct sim *sim, size_t user, size_t room);
void sim_withdraw(struct sim *sim, size_t user, size_t room);
/* Does or checks one step of the script (script.c). */
void sim_do(struct sim *sim, const struct sim_step *step);

#endif
