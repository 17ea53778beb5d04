/*
 * The timers and retransmission rules of the RFCs, each played to the millisecond: clear weather,
 * no delay, and losses where the script says so. Rows are those of design/conformance.md.
 */
#include "scenario.h"

#define LIFE(s) .with_lifetime = true, .lifetime = (s)
#define ASK(t, c, m, ...)                                                                 \
    {                                                                                     \
        .at_ms = (t), .act = SIM_ASK, .client = (c), .ask = {.method = (m), __VA_ARGS__ } \
    }
#define ALLOCATE(t, c, ...) ASK(t, c, STUN_ALLOCATE, __VA_ARGS__)
#define REFRESH(t, c, ...)  ASK(t, c, STUN_REFRESH, __VA_ARGS__)
#define PERMIT(t, c, p)     ASK(t, c, STUN_CREATE_PERMISSION, .peers = 1u << (p))
#define BIND(t, c, n, p) \
    ASK(t, c, STUN_CHANNEL_BIND, .peers = 1u << (p), .channel = STUN_CHANNEL_MIN + (n))
/* The client, or the peer, sends. */
#define TALK(t, a, c, p)                                     \
    {                                                        \
        .at_ms = (t), .act = (a), .client = (c), .peer = (p) \
    }
/* Expectations of a client, and of a peer. */
#define IS(t, a, c, v)                                        \
    {                                                         \
        .at_ms = (t), .act = (a), .client = (c), .value = (v) \
    }
#define PEER_GOT(t, p, v)                                            \
    {                                                                \
        .at_ms = (t), .act = SIM_PEER_GOT, .peer = (p), .value = (v) \
    }

/* Sent at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms; given up at 39500 (RFC 8489 §6.2.1). */
static const struct sim_step retransmissions[] = {
    ALLOCATE(0, 0, LIFE(600)),    IS(0, SIM_CODE, 0, 0),        IS(1000, SIM_LOSE, 0, 6),
    REFRESH(1000, 0, LIFE(700)),  IS(32499, SIM_SENDS, 0, 1), /* of the transaction before */
    IS(32500, SIM_SENDS, 0, 7),   IS(32500, SIM_WORTH, 0, 700), IS(40000, SIM_LOSE, 0, 7),
    REFRESH(40000, 0, LIFE(800)), IS(79499, SIM_CODE, 0, 0),    IS(79500, SIM_CODE, 0, NO_REPLY),
    IS(732499, SIM_LIVE, 0, 1),   IS(732500, SIM_LIVE, 0, 0),
};

/* Three answers are lost, and the fourth is the same: one allocation, one reservation. */
static const struct sim_step allocate_again[] = {
    ALLOCATE(0, 0, LIFE(600)),
    REFRESH(0, 0, LIFE(0)),
    IS(1000, SIM_LIVE, 0, 0),
    IS(2000, SIM_LOSE_ANS, 0, 3),
    ALLOCATE(2000, 0, LIFE(600), .next = true),
    IS(5499, SIM_LIVE, 0, 1),
    IS(5499, SIM_OPEN, 0, 1),
    IS(5500, SIM_SENDS, 0, 4),
    IS(5500, SIM_CODE, 0, 0),
    IS(5500, SIM_WORTH, 0, 597), /* what is left of it */
    IS(5500, SIM_OPEN, 0, 1),
    IS(5500, SIM_PORTS, 0, 2),
    IS(602000, SIM_LIVE, 0, 0),
};

/*
 * Copies of an Allocate that come after its allocation was let go, for 40 seconds from the first:
 * by retransmission, as its answer was lost, and by the network. Another transaction is another.
 */
