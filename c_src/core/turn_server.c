#include "core/turn_server.h"

#include "core/turn_admission.h"
#include "core/turn_alloc.h"
#include "core/turn_auth.h"
#include "core/turn_chan.h"
#include "core/turn_classic.h"
#include "core/turn_data.h"
#include "core/turn_discovery.h"
#include "core/turn_frame.h"
#include "core/turn_meter.h"
#include "core/turn_mobility.h"
#include "core/turn_perm.h"
#include "core/turn_place.h"
#include "core/turn_reply.h"
#include "core/turn_state.h"
#include "core/turn_tcp.h"

#include <stdlib.h>

enum {
    /* Permissions and channels are pooled: this many per allocation on average. */
    PERMS_PER_ALLOC = 8,
    CHANS_PER_ALLOC = 4,
    POOL_LEAST = 4096,
};

const char *turn_counter_name(enum turn_counter which)
{
    static const char *const names[] = {
#define TURN_COUNTER_NAME(sym, name) [sym] = (name),
        TURN_COUNTERS(TURN_COUNTER_NAME)
#undef TURN_COUNTER_NAME
    };
    return names[which];
}

/* ---- life ---- */

static uint32_t pool_size(uint32_t allocations, uint32_t each, uint32_t most_each)
{
    uint64_t want = (uint64_t)allocations * each;
    uint64_t most = (uint64_t)allocations * most_each;
    if (want < POOL_LEAST)
        want = POOL_LEAST;
    want = want < most ? want : most;
    return want < SLAB_NONE ? (uint32_t)want : SLAB_NONE - 1;
}

static bool init_tables(struct turn_server *s)
{
    const struct turn_config *c = s->config;
    uint32_t n = c->max_allocations;
    uint32_t moves = !c->mobility ? 0 : n < TURN_MOVES_MAX ? n : TURN_MOVES_MAX;
    return slab_init(&s->allocs, sizeof(struct turn_alloc), n) &&
           slab_init(&s->perms, sizeof(struct turn_perm),
                     pool_size(n, PERMS_PER_ALLOC, c->max_permissions)) &&
           slab_init(&s->chans, sizeof(struct turn_chan),
                     pool_size(n, CHANS_PER_ALLOC, c->max_channels)) &&
           slab_init(&s->seconds, sizeof(struct turn_second), n) &&
           slab_init(&s->moves, sizeof(struct turn_move), moves) &&
           slab_init(&s->tcps, sizeof(struct turn_tcp), c->max_tcp_peers) &&
           map_init(&s->tcp_by_id, c->max_tcp_peers) &&
           slab_init(&s->meters, sizeof(struct turn_meter), c->user_bandwidth ? n : 0) &&
           map_init(&s->meter_by_user, c->user_bandwidth ? n : 1) &&
           turn_away_init(&s->away, c->mobility ? TURN_AWAY_MAX : 1) &&
           turn_ended_init(&s->ended, n < TURN_ENDED_MAX ? n : TURN_ENDED_MAX) &&
           slab_init(&s->names, STUN_USERNAME_MAX, n) && map_init(&s->by_tuple, n + moves) &&
           turn_admission_init(s) && turn_keys_init(&s->keys, s->crypto, c);
}

static void free_tables(struct turn_server *s)
{
    slab_free(&s->allocs);
    slab_free(&s->seconds);
    slab_free(&s->moves);
    slab_free(&s->tcps);
    map_free(&s->tcp_by_id);
    slab_free(&s->meters);
    map_free(&s->meter_by_user);
    turn_away_free(&s->away);
    turn_ended_free(&s->ended);
    turn_admission_free(s);
    slab_free(&s->perms);
    slab_free(&s->chans);
    slab_free(&s->names);
    map_free(&s->by_tuple);
    turn_keys_free(&s->keys);
    crypto_wipe(s, sizeof *s);
    free(s);
}

struct turn_server *turn_server_new(const struct turn_server_setup *setup, struct turn_now now)
{
    struct turn_server *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->config = setup->config;
    s->commons = setup->commons;
    s->crypto = setup->crypto;
    s->io = setup->io;
    s->worker = setup->worker;
    s->io->ops->random(s->io, &s->seed, sizeof s->seed);
    s->io->ops->random(s->io, &s->refusals.seed, sizeof s->refusals.seed);
    s->io->ops->random(s->io, &s->keys.seed, sizeof s->keys.seed);
    s->io->ops->random(s->io, &s->away.seed, sizeof s->away.seed);
    s->io->ops->random(s->io, &s->ended.seed, sizeof s->ended.seed);
    s->io->ops->random(s->io, &s->random_state, sizeof s->random_state);
    deadline_init(&s->wheel, now.ms);
    if (!init_tables(s)) {
        free_tables(s);
        return NULL;
    }
    return s;
}

