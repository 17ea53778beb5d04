/*
 * What the workers of one relay share: relayed ports in use, allocations per user, reservations,
 * usernames that may come as a USERHASH, grants.
 *
 * Touched only when allocations come and go, between the lock and unlock effects; the exceptions
 * are turn_commons_port_used() and turn_commons_owner(), which any thread may ask at any time.
 */
#ifndef CT_CORE_TURN_COMMONS_H
#define CT_CORE_TURN_COMMONS_H

#include "core/err.h"
#include "core/turn_grants.h"
#include "core/turn_server.h"
#include "core/turn_users.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    TURN_TOKEN_SIZE = 8,
    TURN_RESERVATIONS_MAX = 1024,
    TURN_WORKERS_MAX = 64, /* so that an owner fits one word */
};

/* A port of one of the configuration's relay addresses. */
struct turn_port {
    uint8_t relay; /* index into turn_config.relays */
    bool tcp;      /* TCP's port of that number, else UDP's: either can be taken */
    uint16_t port;
};

enum turn_parity {
    TURN_ANY_PORT,
    TURN_EVEN_PORT,
    TURN_EVEN_PORT_AND_NEXT
};

/*
 * Counts one allocation for a user (a keyed hash of the user id). CT_ENOSPACE when max_allocations
 * are there already, CT_EFORBIDDEN when the user has `quota` (0: no limit). Undone by _leave.
 */
enum ct_err turn_commons_enter(struct turn_commons *c, uint64_t user, uint32_t quota);
void turn_commons_leave(struct turn_commons *c, uint64_t user);

/*
 * A second relayed address of an allocation takes a socket of its own: it counts towards
 * max_allocations, not towards any quota. CT_ENOSPACE.
 */
enum ct_err turn_commons_enter_second(struct turn_commons *c);
void turn_commons_leave_second(struct turn_commons *c);

/*
 * Counts one TCP connection with a peer: CT_ENOSPACE when max_tcp_peers are there already. Undone
 * by _leave_tcp.
 */
enum ct_err turn_commons_enter_tcp(struct turn_commons *c);
void turn_commons_leave_tcp(struct turn_commons *c);

/* The keyed hash of a user id: the same for all workers. */
uint64_t turn_commons_user(const struct turn_commons *c, const uint8_t *id, size_t len);

/* The same of a room's name; never 0. */
uint64_t turn_commons_room(const struct turn_commons *c, const uint8_t *name, size_t len);

/* Whether the user has an allocation, with any worker. */
bool turn_commons_busy(const struct turn_commons *c, uint64_t user);

/* Who has been admitted; NULL while admission is off. */
struct turn_grants *turn_commons_grants(const struct turn_commons *c);

/* The usernames that the relay was told; NULL when the configuration has no room for any. */
struct turn_users *turn_commons_users(struct turn_commons *c);

/*
 * Takes a free port of relay address `relay`, chosen by the random number (RFC 6056), and with
 * TURN_EVEN_PORT_AND_NEXT the port after it too. CT_ENOSPACE when there is none.
 */
enum ct_err turn_commons_take_port(struct turn_commons *c, uint8_t relay, enum turn_parity parity,
                                   uint64_t random, struct turn_port *out);
/* The same of TCP's ports. */
enum ct_err turn_commons_take_tcp_port(struct turn_commons *c, uint8_t relay, uint64_t random,
                                       struct turn_port *out);
void turn_commons_give_port(struct turn_commons *c, struct turn_port port);
/* How often the ports were looked at for a free one: some ten times for each that is taken. */
uint64_t turn_commons_probes(const struct turn_commons *c);

/* Whether a port is taken by an allocation or a reservation, as far as this thread can see now. */
bool turn_commons_port_used(const struct turn_commons *c, struct turn_port port);

/* Whose relayed transport address a port is: an allocation's number in its worker's engine. */
struct turn_owner {
    uint16_t worker; /* below TURN_WORKERS_MAX */
    uint32_t alloc;  /* below the most that max_allocations may be */
};

/*
 * Notes who is bound to a port that the caller has taken, or that nobody is any more; both without
 * the lock, since a taken port is its taker's alone.
 */
void turn_commons_bind(struct turn_commons *c, struct turn_port port, struct turn_owner owner);
void turn_commons_unbind(struct turn_commons *c, struct turn_port port);

/*
 * Who is bound to a port, as far as this thread can see now; false for nobody, a port that is only
 * reserved among them.
 */
bool turn_commons_owner(const struct turn_commons *c, struct turn_port port,
                        struct turn_owner *out);

/*
 * Holds a taken port under a token until a time (RFC 8656 §7.2). CT_ENOSPACE when too many are
 * held. Reservations that are over give their port back by themselves.
 */
enum ct_err turn_commons_reserve(struct turn_commons *c, struct turn_port port,
                                 const uint8_t token[TURN_TOKEN_SIZE], uint64_t until_ms);
/* The reserved port, which now belongs to the caller; a token works once. CT_EMISSING. */
enum ct_err turn_commons_redeem(struct turn_commons *c, const uint8_t token[TURN_TOKEN_SIZE],
                                struct turn_port *out);
/* Ends what has been held until now or before. */
void turn_commons_expire(struct turn_commons *c, uint64_t now_ms);

#endif