static const struct sim_step allocate_late[] = {
    ALLOCATE(0, 0, LIFE(600)),
    REFRESH(0, 0, LIFE(0)),
    {.at_ms = 1000, .act = SIM_REPLAY, .client = 0},
    IS(1000, SIM_LIVE, 0, 0),
    IS(2000, SIM_LOSE_ANS, 0, 1),
    ALLOCATE(2000, 0, LIFE(600)),
    IS(2099, SIM_LIVE, 0, 1),
    REFRESH(2100, 0, LIFE(0)),
    IS(2499, SIM_LIVE, 0, 0),
    IS(2500, SIM_CODE, 0, 437),
    IS(2500, SIM_OPEN, 0, 0),
    ALLOCATE(3000, 0, LIFE(600)),
    IS(3000, SIM_CODE, 0, 0),
    REFRESH(4000, 0, LIFE(0)),
    {.at_ms = 42999, .act = SIM_REPLAY, .client = 0},
    IS(42999, SIM_LIVE, 0, 0),
    {.at_ms = 43000, .act = SIM_REPLAY, .client = 0},
    IS(43000, SIM_LIVE, 0, 1), /* no retransmission comes so late */
};

/* A second Allocate on the 5-tuple of one that lives, and when it has expired. */
static const struct sim_step port_used_again[] = {
    ALLOCATE(0, 0, LIFE(600)),       {.at_ms = 10000, .act = SIM_STRANGER},
    ALLOCATE(10000, 0, LIFE(600)),   IS(10000, SIM_CODE, 0, 437),
    IS(10000, SIM_OPEN, 0, 1),       ALLOCATE(599999, 0, LIFE(600)),
    IS(599999, SIM_CODE, 0, 437),    ALLOCATE(600000, 0, LIFE(600)),
    IS(600000, SIM_CODE, 0, 0),      IS(600000, SIM_OPEN, 0, 1),
    TALK(600000, SIM_UNASKED, 0, 0), /* a new one begins without permissions, TURN-ALLOC-39 */
    IS(600000, SIM_GOT, 0, 0),       REFRESH(700000, 0, LIFE(0)),
    ALLOCATE(700000, 0, LIFE(600)),  IS(700000, SIM_CODE, 0, 0),
    IS(700000, SIM_OPEN, 0, 1),
};

static const struct sim_step lifetimes[] = {
    ALLOCATE(0, 0, .with_lifetime = false),
    IS(0, SIM_WORTH, 0, 600),
    ALLOCATE(0, 1, LIFE(0)),
    IS(0, SIM_WORTH, 1, 600),
    ALLOCATE(0, 2, LIFE(1)),
    IS(0, SIM_WORTH, 2, 600),
    ALLOCATE(0, 3, LIFE(599)),
    IS(0, SIM_WORTH, 3, 600),
    ALLOCATE(0, 4, LIFE(777)),
    IS(0, SIM_WORTH, 4, 777),
    ALLOCATE(0, 5, LIFE(3600)),
    IS(0, SIM_WORTH, 5, 3600),
    ALLOCATE(0, 6, LIFE(4000000000)),
    IS(0, SIM_WORTH, 6, 3600),
    IS(599999, SIM_LIVE, 0, 7),
    IS(600000, SIM_LIVE, 0, 3),
    IS(776999, SIM_LIVE, 0, 3),
    IS(777000, SIM_LIVE, 0, 2),
    IS(3599999, SIM_LIVE, 0, 2),
    IS(3600000, SIM_LIVE, 0, 0),
    IS(3602000, SIM_PORTS, 0, 0),
};

static const struct sim_step refreshes[] = {
    ALLOCATE(0, 0, LIFE(3600)),   REFRESH(1000, 0, .with_lifetime = false),
    IS(1000, SIM_WORTH, 0, 600),  REFRESH(2000, 0, LIFE(599)),
    IS(2000, SIM_WORTH, 0, 600),  REFRESH(3000, 0, LIFE(4000000000)),
    IS(3000, SIM_WORTH, 0, 3600), REFRESH(4000, 0, LIFE(700)), /* shorter than what is left */
    IS(4000, SIM_WORTH, 0, 700),  IS(703999, SIM_LIVE, 0, 1),
    IS(704000, SIM_LIVE, 0, 0),   REFRESH(704000, 0, LIFE(700)),
    IS(704000, SIM_CODE, 0, 437),
};

