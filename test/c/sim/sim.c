#include "sim.h"

#include "core/turn_state.h"

#include <stdio.h>

enum {
    EXPIRE_LATE_MS = 500, /* a worker that is busy comes round to its deadlines that much later */
};

void sim_fail(struct sim *sim, const char *why)
{
    if (*sim->problem)
        return;
    snprintf(sim->problem, sizeof sim->problem, "%s", why);
    sim_trace_note(&sim->trace, sim->engine.now.ms, "FAILS HERE", NULL, span_of(NULL, 0));
}

/* ---- opening ---- */

static void configure(struct sim *sim)
{
    struct turn_config *c = &sim->engine.config;
    const struct model_rules *r = &sim->plan->rules, rfc = model_rules();
    /* What the plan leaves as the RFCs have it is left to the engine's own defaults. */
    const struct {
        uint32_t ours, theirs;
        uint32_t *to;
    } fields[] = {
        {r->lifetime_default, rfc.lifetime_default, &c->lifetime_default},
        {r->lifetime_max, rfc.lifetime_max, &c->lifetime_max},
        {r->permission, rfc.permission, &c->permission_lifetime},
        {r->channel, rfc.channel, &c->channel_lifetime},
        {r->quarantine, rfc.quarantine, &c->channel_quarantine},
        {r->reservation, rfc.reservation, &c->reservation_lifetime},
        {r->nonce, rfc.nonce, &c->nonce_lifetime},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].ours != fields[i].theirs)
            *fields[i].to = fields[i].ours;
    c->user_quota = r->quota;
    c->max_allocations = r->max_allocations;
    c->port_min = r->port_min;
    c->port_max = r->port_max;
    c->pair = r->pair;
    c->switched = r->switched;
    c->admission = (uint8_t)r->admission;
    c->max_grants = r->max_grants;
}

static void people(struct sim *sim)
{
    const struct sim_plan *plan = sim->plan;
    for (uint8_t i = 0; i < plan->clients; i++) {
        struct sim_client *s = &sim->clients[i];
        sim_client_init(s, &sim->engine, i, plan->valid_s[i], &plan->manners[i]);
        s->link = &sim->link;
        s->rng = &sim->rng;
        s->tally = &sim->tally;
    }
    for (uint8_t i = 0; i < SIM_PEERS; i++) {
        struct sim_peer *p = &sim->peers[i];
        sim_peer_init(p, i, &sim->link, &sim->rng);
        p->answers = plan->answers;
        p->unasked_ms = plan->unasked_ms;
        p->due_ms = plan->unasked_ms ? sim->start_ms : UINT64_MAX;
    }
}

static void set_up(struct sim *sim, const struct sim_plan *plan)
{
    /* engine and link clear themselves, as much as they need */
    memset(&sim->model, 0, offsetof(struct sim, link) - offsetof(struct sim, model));
    sim->plan = plan;
    sim->failures_before = check_failures;
    sim->rng = rng_of(plan->seed);
    engine_init(&sim->engine);
    sim->engine.random_state = rng_u64(&sim->rng);
    /* on and off the second: the wheel's ticks and the nonce's seconds lie otherwise each time */
    sim->engine.now.ms += rng_below(&sim->rng, 100000);
    sim->start_ms = sim->engine.now.ms;
    sim_link_init(&sim->link, rng_u64(&sim->rng), &plan->weather);
    sim_trace_init(&sim->trace, sim->start_ms);
    model_init(&sim->model, &plan->rules);
    sim->model.now = sim->engine.now;
    sim->expire_ms = UINT64_MAX;
    configure(sim);
    engine_start(&sim->engine);
    sim->model.own = sim->engine.config.relays[0].bind;
    sim->model.commons = sim->engine.commons;
    people(sim);
    sim_admission_init(sim);
}

/* ---- time ---- */

static void advance(struct sim *sim, uint64_t to_ms)
{
    struct turn_now *now = &sim->engine.now;
    if (to_ms <= now->ms)
        return;
    now->ms = to_ms;
    now->unix_s = 1700000000 + (to_ms - sim->start_ms) / 1000;
    sim->model.now = *now;
}

/* Compares when something has ended; else now and then, as it comes round each second. */
static void expire(struct sim *sim)
{
    const struct engine *e = &sim->engine;
    uint32_t before = turn_server_allocations(e->server);
    sim->expire_ms = UINT64_MAX;
    turn_server_expire(e->server, e->now);
    bool look = before != turn_server_allocations(e->server) || ++sim->expired % 16 == 0;
    const char *problem = look ? model_compare(&sim->model, e->server) : NULL;
    if (problem)
        sim_fail(sim, problem);
    if (turn_server_deadline(e->server) <= e->now.ms)
        sim_fail(sim, "a deadline is not met by meeting it");
}

