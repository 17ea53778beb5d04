#include "core/turn_commons.h"

#include "core/hash.h"
#include "crypto/crypto.h"

#include <stdlib.h>
#include <string.h>

enum {
    PORT_BITS = 65536,
    WORD_BITS = 64,
    RANDOM_TRIES = 16, /* nine in ten ports taken: one of 16 tries is free four times in five */
    WORKER_BITS = 6,   /* of an owner's word; the rest is the allocation's number and 1 */
};
_Static_assert(TURN_WORKERS_MAX == 1 << WORKER_BITS, "a worker's number must fit");

/* One bit per port. Written under the lock, read by anybody. */
struct port_set {
    _Atomic uint64_t words[PORT_BITS / WORD_BITS];
    uint32_t taken; /* how many bits are set */
};

struct reservation {
    uint64_t until_ms; /* 0: unused */
    uint8_t token[TURN_TOKEN_SIZE];
    struct turn_port port;
};

struct user_count {
    uint64_t user;
    uint32_t allocations; /* 0: unused */
};

struct turn_commons {
    struct hash_seed seed;
    uint16_t port_min, port_max;
    uint8_t relay_count;
    uint32_t allocations, max_allocations;
    struct user_count *users; /* open addressing, mask + 1 slots */
    uint32_t user_mask;
    uint32_t reserved;
    uint64_t probes;            /* looks at the ports for one that is free */
    struct turn_users *known;   /* NULL: none */
    struct turn_grants *grants; /* NULL: nobody needs one */
    struct reservation reservations[TURN_RESERVATIONS_MAX];
    struct port_set ports[2][TURN_RELAYS_MAX]; /* UDP's and TCP's */
    uint32_t tcp_peers, max_tcp_peers;
    _Atomic uint32_t *owners; /* a word for each UDP port of each relay address; 0: nobody */
};

struct turn_commons *turn_commons_new(const struct turn_config *config)
{
    struct turn_commons *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    uint32_t slots = 16;
    while (slots / 2 < config->max_allocations)
        slots *= 2;
    c->users = malloc(slots * sizeof *c->users);
    c->known = config->userhashes ? turn_users_new(config->userhashes) : NULL;
    if (config->admission != TURN_ADMISSION_OFF)
        c->grants = turn_grants_new(config->max_grants);
    size_t ports = config->relay_count * ((size_t)config->port_max - config->port_min + 1);
    c->owners = malloc(ports * sizeof *c->owners);
    if (!c->users || !c->owners || (config->userhashes && !c->known) ||
        (config->admission != TURN_ADMISSION_OFF && !c->grants) ||
        crypto_random(&c->seed, sizeof c->seed) != CT_OK) {
        turn_commons_free(c);
        return NULL;
    }
    /* written at once, as ports are random: the first thousand would touch all pages anyway */
    memset(c->users, 0, slots * sizeof *c->users);
    memset((void *)c->owners, 0, ports * sizeof *c->owners);
    c->user_mask = slots - 1;
    c->port_min = config->port_min;
    c->port_max = config->port_max;
    c->relay_count = config->relay_count;
    c->max_allocations = config->max_allocations;
    c->max_tcp_peers = config->max_tcp_peers;
    return c;
}

void turn_commons_free(struct turn_commons *c)
{
    if (!c)
        return;
    turn_users_free(c->known);
    turn_grants_free(c->grants);
    free(c->owners);
    free(c->users);
    free(c);
}

/* ---- users ---- */

uint64_t turn_commons_user(const struct turn_commons *c, const uint8_t *id, size_t len)
{
    return hash_bytes(&c->seed, id, len);
}

uint64_t turn_commons_room(const struct turn_commons *c, const uint8_t *name, size_t len)
{
    uint64_t hash = hash_bytes(&c->seed, name, len);
    return hash ? hash : 1;
}

/* The user's slot, or the free slot where it would go: the table is never more than half full. */
static uint32_t user_slot(const struct turn_commons *c, uint64_t user)
{
    uint32_t at = (uint32_t)user & c->user_mask;
    while (c->users[at].allocations && c->users[at].user != user)
        at = (at + 1) & c->user_mask;
    return at;
}

enum ct_err turn_commons_enter(struct turn_commons *c, uint64_t user, uint32_t quota)
{
    if (c->allocations == c->max_allocations)
        return CT_ENOSPACE;
    struct user_count *u = &c->users[user_slot(c, user)];
    if (quota && u->allocations >= quota)
        return CT_EFORBIDDEN;
    u->user = user;
    u->allocations++;
    c->allocations++;
    return CT_OK;
}