/* The answer to a release is lost: its retransmission finds nothing any more. */
static const struct sim_step release[] = {
    ALLOCATE(0, 0, LIFE(600)),  PERMIT(0, 0, 0),           IS(1000, SIM_LOSE_ANS, 0, 1),
    REFRESH(1000, 0, LIFE(0)),  IS(1000, SIM_OPEN, 0, 0),  IS(1000, SIM_PORTS, 0, 0),
    IS(1500, SIM_CODE, 0, 437), IS(1500, SIM_SENDS, 0, 2), PERMIT(2000, 0, 0),
    IS(2000, SIM_CODE, 0, 437),
};

/* Neither data nor Binding, only Refresh, extends an allocation; its end frees what it had. */
static const struct sim_step expiry[] = {
    ALLOCATE(0, 0, LIFE(600)),
    PERMIT(0, 0, 0),
    PERMIT(290000, 0, 0),
    ASK(300000, 0, STUN_BINDING, .peers = 0),
    IS(300000, SIM_CODE, 0, 0),
    TALK(300000, SIM_SEND, 0, 0),
    TALK(500000, SIM_UNASKED, 0, 0),
    PERMIT(590000, 0, 0),
    TALK(599999, SIM_SEND, 0, 0),
    TALK(599999, SIM_UNASKED, 0, 0),
    PEER_GOT(599999, 0, 2),
    IS(599999, SIM_GOT, 0, 2),
    TALK(600000, SIM_SEND, 0, 0),
    TALK(600000, SIM_UNASKED, 0, 0),
    PEER_GOT(600000, 0, 0),
    IS(600000, SIM_GOT, 0, 0),
    REFRESH(600000, 0, LIFE(600)),
    IS(600000, SIM_CODE, 0, 437),
    IS(602000, SIM_OPEN, 0, 0),
    IS(602000, SIM_PORTS, 0, 0),
};

/* 300 s for an IP, whatever the port; traffic and Refresh do not extend it. */
static const struct sim_step permission[] = {
    ALLOCATE(0, 0, LIFE(1200)),      PERMIT(1000, 0, 0),
    REFRESH(200000, 0, LIFE(1200)),  TALK(250000, SIM_SEND, 0, 0),
    TALK(250000, SIM_UNASKED, 0, 0), TALK(300999, SIM_SEND, 0, 1),
    TALK(300999, SIM_UNASKED, 0, 1), PEER_GOT(300999, 0, 1),
    PEER_GOT(300999, 1, 1),          IS(300999, SIM_GOT, 0, 2),
    TALK(301000, SIM_SEND, 0, 0),    TALK(301000, SIM_UNASKED, 0, 0),
    PEER_GOT(301000, 0, 0),          IS(301000, SIM_GOT, 0, 0),
};

/* The answer is lost: the retransmission, half a second later, counts from there. */
static const struct sim_step permit_again[] = {
    ALLOCATE(0, 0, LIFE(1200)), IS(1000, SIM_LOSE_ANS, 0, 1),    PERMIT(1000, 0, 0),
    IS(1500, SIM_SENDS, 0, 2),  IS(1500, SIM_CODE, 0, 0),        TALK(301499, SIM_UNASKED, 0, 0),
    IS(301499, SIM_GOT, 0, 1),  TALK(301500, SIM_UNASKED, 0, 0), IS(301500, SIM_GOT, 0, 0),
};

/* The permission of a binding ends before it does: the way to the peer stays. */
static const struct sim_step two_timers[] = {
    ALLOCATE(0, 0, LIFE(3600)),
    BIND(1000, 0, 0, 0),
    TALK(300999, SIM_UNASKED, 0, 0),
    IS(300999, SIM_GOT, 0, 1),
    TALK(400000, SIM_UNASKED, 0, 0),
    IS(400000, SIM_GOT, 0, 0),
    TALK(400000, SIM_CHANNEL, 0, 0),
    PEER_GOT(400000, 0, 1),
    PERMIT(400000, 0, 0),
    TALK(400001, SIM_UNASKED, 0, 0),
    IS(400001, SIM_GOT, 0, 1),
    TALK(600999, SIM_CHANNEL, 0, 0),
    PEER_GOT(600999, 0, 1),
    TALK(601000, SIM_CHANNEL, 0, 0),
    PEER_GOT(601000, 0, 0),
};

