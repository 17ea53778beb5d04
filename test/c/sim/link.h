/*
 * A link that loses, doubles, delays and reorders datagrams, all by its seed: the network between
 * clients, server and peers in virtual time.
 */
#ifndef CT_TEST_SIM_LINK_H
#define CT_TEST_SIM_LINK_H

#include "core/addr.h"
#include "core/buf.h"
#include "rng.h"

enum {
    SIM_DATAGRAM_MAX = 768, /* bytes: the longest message here is a request of some 300 */
    SIM_FLYING_MAX = 512,   /* datagrams on their way at once */
};

enum sim_way {
    SIM_CLIENT_TO_SERVER,
    SIM_SERVER_TO_CLIENT,
    SIM_RELAY_TO_PEER,
    SIM_PEER_TO_RELAY,
    SIM_WAYS,
};

/* Chances are per mille, times in milliseconds one way. */
struct sim_weather {
    uint16_t loss, twice, overtake;
    uint32_t delay_min, delay_max;
};

struct sim_path {
    enum sim_way way;
    struct addr from, to;
};

struct sim_datagram {
    uint64_t at_ms; /* when it arrives */
    uint64_t order; /* of two at one time, the one that was sent first */
    struct sim_path path;
    uint16_t len;
    uint8_t bytes[SIM_DATAGRAM_MAX];
};

struct sim_link {
    struct rng rng;
    struct sim_weather weather;
    uint64_t sent[SIM_WAYS], lost[SIM_WAYS], doubled[SIM_WAYS], arrived[SIM_WAYS];
    unsigned lose_next[SIM_WAYS]; /* so many datagrams are lost for certain */
    uint64_t last_at[SIM_WAYS];   /* nothing arrives earlier, unless it overtakes */
    uint64_t order;
    size_t flying, overflowed;
    uint16_t heap[SIM_FLYING_MAX]; /* places in pool, the next to arrive first; then free ones */
    struct sim_datagram pool[SIM_FLYING_MAX];
};

void sim_link_init(struct sim_link *link, uint64_t seed, const struct sim_weather *weather);

void sim_link_send(struct sim_link *link, uint64_t now_ms, const struct sim_path *path,
                   struct span bytes);

/* When the next datagram arrives; UINT64_MAX when nothing is on its way. */
uint64_t sim_link_next(const struct sim_link *link);

/* The datagram that arrives next, to be looked at before the next call; NULL when none flies. */
const struct sim_datagram *sim_link_take(struct sim_link *link);

#endif