/* The next allocation at or after *n; NULL at the end. The one before may have been ended. */
static struct turn_alloc *next_alloc(const struct turn_server *s, uint32_t *n)
{
    while (*n < s->allocs.fresh) {
        struct turn_alloc *a = turn_alloc_at(s, (*n)++);
        if (a->id)
            return a;
    }
    return NULL;
}

void turn_server_free(struct turn_server *s, struct turn_now now)
{
    if (!s)
        return;
    uint32_t n = 0;
    for (struct turn_alloc *a; (a = next_alloc(s, &n));)
        turn_alloc_end(s, a, TURN_END_SHUTDOWN, now);
    free_tables(s);
}

/* ---- dispatch ---- */

/* What is served as a request, and what must hold before the handler sees it. */
static const struct method {
    uint16_t method;
    bool authenticated;
    bool on_allocation; /* 437 without one, 441 for another user's (RFC 8656 §5) */
    void (*handle)(struct turn_server *s, struct turn_request *r);
} methods[] = {
    {STUN_BINDING, false, false, turn_binding},
    {STUN_ALLOCATE, true, false, turn_allocate},
    {STUN_REFRESH, true, true, turn_refresh},
    {STUN_CREATE_PERMISSION, true, true, turn_create_permission},
    {STUN_CHANNEL_BIND, true, true, turn_channel_bind},
    {STUN_CONNECT, true, true, turn_connect},
    {STUN_CONNECTION_BIND, true, false, turn_connection_bind},
};

static const struct method *find_method(uint16_t method)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].method == method)
            return &methods[i];
    return NULL;
}

/* 0 when the request may reach its handler (RFC 8656 §5). */
static enum stun_error check_allocation(const struct turn_server *s, const struct turn_request *r)
{
    if (!r->alloc)
        return STUN_ALLOCATION_MISMATCH;
    /* a token names a key, not a user, and the next one may come with another key (RFC 7635 §9) */
    bool same = r->auth.token_left ? turn_alloc_by_token(r->alloc)
                                   : span_eq(turn_alloc_username(s, r->alloc), r->auth.username);
    return same ? (enum stun_error)0 : STUN_WRONG_CREDENTIALS;
}

/* Only Binding, and only where there are addresses to answer from, has RFC 5780's attributes. */
static unsigned serves(const struct turn_server *s, const struct turn_request *r)
{
    bool binding = r->msg->method == STUN_BINDING;
    return (binding && turn_discovery_serves(s->config, r->tuple) ? TURN_SERVES_DISCOVERY : 0u) |
           (!binding && s->config->oauth_key_count ? TURN_SERVES_TOKENS : 0u);
}

static bool forward(struct turn_server *s, const struct turn_request *r)
{
    return turn_mobility_forward(s, r->tuple, span_of(r->msg->data, r->msg->len), r->now);
}

static void handle_request(struct turn_server *s, struct turn_request *r)
{
    const struct method *method = find_method(r->msg->method);
    if (!method) {
        turn_count(&s->counters, TURN_N_DROP_UNEXPECTED, 1);
        return;
    }
    turn_count(&s->counters, TURN_N_REQUESTS, 1);
    if (method->authenticated) {
        r->alloc = turn_alloc_find(s, r->tuple, r->now);
        if (turn_mobility_find(s, r) || (!r->alloc && !r->ticket_error && forward(s, r)) ||
            turn_tcp_find(s, r))
            return;
        if (!turn_auth_check(s, r))
            return;
    }
    unsigned what = serves(s, r);
    if (turn_unserved(r->msg, what)) {
        turn_reply_unknown(s, r, what);
        return;
    }
    enum stun_error code = r->ticket_error;
    if (!code && method->on_allocation)
        code = check_allocation(s, r);
    if (code)
        turn_reply_error(s, r, code);
    else
        method->handle(s, r);
}

static void handle_stun(struct turn_server *s, const struct turn_tuple *tuple,
                        struct turn_packet *packet, struct turn_now now)
{
    struct stun_msg msg;
    enum ct_err err = stun_msg_decode(&msg, packet->data, packet->len, NULL);
    if (err == CT_ECOOKIE && turn_classic(s, tuple, packet, now))
        return;
    if (err) {
        turn_count(&s->counters, TURN_N_DROP_MALFORMED, 1);
        return;
    }
    if (msg.cls == STUN_REQUEST) {
        struct turn_request r = {.tuple = tuple, .msg = &msg, .now = now};
        handle_request(s, &r);
        crypto_wipe(&r.auth, sizeof r.auth);
    } else if (msg.cls == STUN_INDICATION && msg.method == STUN_SEND && !turn_unserved(&msg, 0)) {
        turn_data_send(s, tuple, &msg, now);
    } else if (msg.cls != STUN_INDICATION || msg.method != STUN_BINDING) {
        /* Binding indications are keepalives: nothing to do, nothing wrong (RFC 8489 §6.3.2) */
        turn_count(&s->counters, TURN_N_DROP_UNEXPECTED, 1);
    }
}