static void forget_user(struct turn_commons *c, uint32_t hole)
{
    for (uint32_t at = (hole + 1) & c->user_mask; c->users[at].allocations;
         at = (at + 1) & c->user_mask) {
        uint32_t home = (uint32_t)c->users[at].user & c->user_mask;
        if (((at - home) & c->user_mask) < ((at - hole) & c->user_mask))
            continue;
        c->users[hole] = c->users[at];
        hole = at;
    }
    c->users[hole] = (struct user_count){0};
}

void turn_commons_leave(struct turn_commons *c, uint64_t user)
{
    uint32_t at = user_slot(c, user);
    if (!c->users[at].allocations)
        return;
    c->allocations--;
    if (--c->users[at].allocations == 0)
        forget_user(c, at);
}

bool turn_commons_busy(const struct turn_commons *c, uint64_t user)
{
    return c->users[user_slot(c, user)].allocations != 0;
}

struct turn_grants *turn_commons_grants(const struct turn_commons *c)
{
    return c->grants;
}

enum ct_err turn_commons_enter_second(struct turn_commons *c)
{
    if (c->allocations == c->max_allocations)
        return CT_ENOSPACE;
    c->allocations++;
    return CT_OK;
}

void turn_commons_leave_second(struct turn_commons *c)
{
    c->allocations--;
}

enum ct_err turn_commons_enter_tcp(struct turn_commons *c)
{
    if (c->tcp_peers == c->max_tcp_peers)
        return CT_ENOSPACE;
    c->tcp_peers++;
    return CT_OK;
}

void turn_commons_leave_tcp(struct turn_commons *c)
{
    c->tcp_peers--;
}

struct turn_users *turn_commons_users(struct turn_commons *c)
{
    return c->known;
}

/* ---- ports ---- */

static uint64_t word_at(const struct port_set *set, uint32_t index)
{
    return atomic_load_explicit(&set->words[index], memory_order_relaxed);
}

static bool port_used(const struct port_set *set, uint32_t port)
{
    return word_at(set, port / WORD_BITS) >> port % WORD_BITS & 1;
}

static void port_mark(struct port_set *set, uint32_t port, bool used)
{
    _Atomic uint64_t *word = &set->words[port / WORD_BITS];
    uint64_t bit = (uint64_t)1 << port % WORD_BITS;
    uint64_t old = atomic_load_explicit(word, memory_order_relaxed);
    uint64_t next = used ? old | bit : old & ~bit;
    if (next != old)
        set->taken += used ? 1 : UINT32_MAX;
    atomic_store_explicit(word, next, memory_order_relaxed);
}

static bool port_fits(const struct turn_commons *c, const struct port_set *set, uint32_t port,
                      enum turn_parity parity)
{
    if (port_used(set, port))
        return false;
    if (parity != TURN_ANY_PORT && port % 2)
        return false;
    if (parity != TURN_EVEN_PORT_AND_NEXT)
        return true;
    return port < c->port_max && !port_used(set, port + 1);
}

/* The ports of a word that fit, a bit for each; an even port and the next are in one word. */
static uint64_t word_fits(const struct turn_commons *c, const struct port_set *set, uint32_t index,
                          enum turn_parity parity)
{
    static const uint64_t even = 0x5555555555555555u;
    uint32_t first = index * WORD_BITS, last = first + WORD_BITS - 1;
    uint64_t fit = ~word_at(set, index);
    if (first < c->port_min)
        fit &= UINT64_MAX << (c->port_min - first);
    if (last > c->port_max)
        fit &= UINT64_MAX >> (last - c->port_max);
    if (parity == TURN_EVEN_PORT_AND_NEXT)
        fit &= fit >> 1;
    return parity == TURN_ANY_PORT ? fit : fit & even;
}

/* The bit that is set, at `from` or after it, round the word; there must be one. */
static uint32_t next_bit(uint64_t word, uint32_t from)
{
    uint32_t bit = from;
    while (!(word >> bit & 1))
        bit = (bit + 1) % WORD_BITS;
    return bit;
}

/*
 * A port that fits: tried at random first, then the range is searched word by word from a random
 * place, so that even the last port of 65536 is found in 1025 looks.
 */
static uint32_t find_port(struct turn_commons *c, const struct port_set *set,
                          enum turn_parity parity, uint64_t random)
{
    uint32_t span = (uint32_t)c->port_max - c->port_min + 1;
    if (set->taken == span)
        return 0;
    for (unsigned i = 0; i < RANDOM_TRIES; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t port = c->port_min + (uint32_t)((random >> 32) * span >> 32);
        c->probes++;
        if (port_fits(c, set, port, parity))
            return port;
    }
    uint32_t first = c->port_min / WORD_BITS, words = c->port_max / WORD_BITS - first + 1;
    uint32_t start = (uint32_t)((random >> 32) * words >> 32);
    for (uint32_t i = 0; i < words; i++) {
        uint32_t index = first + (start + i) % words;
        uint64_t fit = word_fits(c, set, index, parity);
        c->probes++;
        if (fit)
            return index * WORD_BITS + next_bit(fit, (uint32_t)(random & (WORD_BITS - 1)));
    }
    return 0;
}