/* Bound again, and a retransmission of that: 600 s from the last one that came. */
static const struct sim_step bind_again[] = {
    ALLOCATE(0, 0, LIFE(3600)),       BIND(1000, 0, 0, 0),
    IS(500000, SIM_LOSE_ANS, 0, 2),   BIND(500000, 0, 0, 0),
    IS(501500, SIM_CODE, 0, 0),       IS(501500, SIM_SENDS, 0, 3),
    TALK(1101499, SIM_CHANNEL, 0, 0), PEER_GOT(1101499, 0, 1),
    TALK(1101500, SIM_CHANNEL, 0, 0), PEER_GOT(1101500, 0, 0),
};

/* Number and peer stay together 300 s longer than the binding; the same pair may come at once. */
static const struct sim_step quarantine[] = {
    ALLOCATE(0, 0, LIFE(3600)),
    BIND(0, 0, 0, 0),
    BIND(0, 0, 1, 1),
    BIND(599999, 0, 0, 2),
    IS(599999, SIM_CODE, 0, 400),
    BIND(600000, 0, 0, 2),
    IS(600000, SIM_CODE, 0, 400),
    BIND(700000, 0, 1, 1),
    IS(700000, SIM_CODE, 0, 0),
    BIND(899999, 0, 2, 0),
    IS(899999, SIM_CODE, 0, 400),
    TALK(899999, SIM_UNASKED, 0, 2), /* what was refused has permitted nothing */
    IS(899999, SIM_GOT, 0, 0),
    BIND(900000, 0, 0, 2),
    IS(900000, SIM_CODE, 0, 0),
    BIND(900000, 0, 2, 0),
    IS(900000, SIM_CODE, 0, 0),
};

/* A reserved port is held for 30 s, for whoever has the token, once. */
static const struct sim_step reservation[] = {
    IS(0, SIM_LOSE_ANS, 0, 1),
    ALLOCATE(0, 0, LIFE(600), .next = true), /* the challenge is lost, not the answer */
    IS(500, SIM_CODE, 0, 0),
    IS(500, SIM_PORTS, 0, 2),
    ALLOCATE(30499, 1, LIFE(600), .redeem = true),
    IS(30499, SIM_CODE, 1, 0),
    IS(30499, SIM_PORTS, 0, 2),
    ALLOCATE(30499, 2, LIFE(600), .redeem = true),
    IS(30499, SIM_CODE, 2, 508),
    ALLOCATE(40000, 3, LIFE(600), .next = true),
    IS(40000, SIM_PORTS, 0, 4),
    REFRESH(50000, 3, LIFE(0)), /* the reservation outlives who made it */
    IS(50000, SIM_PORTS, 0, 3),
    IS(69999, SIM_PORTS, 0, 3),
    IS(70000, SIM_PORTS, 0, 2),
    ALLOCATE(70000, 4, LIFE(600), .redeem = true),
    IS(70000, SIM_CODE, 4, 508),
};

/* Retransmissions count once; what ends is free again. Clients 0 and 1 are one user. */
static const struct sim_step quota[] = {
    ALLOCATE(0, 0, LIFE(600)),      REFRESH(0, 0, LIFE(0)),       IS(1000, SIM_LOSE_ANS, 0, 3),
    ALLOCATE(1000, 0, LIFE(600)),   IS(4500, SIM_SENDS, 0, 4),    ALLOCATE(5000, 1, LIFE(600)),
    IS(5000, SIM_CODE, 1, 486),     ALLOCATE(5000, 2, LIFE(600)), IS(5000, SIM_CODE, 2, 0),
    REFRESH(6000, 0, LIFE(0)),      ALLOCATE(6000, 1, LIFE(600)), IS(6000, SIM_CODE, 1, 0),
    ALLOCATE(610000, 0, LIFE(600)), IS(610000, SIM_CODE, 0, 0),
};