/* When the engine is called at its deadline, or a little later. */
static uint64_t expire_at(struct sim *sim)
{
    uint64_t deadline = turn_server_deadline(sim->engine.server);
    if (deadline == UINT64_MAX)
        return UINT64_MAX;
    if (sim->expire_ms == UINT64_MAX)
        sim->expire_ms = deadline + (sim->plan->script ? 0 : rng_below(&sim->rng, EXPIRE_LATE_MS));
    return sim->expire_ms;
}

/* ---- probes: everything that could pass, just before and just after something ends ---- */

static size_t next_probe(const struct sim *sim)
{
    size_t next = 0;
    for (size_t i = 1; i < sim->probe_count; i++)
        if (sim->probes[i].at_ms < sim->probes[next].at_ms)
            next = i;
    return next;
}

static void probe(struct sim *sim)
{
    size_t at = next_probe(sim);
    struct sim_probe p = sim->probes[at];
    sim->probes[at] = sim->probes[--sim->probe_count];
    struct sim_client *client = &sim->clients[p.client];
    struct sim_path up = {SIM_CLIENT_TO_SERVER, client->c.tuple.client, client->c.tuple.server};
    for (uint8_t i = 0; i < SIM_PEERS; i++) {
        uint8_t bytes[SIM_DATAGRAM_MAX];
        const struct addr *relayed = &p.relayed[sim->peers[i].at.family == ADDR_V6];
        struct sim_path down = {SIM_PEER_TO_RELAY, sim->peers[i].at, *relayed};
        if (relayed->family)
            sim_exchange(sim, &down, span_str("probe"));
        size_t len = sim_client_data(client, i, 0, bytes);
        sim_exchange(sim, &up, span_of(bytes, len));
        len = sim_client_data(client, i, (uint16_t)(STUN_CHANNEL_MIN + i), bytes);
        sim_exchange(sim, &up, span_of(bytes, len));
    }
}

/* ---- the loop ---- */

static struct sim_peer *peer_at(struct sim *sim, const struct addr *at)
{
    for (size_t i = 0; i < SIM_PEERS; i++)
        if (addr_eq(&sim->peers[i].at, at))
            return &sim->peers[i];
    return NULL;
}

static void arrive(struct sim *sim)
{
    struct sim_datagram d = *sim_link_take(&sim->link);
    struct span bytes = span_of(d.bytes, d.len);
    struct sim_peer *peer;
    switch (d.path.way) {
    case SIM_SERVER_TO_CLIENT:
        sim_trace_note(&sim->trace, d.at_ms, "to client", &d.path, bytes);
        sim_client_receive(&sim->clients[d.path.to.ip[3] - 100], bytes);
        break;
    case SIM_RELAY_TO_PEER:
        sim_trace_note(&sim->trace, d.at_ms, "to peer", &d.path, bytes);
        peer = peer_at(sim, &d.path.to);
        d.path.way = SIM_PEER_TO_RELAY;
        if (peer)
            sim_peer_receive(peer, d.at_ms, &d.path.from, bytes);
        else /* a client's peer is another client */
            sim_exchange(sim, &d.path, bytes);
        break;
    default:
        sim_exchange(sim, &d.path, bytes);
    }
}

static uint64_t people_due(const struct sim *sim)
{
    uint64_t due = UINT64_MAX;
    for (size_t i = 0; i < sim->plan->clients; i++) {
        uint64_t at = sim_client_due(&sim->clients[i]);
        due = at < due ? at : due;
    }
    for (size_t i = 0; i < SIM_PEERS; i++)
        due = sim->peers[i].due_ms < due ? sim->peers[i].due_ms : due;
    return due;
}

static void people_tick(struct sim *sim)
{
    for (size_t i = 0; i < sim->plan->clients; i++)
        sim_client_tick(&sim->clients[i]);
    for (size_t i = 0; i < SIM_PEERS; i++)
        sim_peer_tick(&sim->peers[i], sim->engine.now.ms);
}

static uint64_t script_due(const struct sim *sim)
{
    if (sim->step >= sim->plan->steps)
        return UINT64_MAX;
    return sim->start_ms + sim->plan->script[sim->step].at_ms;
}