enum ct_err turn_commons_take_port(struct turn_commons *c, uint8_t relay, enum turn_parity parity,
                                   uint64_t random, struct turn_port *out)
{
    struct port_set *set = &c->ports[false][relay];
    uint32_t port = find_port(c, set, parity, random);
    if (!port)
        return CT_ENOSPACE;
    port_mark(set, port, true);
    if (parity == TURN_EVEN_PORT_AND_NEXT)
        port_mark(set, port + 1, true);
    *out = (struct turn_port){.relay = relay, .port = (uint16_t)port};
    return CT_OK;
}

enum ct_err turn_commons_take_tcp_port(struct turn_commons *c, uint8_t relay, uint64_t random,
                                       struct turn_port *out)
{
    struct port_set *set = &c->ports[true][relay];
    uint32_t port = find_port(c, set, TURN_ANY_PORT, random);
    if (!port)
        return CT_ENOSPACE;
    port_mark(set, port, true);
    *out = (struct turn_port){.relay = relay, .tcp = true, .port = (uint16_t)port};
    return CT_OK;
}

void turn_commons_give_port(struct turn_commons *c, struct turn_port port)
{
    port_mark(&c->ports[port.tcp][port.relay], port.port, false);
}

uint64_t turn_commons_probes(const struct turn_commons *c)
{
    return c->probes;
}

bool turn_commons_port_used(const struct turn_commons *c, struct turn_port port)
{
    return port_used(&c->ports[port.tcp][port.relay], port.port);
}

/* ---- owners ---- */

/* NULL for a port that is no relayed one. */
static _Atomic uint32_t *owner_word(const struct turn_commons *c, struct turn_port port)
{
    size_t span = (size_t)c->port_max - c->port_min + 1;
    if (port.port < c->port_min || port.port > c->port_max)
        return NULL;
    return &c->owners[port.relay * span + (port.port - c->port_min)];
}

/* A word stands for itself: what it names is looked up again by the worker that has it. */
void turn_commons_bind(struct turn_commons *c, struct turn_port port, struct turn_owner owner)
{
    uint32_t word = (owner.alloc + 1) << WORKER_BITS | owner.worker;
    atomic_store_explicit(owner_word(c, port), word, memory_order_relaxed);
}

void turn_commons_unbind(struct turn_commons *c, struct turn_port port)
{
    atomic_store_explicit(owner_word(c, port), 0, memory_order_relaxed);
}

bool turn_commons_owner(const struct turn_commons *c, struct turn_port port, struct turn_owner *out)
{
    const _Atomic uint32_t *at = owner_word(c, port);
    uint32_t word = at ? atomic_load_explicit(at, memory_order_relaxed) : 0;
    if (!word)
        return false;
    *out = (struct turn_owner){.worker = word & (TURN_WORKERS_MAX - 1),
                               .alloc = (word >> WORKER_BITS) - 1};
    return true;
}

/* ---- reservations ---- */

enum ct_err turn_commons_reserve(struct turn_commons *c, struct turn_port port,
                                 const uint8_t token[TURN_TOKEN_SIZE], uint64_t until_ms)
{
    if (c->reserved == TURN_RESERVATIONS_MAX)
        return CT_ENOSPACE;
    struct reservation *r = c->reservations;
    while (r->until_ms)
        r++;
    *r = (struct reservation){.until_ms = until_ms, .port = port};
    memcpy(r->token, token, sizeof r->token);
    c->reserved++;
    return CT_OK;
}

static void drop_reservation(struct turn_commons *c, struct reservation *r)
{
    crypto_wipe(r, sizeof *r);
    c->reserved--;
}

enum ct_err turn_commons_redeem(struct turn_commons *c, const uint8_t token[TURN_TOKEN_SIZE],
                                struct turn_port *out)
{
    for (size_t i = 0; c->reserved && i < TURN_RESERVATIONS_MAX; i++) {
        struct reservation *r = &c->reservations[i];
        if (!r->until_ms || !crypto_equal(r->token, token, TURN_TOKEN_SIZE))
            continue;
        *out = r->port;
        drop_reservation(c, r);
        return CT_OK;
    }
    return CT_EMISSING;
}

void turn_commons_expire(struct turn_commons *c, uint64_t now_ms)
{
    for (size_t i = 0; c->reserved && i < TURN_RESERVATIONS_MAX; i++) {
        struct reservation *r = &c->reservations[i];
        if (!r->until_ms || r->until_ms > now_ms)
            continue;
        turn_commons_give_port(c, r->port);
        drop_reservation(c, r);
    }
}