static void one_each(struct sim_plan *plan)
{
    plan->rules.quota = 1;
}

/* A nonce ends in the middle: 438, a fresh one, and nothing is lost by it. */
static const struct sim_step stale[] = {
    ALLOCATE(0, 0, LIFE(600)),      PERMIT(58000, 0, 0),
    IS(58000, SIM_CODE, 0, 0),      REFRESH(62000, 0, LIFE(600)),
    IS(62000, SIM_CODE, 0, 0),      IS(62000, SIM_LIVE, 0, 1),
    TALK(62000, SIM_UNASKED, 0, 0), IS(62000, SIM_GOT, 0, 1),
    IS(130000, SIM_LOSE_ANS, 0, 1), /* the 438 itself is lost */
    REFRESH(130000, 0, LIFE(600)),  IS(130500, SIM_CODE, 0, 0),
    IS(730499, SIM_LIVE, 0, 1),     IS(730500, SIM_LIVE, 0, 0),
};

static void short_nonces(struct sim_plan *plan)
{
    plan->rules.nonce = 60;
}

/* Credentials that end keep what they made, and make nothing new. */
static const struct sim_step credentials[] = {
    ALLOCATE(0, 0, LIFE(600)),  REFRESH(200000, 0, LIFE(600)),  IS(200000, SIM_CODE, 0, 0),
    PERMIT(200000, 0, 0),       IS(200000, SIM_CODE, 0, 0),     REFRESH(300000, 0, LIFE(0)),
    IS(300000, SIM_CODE, 0, 0), ALLOCATE(300000, 0, LIFE(600)), IS(300000, SIM_CODE, 0, 401),
    IS(300000, SIM_LIVE, 0, 0),
};

static void short_credentials(struct sim_plan *plan)
{
    plan->valid_s[0] = 100;
}

/* Each family of a dual allocation has its own time, and the last one takes it along. */
static const struct sim_step dual[] = {
    ALLOCATE(0, 0, LIFE(600), .dual = true),
    IS(0, SIM_OPEN, 0, 2),
    PERMIT(0, 0, 0),
    PERMIT(0, 0, 4),
    REFRESH(100000, 0, LIFE(1200), .family = ADDR_V4),
    IS(100000, SIM_WORTH, 0, 1200),
    PERMIT(500000, 0, 0),
    PERMIT(500000, 0, 4),
    TALK(599999, SIM_UNASKED, 0, 4),
    IS(599999, SIM_GOT, 0, 1),
    TALK(600000, SIM_UNASKED, 0, 4),
    TALK(600000, SIM_UNASKED, 0, 0),
    IS(600000, SIM_GOT, 0, 1),
    REFRESH(601000, 0, LIFE(600), .family = ADDR_V6),
    IS(601000, SIM_CODE, 0, 443),
    IS(602000, SIM_OPEN, 0, 1),
    IS(1299999, SIM_LIVE, 0, 1),
    IS(1300000, SIM_LIVE, 0, 0),
    ALLOCATE(1400000, 0, LIFE(600), .dual = true),
    PERMIT(1400000, 0, 0),
    REFRESH(1400001, 0, LIFE(0), .family = ADDR_V6),
    IS(1400001, SIM_OPEN, 0, 1),
    TALK(1400001, SIM_UNASKED, 0, 0),
    IS(1400001, SIM_GOT, 0, 1),
    REFRESH(1400002, 0, LIFE(0), .family = ADDR_V4),
    IS(1400002, SIM_OPEN, 0, 0),
    REFRESH(1400003, 0, LIFE(600)),
    IS(1400003, SIM_CODE, 0, 437),
};

#define GRANT(t, a, c, room)                                     \
    {                                                            \
        .at_ms = (t), .act = (a), .client = (c), .value = (room) \
    }