void turn_server_from_client(struct turn_server *s, const struct turn_tuple *tuple,
                             struct turn_packet *packet, struct turn_now now)
{
    if (packet->len && turn_frame_kind(packet->data[0]) == TURN_FRAME_STUN)
        handle_stun(s, tuple, packet, now);
    else /* also what is neither: it is no channel, and dropped as malformed */
        turn_data_channel(s, tuple, packet, now);
}

void turn_server_handed(struct turn_server *s, const struct turn_tuple *tuple,
                        struct turn_packet *packet, struct turn_now now)
{
    s->handed = true;
    turn_server_from_client(s, tuple, packet, now);
    s->handed = false;
}

/* ---- connections ---- */

void turn_server_handed_gone(struct turn_server *s, const struct turn_tuple *tuple,
                             struct turn_now now)
{
    struct turn_alloc *a = turn_alloc_find(s, tuple, now);
    if (a && !turn_mobility_gone(s, a, tuple, now))
        turn_alloc_end(s, a, TURN_END_CLOSED, now);
}

void turn_server_gone(struct turn_server *s, const struct turn_tuple *tuple, struct turn_now now)
{
    turn_mobility_forward_gone(s, tuple, now);
    turn_server_handed_gone(s, tuple, now);
}

bool turn_server_holds(const struct turn_server *s, const struct turn_tuple *tuple,
                       struct turn_now now)
{
    return turn_alloc_find(s, tuple, now) || turn_away_has(&s->away, tuple, now.ms);
}

/* ---- time ---- */

void turn_server_expire(struct turn_server *s, struct turn_now now)
{
    struct deadline *d;
    while ((d = deadline_due(&s->wheel, now.ms))) {
        struct turn_alloc *dual = turn_second_owner(s, d);
        if (turn_tcp_due(s, d, now))
            continue;
        if (dual)
            turn_place_drop(s, dual, turn_second_family(s, dual));
        else
            turn_alloc_end(s, (struct turn_alloc *)(void *)d, TURN_END_EXPIRED, now);
    }
}

uint64_t turn_server_deadline(const struct turn_server *s)
{
    return deadline_next(&s->wheel);
}

/* ---- administration ---- */

void turn_server_configure(struct turn_server *s, const struct turn_config *config)
{
    uint32_t n = 0;
    s->config = config;
    /* what is left without a key refuses everybody; there is nobody to tell */
    (void)turn_keys_configure(&s->keys, s->crypto, config);
    for (struct turn_alloc *a; (a = next_alloc(s, &n));)
        turn_perm_enforce(s, a);
}

void turn_server_drain(struct turn_server *s, bool on)
{
    s->draining = on;
}

void turn_server_list(struct turn_server *s, struct turn_visitor *v, struct turn_now now)
{
    uint32_t n = 0;
    for (struct turn_alloc *a; (a = next_alloc(s, &n));) {
        if (!turn_alloc_live(a, now))
            continue;
        struct turn_alloc_info info = turn_alloc_describe(s, a, now);
        v->visit(v, &info);
    }
}

static bool selected(const struct turn_server *s, const struct turn_alloc *a,
                     const struct turn_selector *which)
{
    struct span username = turn_alloc_username(s, a), user = username;
    uint64_t expiry;
    if (!turn_alloc_by_token(a))
        (void)stun_rest_username(username, &expiry, &user);
    return (!which->id || which->id == a->id) &&
           (!which->username.data || span_eq(which->username, username)) &&
           (!which->user.data || span_eq(which->user, user));
}

uint32_t turn_server_kill(struct turn_server *s, const struct turn_selector *which,
                          struct turn_now now)
{
    uint32_t n = 0, count = 0;
    for (struct turn_alloc *a; (a = next_alloc(s, &n));) {
        if (!selected(s, a, which))
            continue;
        turn_alloc_end(s, a, TURN_END_KILLED, now);
        count++;
    }
    return count;
}

uint32_t turn_server_allocations(const struct turn_server *s)
{
    return atomic_load_explicit(&s->allocations, memory_order_relaxed);
}

struct turn_counters *turn_server_counters(struct turn_server *s)
{
    return &s->counters;
}