/* Does the next thing, whatever it is; false when there is none before `end_ms`. */
static bool step(struct sim *sim, uint64_t end_ms)
{
    uint64_t times[] = {
        sim_link_next(&sim->link),
        people_due(sim),
        expire_at(sim),
        sim->probe_count ? sim->probes[next_probe(sim)].at_ms : UINT64_MAX,
        script_due(sim),
        sim_admission_due(sim),
    };
    size_t next = 0;
    for (size_t i = 1; i < sizeof times / sizeof *times; i++)
        if (times[i] < times[next])
            next = i;
    if (times[next] > end_ms)
        return false;
    advance(sim, times[next]);
    if (next == 0)
        arrive(sim);
    else if (next == 1)
        people_tick(sim);
    else if (next == 2)
        expire(sim);
    else if (next == 3)
        probe(sim);
    else if (next == 5)
        sim_admission_tick(sim);
    else
        sim_do(sim, &sim->plan->script[sim->step++]);
    if (check_failures != sim->failures_before)
        sim_fail(sim, "a check in a helper failed");
    return !*sim->problem;
}

/* ---- the end ---- */

static void fall_silent(struct sim *sim)
{
    for (size_t i = 0; i < sim->plan->clients; i++) {
        struct sim_client *s = &sim->clients[i];
        s->manner.scripted = true;
        for (size_t j = 0; j < SIM_TRANSACTIONS; j++)
            s->under_way[j].busy = false;
    }
    for (size_t i = 0; i < SIM_PEERS; i++)
        sim->peers[i].due_ms = UINT64_MAX;
    for (size_t i = 0; i < SIM_PEERS; i++)
        sim->peers[i].answers = 0;
    sim->grant_ms = UINT64_MAX;
}

/* What was put on the link has arrived or was lost; what reached the engine was counted there. */
static void check_sums(struct sim *sim)
{
    static const enum turn_counter fates[] = {
        TURN_N_REQUESTS,           TURN_N_UP_PACKETS,      TURN_N_DOWN_PACKETS,
        TURN_N_DROP_MALFORMED,     TURN_N_DROP_UNEXPECTED, TURN_N_DROP_NO_ALLOCATION,
        TURN_N_DROP_NO_PERMISSION, TURN_N_DROP_NO_CHANNEL, TURN_N_DROP_OTHER_ROOM,
    };
    const struct sim_link *link = &sim->link;
    uint64_t counted = 0;
    for (size_t way = 0; way < SIM_WAYS; way++)
        if (link->arrived[way] != link->sent[way] - link->lost[way] + link->doubled[way])
            sim_fail(sim, "the link has lost count");
    for (size_t i = 0; i < sizeof fates / sizeof *fates; i++)
        counted += engine_counter(&sim->engine, fates[i]);
    /* data from client to client has two fates: one where it is sent, one where it arrives */
    if (counted != sim->handed + sim->paired)
        sim_fail(sim, "the engine's counters do not add up to the packets that it got");
    if (engine_counter(&sim->engine, TURN_N_PAIRED) != sim->paired)
        sim_fail(sim, "the engine has paired something else");
}

/* Everything has expired: the engine holds nothing, waits for nothing and has no port open. */
static void check_nothing_is_left(struct sim *sim)
{
    const struct engine *e = &sim->engine;
    const struct turn_server *s = e->server;
    const struct slab *slabs[] = {&s->allocs, &s->seconds, &s->moves,
                                  &s->perms,  &s->chans,   &s->names};
    for (size_t i = 0; i < sizeof slabs / sizeof *slabs; i++)
        if (slabs[i]->used)
            sim_fail(sim, "a table still holds something");
    if (turn_server_allocations(s) || s->by_tuple.used || s->by_user.used || s->wheel.count ||
        turn_server_deadline(s) != UINT64_MAX)
        sim_fail(sim, "an allocation or a timer is left");
    if (engine_open_relays(e))
        sim_fail(sim, "a relayed address is still open");
    if (sim->link.overflowed)
        sim_fail(sim, "the link was too small");
    check_sums(sim);
}

bool sim_run(struct sim *sim, const struct sim_plan *plan)
{
    set_up(sim, plan);
    uint64_t end_ms = sim->start_ms + plan->duration_ms;
    while (step(sim, end_ms))
        ;
    if (!*sim->problem) {
        fall_silent(sim);
        uint64_t last_ms = end_ms + (uint64_t)TURN_LIFETIME_LIMIT * 1000 + 10000;
        while (step(sim, last_ms))
            ;
        advance(sim, last_ms);
    }
    if (!*sim->problem)
        check_nothing_is_left(sim);
    engine_stop(&sim->engine);
    if (check_failures != sim->failures_before)
        sim_fail(sim, "a check in a helper failed");
    return !*sim->problem;
}