/* Clients 0 and 1 are one user: who is in no room any more loses both, and gets no other. */
static const struct sim_step admission[] = {
    ALLOCATE(0, 0, LIFE(600)),       IS(0, SIM_CODE, 0, 403),
    GRANT(1000, SIM_ADMIT, 0, 1),    GRANT(1000, SIM_ADMIT, 2, 1),
    ALLOCATE(1001, 0, LIFE(600)),    ALLOCATE(1001, 1, LIFE(600)),
    ALLOCATE(1001, 2, LIFE(600)),    IS(1001, SIM_LIVE, 0, 3),
    GRANT(2000, SIM_WITHDRAW, 0, 2), /* where he is not */
    GRANT(2000, SIM_ADMIT, 0, 2),    GRANT(2000, SIM_WITHDRAW, 0, 1),
    IS(2001, SIM_LIVE, 0, 3),        REFRESH(2001, 0, LIFE(600)),
    IS(2001, SIM_CODE, 0, 0),        GRANT(3000, SIM_WITHDRAW, 0, 2),
    IS(3001, SIM_LIVE, 0, 1),        IS(3001, SIM_OPEN, 0, 1),
    IS(3001, SIM_PORTS, 0, 1),       REFRESH(3001, 0, LIFE(600)),
    IS(3001, SIM_CODE, 0, 437),      ALLOCATE(3001, 1, LIFE(600)),
    IS(3001, SIM_CODE, 1, 403),      REFRESH(3001, 2, LIFE(600)),
    IS(3001, SIM_CODE, 2, 0),        GRANT(4000, SIM_WITHDRAW, 2, 1),
    GRANT(4000, SIM_ADMIT, 2, 1), /* back at once: what was there ends all the same */
    ALLOCATE(4000, 3, LIFE(600)),    IS(4000, SIM_LIVE, 0, 2),
    IS(4001, SIM_LIVE, 0, 1),        IS(4001, SIM_OPEN, 0, 1),
    REFRESH(4001, 3, LIFE(600)),     IS(4001, SIM_CODE, 3, 0),
};

static void by_presence(struct sim_plan *plan)
{
    plan->rules.admission = TURN_ADMISSION_PRESENCE;
}

#define NAMED(rows, script, adjust)                                      \
    {                                                                    \
        rows, #script, script, sizeof(script) / sizeof *(script), adjust \
    }

const struct sim_named sim_named[] = {
    NAMED("STUN-BIND-07; RFC 8489 6.2.1", retransmissions, NULL),
    NAMED("TURN-ALLOC-03; TURN-GEN-13", allocate_again, NULL),
    NAMED("STUN-BIND-10", allocate_late, NULL),
    NAMED("TURN-ALLOC-02, 39", port_used_again, NULL),
    NAMED("TURN-ALLOC-32, 33, 34, 35", lifetimes, NULL),
    NAMED("TURN-REFR-01, 02, 03", refreshes, NULL),
    NAMED("TURN-REFR-04, 05, 10", release, NULL),
    NAMED("TURN-GEN-11, 12; STUN-BIND-08", expiry, NULL),
    NAMED("TURN-PERM-09, 11; TURN-REFR-11", permission, NULL),
    NAMED("TURN-PERM-15", permit_again, NULL),
    NAMED("TURN-CHAN-12; TURN-CD-13", two_timers, NULL),
    NAMED("TURN-CHAN-05, 19; TURN-CD-09", bind_again, NULL),
    NAMED("TURN-CHAN-13, 18", quarantine, NULL),
    NAMED("TURN-ALLOC-10, 12, 15, 16", reservation, NULL),
    NAMED("TURN-GEN-08; TURN-ALLOC-29", quota, one_each),
    NAMED("STUN-LTC-14, 25; TURN-REFR-10", stale, short_nonces),
    NAMED("REST-03, 05, 06", credentials, short_credentials),
    NAMED("TURN-REFR-07, 08, 09", dual, NULL),
    NAMED("docs/control.md, Admission", admission, by_presence),
};
const size_t sim_named_count = sizeof sim_named / sizeof *sim_named;
