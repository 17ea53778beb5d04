/* Fake peers: they answer what they get, and send unasked to relayed addresses they have seen. */
#ifndef CT_TEST_SIM_PEER_H
#define CT_TEST_SIM_PEER_H

#include "link.h"

enum {
    SIM_PEERS = 6,
    SIM_SEEN_MAX = 8,
    SIM_PAYLOAD_MAX = 96,
};

struct sim_peer {
    uint8_t number;
    struct addr at;
    struct sim_link *link;
    struct rng *rng;
    uint32_t unasked_ms; /* the longest pause between what it sends unasked; 0: it does not */
    uint64_t due_ms;
    unsigned answers; /* per mille of what it gets */
    struct addr seen[SIM_SEEN_MAX];
    size_t seen_count;
    uint64_t heard, said;
};

/* "198.51.100.1:7000" and so on: 0 and 1 share an IP, 4 and 5 are IPv6. */
const char *sim_peer_text(uint8_t number);

void sim_peer_init(struct sim_peer *p, uint8_t number, struct sim_link *link, struct rng *rng);
void sim_peer_receive(struct sim_peer *p, uint64_t now_ms, const struct addr *from,
                      struct span data);
/* Sends one datagram to a relayed address. */
void sim_peer_say(struct sim_peer *p, uint64_t now_ms, const struct addr *relayed);
void sim_peer_tick(struct sim_peer *p, uint64_t now_ms);

/* A payload that tells who sent it, of a random length; how many bytes. */
size_t sim_payload(struct rng *rng, char who, unsigned number, uint64_t serial,
                   char out[SIM_PAYLOAD_MAX]);

#endif
