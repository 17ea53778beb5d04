/*
 * What a TURN server must hold and do, by the RFCs and not by the engine: a second, slow and simple
 * one that looks on. It is told of each packet before the engine is, says what has to come out, and
 * follows what came.
 *
 * Functions that judge return NULL when all is well, else what is not.
 */
#ifndef CT_TEST_SIM_MODEL_H
#define CT_TEST_SIM_MODEL_H

#include "core/stun_msg.h"
#include "core/turn_commons.h"
#include "core/turn_server.h"

enum {
    MODEL_ALLOCS = 32,
    MODEL_PERMS = 8,
    MODEL_CHANS = 16,
    MODEL_HOLDS = 32,
    MODEL_NONCES = 256,
    MODEL_MADE = 256,
    MODEL_REPEAT_MS = 40000,
    MODEL_USERNAME_MAX = 40,
    MODEL_NONCE_MAX = 128,
    MODEL_TOKEN = 8,
    MODEL_USERS = 4,    /* user0 to user3, */
    MODEL_ROOMS = 10,   /* in more rooms than one can be in */
    MODEL_SILENCE = -2, /* a verdict: no answer */
    /* An engine may hold what has expired this long: its wheel turns once a second. */
    MODEL_LINGER_MS = 2000,
};

/* Seconds and limits; model_rules() has those of the RFCs. */
struct model_rules {
    uint32_t lifetime_default, lifetime_max, permission, channel, quarantine, reservation, nonce;
    uint32_t quota, max_allocations;
    uint16_t port_min, port_max;
    bool pair;     /* data between two relayed addresses is there at once */
    bool switched; /* relayed addresses are virtual: nobody else can be a peer */
    enum turn_admission admission;
    uint32_t max_grants;
};
struct model_rules model_rules(void);

/* Things are there until a time, which is the first millisecond at which they are not. */
struct model_perm {
    struct addr ip; /* port 0 */
    uint64_t until;
};

struct model_chan {
    uint16_t number;
    struct addr peer;
    uint64_t until;
};

struct model_place {
    struct addr at;
    uint64_t until; /* 0: none */
};

struct model_alloc {
    struct addr client; /* family ADDR_NONE: nothing here */
    char username[MODEL_USERNAME_MAX];
    uint8_t tid[STUN_TID_SIZE];
    struct model_place places[2]; /* IPv4, IPv6 */
    bool has_token;
    uint8_t token[MODEL_TOKEN];
    struct model_perm perms[MODEL_PERMS];
    struct model_chan chans[MODEL_CHANS];
    bool rooms[MODEL_ROOMS];
    uint32_t doomed_by; /* number of the withdrawal that it is to end by; 0: none */
};

/* A port that EVEN-PORT reserved. */
struct model_hold {
    uint8_t token[MODEL_TOKEN];
    struct addr at;
    uint64_t until;
};

struct model_nonce {
    struct addr client;
    char text[MODEL_NONCE_MAX];
    uint64_t made_ms;
};

/* A transaction that made an allocation: copies must not make another for 40 s (RFC 8489 §6.3.1).
 */
struct model_made {
    struct addr client;
    uint8_t tid[STUN_TID_SIZE];
    uint64_t until;
};

struct model {
    struct model_rules rules;
    struct turn_now now;
    struct addr own; /* the relay's IPv4 address: a peer on relayed ports only */
    const struct turn_commons *commons;
    const char *problem; /* found on the way, told by model_compare() */
    struct model_alloc allocs[MODEL_ALLOCS];
    struct model_hold holds[MODEL_HOLDS];
    struct model_nonce nonces[MODEL_NONCES];
    size_t nonce_count;
    uint64_t counts[TURN_N_COUNT]; /* what the engine's counters must say */
    uint64_t late; /* copies of Allocate requests that came after their allocation had ended */
    struct model_made made[MODEL_MADE];
    size_t made_count;
    bool grants[MODEL_USERS][MODEL_ROOMS];
    bool open;            /* grants are complete */
    uint32_t withdrawals; /* of a user's last grant */
};

void model_init(struct model *m, const struct model_rules *rules);

/* The code that must answer, 0 for success, or MODEL_SILENCE; where expiry is under way, another
 * one that may. */
struct model_verdict {
    int code, or_code;
};
struct model_verdict model_expect(const struct model *m, const struct addr *client,
                                  const struct stun_msg *request);

/* Judges the answer (NULL: none came), and keeps what it changes. */
const char *model_answer(struct model *m, const struct addr *client, const struct stun_msg *request,
                         const struct stun_msg *reply);

/* One datagram that must be relayed; `relayed` false: nothing must come out. */
struct model_relay {
    bool relayed;
    struct addr from, to; /* relayed address and peer; of data to a client: its address is `to` */
    uint16_t channel;     /* 0: a Data indication */
    struct span data;
};

/* What the client's data must become; counts it. */
struct model_relay model_up(struct model *m, const struct addr *client, struct span packet);
/*
 * The same where both are relayed addresses of ours and nothing lies between them: what the one's
 * data, already counted, must become for the other.
 */
struct model_relay model_pair(struct model *m, const struct model_relay *up);
/* Whether data for this peer is such. */
bool model_is_paired(const struct model *m, const struct model_relay *up);
/* What a peer's datagram to a relayed address must become; counts it. */
struct model_relay model_down(struct model *m, const struct addr *at, const struct addr *peer,
                              struct span data);

/* Whether a relayed address must be open, and whether it may be. */
bool model_must_be_open(const struct model *m, const struct addr *at);
bool model_may_be_open(const struct model *m, const struct addr *at);

/* The live allocation of a client; NULL when there is none. */
struct model_alloc *model_find(const struct model *m, const struct addr *client);
uint64_t model_until(const struct model_alloc *a);
bool model_live(const struct model *m, const struct model_alloc *a);
struct model_perm *model_perm(struct model_alloc *a, const struct addr *peer);

/* Whether a port is taken by what was there after a time, or reserved. */
bool model_port_taken(const struct model *m, size_t family, uint16_t port, uint64_t after_ms);

/* ---- admission (model_admission.c) ---- */

/* The number of a username's user. */
size_t model_user(struct span username);
/* Whether the user may allocate. */
bool model_granted(const struct model *m, size_t user);
/* Whether he has an allocation that has not expired. */
bool model_user_lives(const struct model *m, size_t user);
/* What must become of a grant; and whether it is a new one, or was the last. */
enum ct_err model_admit(struct model *m, size_t user, size_t room, bool *fresh);
bool model_withdraw(struct model *m, size_t user, size_t room, bool *last);
/* The engine has been told what has become of the user, up to this withdrawal (0: of none). */
void model_told(struct model *m, size_t user, uint32_t withdrawal);
/* Whether both are in one room, as far as the engine has been told. */
bool model_meet(const struct model_alloc *a, const struct model_alloc *b);

/* Compares the engine's allocations and counters with ours. */
const char *model_compare(const struct model *m, struct turn_server *server);

#endif
