/*
 * A fake client: transactions with their retransmissions (RFC 8489 §6.2.1), and a life of its own
 * that allocates, refreshes, permits, binds, talks and leaves (RFC 8656), or does as a script says.
 */
#ifndef CT_TEST_SIM_CLIENT_H
#define CT_TEST_SIM_CLIENT_H

#include "core/engine.h"
#include "link.h"
#include "peer.h"

enum {
    SIM_RTO_MS = 500, /* RFC 8489 §6.2.1 */
    SIM_RC = 7,
    SIM_RM = 16,
    SIM_TRANSACTIONS = 8, /* under way at once */
    SIM_REFRESH_AHEAD_MS = 60000,
    SIM_PERMIT_EVERY_MS = 240000,
    SIM_BIND_EVERY_MS = 540000,
    SIM_OWN = 1 << SIM_PEERS, /* in a mask of peers: the relay's own IP */
    SIM_TICKET_MAX = 64,
    SIM_ANY_CODE = -2, /* nothing has been settled yet */
};

enum sim_end {
    SIM_RELEASES,
    SIM_DIES /* without a word; what comes after it has the same port and nothing else */
};

/* How a client lives. Times in milliseconds, masks by peer number. */
struct sim_manner {
    bool scripted; /* does nothing by itself but retransmit, and answer challenges */
    uint32_t start_ms, life_ms, gap_ms, traffic_ms;
    uint8_t rounds;
    enum sim_end end;
    uint32_t lifetime; /* asked for; 0: not mentioned */
    uint8_t peers, channels;
    bool dual, even, next, redeems;
    bool neglects; /* keeps the allocation, and neither permissions nor channels */
    bool shuffles; /* takes any channel number for any peer each time */
    bool meets;    /* talks to the newest allocation of anybody too, by its relayed address */
    bool splits;   /* refreshes the families of a dual allocation one by one, and drops one */
    bool moves;    /* asks for tickets (RFC 8016), and refreshes from another port now and then */
};

/* What all clients of a run have in common. */
struct sim_tally {
    uint64_t asked, answered, retransmitted, timed_out, allocated, refreshed, released, refused;
    uint64_t died; /* allocations that were gone although their clients had not let them go */
    uint64_t heard;
    uint64_t moved; /* answers to a ticket */
    bool has_token; /* the newest reservation */
    uint8_t token[8];
    struct addr newest; /* relayed address, IPv4 */
};

/* What a request asks for. */
struct sim_ask {
    uint16_t method;
    uint16_t channel;
    uint8_t peers;
    uint8_t family; /* REQUESTED-ADDRESS-FAMILY, or 0 */
    uint32_t lifetime;
    bool with_lifetime, dual, even, next, redeem;
    bool mobile; /* of Allocate: with a ticket to be had; of Refresh: from a new port, with it */
};

struct sim_transaction {
    bool busy;
    uint8_t sends, rounds; /* how often sent, how often asked anew after a 401 or 438 */
    uint16_t len;
    uint32_t rto_ms;
    uint64_t due_ms;
    struct sim_ask ask;
    uint8_t tid[STUN_TID_SIZE];
    uint8_t bytes[SIM_DATAGRAM_MAX];
};

enum sim_phase {
    SIM_AWAY,
    SIM_JOINING,
    SIM_IN,
    SIM_LEAVING,
    SIM_GONE
};

struct sim_client {
    struct client c; /* credentials, 5-tuple, last answer */
    uint8_t number;
    struct sim_manner manner;
    struct sim_link *link;
    struct rng *rng;
    struct sim_tally *tally;
    enum sim_phase phase;
    struct sim_transaction under_way[SIM_TRANSACTIONS];
    struct addr relayed[2]; /* IPv4, IPv6; family ADDR_NONE: none */
    uint64_t next_ms, end_ms, refresh_ms, permit_ms, expires_ms;
    uint64_t bind_ms[SIM_PEERS];
    bool bound[SIM_PEERS];
    uint16_t channels[SIM_PEERS]; /* the number last asked for */
    uint8_t round;
    uint64_t said, heard;
    int last_code; /* how the last transaction ended; NO_REPLY: by time-out */
    unsigned last_sends;
    uint32_t last_lifetime;
    uint16_t ticket_len; /* 0: none */
    uint8_t ticket[SIM_TICKET_MAX];
    uint16_t allocate_len; /* the last Allocate request */
    uint8_t allocate[SIM_DATAGRAM_MAX];
};

/* Client number n at 192.0.2.(100 + n):5000, and higher ports as it moves, with credentials that
 * end `valid_s` from now. */
void sim_client_init(struct sim_client *s, struct engine *e, uint8_t number, unsigned valid_s,
                     const struct sim_manner *manner);

/* Begins a transaction; nothing happens while too many are under way. */
void sim_client_ask(struct sim_client *s, const struct sim_ask *ask);
/* Its last Allocate request comes once more, as the network has it. */
void sim_client_replay(struct sim_client *s);
/* Data for a peer, as ChannelData, or as a Send indication for `channel` 0; how many bytes. */
size_t sim_client_data(struct sim_client *s, uint8_t peer, uint16_t channel,
                       uint8_t bytes[SIM_DATAGRAM_MAX]);
void sim_client_say(struct sim_client *s, uint8_t peer, uint16_t channel);
void sim_client_receive(struct sim_client *s, struct span bytes);
uint64_t sim_client_due(const struct sim_client *s);
void sim_client_tick(struct sim_client *s);

#endif
