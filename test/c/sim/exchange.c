/* One datagram into the engine, and the model's word on what comes out. */
#include "sim.h"

#include "core/turn_frame.h"
#include "exact.h"

enum {
    RELAYS_LOOKED_AT = 128 /* the engine's bottle gives out the first that is free */
};

static void note(struct sim *sim, const char *what, const struct sim_path *path, struct span bytes)
{
    sim_trace_note(&sim->trace, sim->engine.now.ms, what, path, bytes);
}

/* ---- what the engine has sent ---- */

static void put_on_link(struct sim *sim)
{
    struct engine *e = &sim->engine;
    for (size_t i = 0; i < e->to_clients && i < ENGINE_OUT_MAX; i++) {
        const struct sent *s = &e->to_client[i];
        struct sim_path path = {SIM_SERVER_TO_CLIENT, s->tuple.server, s->tuple.client};
        sim_link_send(&sim->link, e->now.ms, &path, span_of(s->bytes, s->len));
    }
    for (size_t i = 0; i < e->to_peers && i < ENGINE_OUT_MAX; i++) {
        const struct sent *s = &e->to_peer[i];
        struct sim_path path = {SIM_RELAY_TO_PEER, s->from, s->to};
        sim_link_send(&sim->link, e->now.ms, &path, span_of(s->bytes, s->len));
    }
}

static bool sent_nothing(const struct engine *e)
{
    return e->to_clients == 0 && e->to_peers == 0;
}

static const char *judge_up(const struct engine *e, const struct model_relay *must)
{
    const struct sent *s = &e->to_peer[0];
    if (!must->relayed)
        return sent_nothing(e) ? NULL : "data was relayed to a peer that must not be";
    if (e->to_peers != 1 || e->to_clients)
        return "data was not relayed to a peer";
    if (!addr_eq(&s->from, &must->from) || !addr_eq(&s->to, &must->to))
        return "data went to another peer, or from another relayed address";
    return span_eq(span_of(s->bytes, s->len), must->data) ? NULL : "data to a peer was altered";
}

static bool is_framed_as(const struct sent *s, const struct model_relay *must)
{
    struct turn_channel_data cd;
    struct stun_msg m;
    struct addr peer;
    if (must->channel)
        return turn_channel_data_decode(s->bytes, s->len, &cd) == CT_OK &&
               cd.channel == must->channel && span_eq(cd.data, must->data);
    return stun_msg_decode(&m, s->bytes, s->len, NULL) == CT_OK &&
           m.type == stun_type(STUN_DATA, STUN_INDICATION) &&
           stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &peer) == CT_OK &&
           addr_eq(&peer, &must->from) && span_eq(stun_msg_bytes(&m, STUN_ID_DATA), must->data);
}

static const char *judge_down(const struct engine *e, const struct model_relay *must)
{
    const struct sent *s = &e->to_client[0];
    if (!must->relayed)
        return sent_nothing(e) ? NULL : "data was relayed to a client that must not be";
    if (e->to_clients != 1 || e->to_peers)
        return "data was not relayed to a client";
    if (!addr_eq(&s->tuple.client, &must->to))
        return "data went to another client";
    return is_framed_as(s, must) ? NULL : "data to a client is framed wrongly, or altered";
}

/* ---- requests ---- */

/* When something of this client's expires: looked at just before and just after. */
static void plan_probe(struct sim *sim, uint8_t client)
{
    const struct addr *at = &sim->clients[client].c.tuple.client;
    const struct model_alloc *a = model_find(&sim->model, at);
    if (!a || rng_below(&sim->rng, 1000) >= sim->plan->probes || sim->probe_count + 2 > SIM_PROBES)
        return;
    uint64_t whens[] = {model_until(a), a->perms[rng_below(&sim->rng, 4)].until,
                        a->chans[rng_below(&sim->rng, 4)].until};
    uint64_t when = whens[rng_below(&sim->rng, 3)];
    if (when <= sim->engine.now.ms)
        return;
    struct sim_probe probe = {when - 1, client, {a->places[0].at, a->places[1].at}};
    sim->probes[sim->probe_count++] = probe;
    probe.at_ms++;
    sim->probes[sim->probe_count++] = probe;
}

/* From where it was sent: the client may have moved since. */
static void hand_in(struct sim_client *client, const struct addr *from, struct span bytes)
{
    struct addr now = client->c.tuple.client;
    client->c.tuple.client = *from;
    client_send(&client->c, bytes.data, bytes.len);
    client->c.tuple.client = now;
}

static void exchange_request(struct sim *sim, struct sim_client *client, const struct addr *at,
                             struct span bytes)
{
    struct engine *e = &sim->engine;
    struct stun_msg request, reply;
    CHECK_EQ(stun_msg_decode(&request, bytes.data, bytes.len, NULL), CT_OK);
    hand_in(client, at, bytes);
    const struct sent *s = &e->to_client[0];
    bool one = e->to_clients == 1 && e->to_peers == 0 && addr_eq(&s->tuple.client, at) &&
               stun_msg_decode(&reply, s->bytes, s->len, NULL) == CT_OK;
    const char *problem = model_answer(&sim->model, at, &request, one ? &reply : NULL);
    if (problem)
        sim_fail(sim, problem);
    problem = model_compare(&sim->model, e->server);
    if (problem)
        sim_fail(sim, problem);
    plan_probe(sim, client->number);
}

static void from_client(struct sim *sim, const struct sim_path *path, struct span bytes)
{
    sim->handed++;
    struct sim_client *client = &sim->clients[path->from.ip[3] - 100];
    bool request = bytes.data[0] < 4 && !(bytes.data[0] & 1) && !(bytes.data[1] & 0x10);
    if (request) {
        exchange_request(sim, client, &path->from, bytes);
        return;
    }
    struct model_relay must = model_up(&sim->model, &path->from, bytes);
    bool paired = model_is_paired(&sim->model, &must);
    if (paired)
        must = model_pair(&sim->model, &must);
    sim->paired += paired;
    hand_in(client, &path->from, bytes);
    const char *problem = paired ? judge_down(&sim->engine, &must) : judge_up(&sim->engine, &must);
    if (problem)
        sim_fail(sim, problem);
}

/* ---- peers ---- */

static const struct turn_relay *open_relay(const struct engine *e, const struct addr *at)
{
    for (size_t i = 0; i < RELAYS_LOOKED_AT; i++)
        if (e->relays[i].open && addr_eq(&e->relays[i].at, at))
            return &e->relays[i];
    return NULL;
}

static void hand_to_engine(struct sim *sim, uint32_t alloc, const struct addr *peer,
                           struct span bytes)
{
    struct exact copy = exact_of(bytes.data, bytes.len, 0);
    struct turn_packet packet = {.data = copy.data, .len = copy.len};
    turn_server_from_peer(sim->engine.server, alloc, peer, &packet, sim->engine.now);
    exact_free(&copy);
}

static void from_peer(struct sim *sim, const struct sim_path *path, struct span bytes)
{
    const struct turn_relay *relay = open_relay(&sim->engine, &path->to);
    if (!relay && !sim->plan->rules.switched && model_must_be_open(&sim->model, &path->to))
        sim_fail(sim, "a relayed address is closed that must be open");
    if (relay && !model_may_be_open(&sim->model, &path->to))
        sim_fail(sim, "a relayed address is open that must be closed");
    if (!relay)
        return;
    sim->handed++;
    struct model_relay must = model_down(&sim->model, &path->to, &path->from, bytes);
    hand_to_engine(sim, relay->alloc, &path->from, bytes);
    const char *problem = judge_down(&sim->engine, &must);
    if (problem)
        sim_fail(sim, problem);
}

void sim_exchange(struct sim *sim, const struct sim_path *path, struct span bytes)
{
    engine_clear(&sim->engine);
    sim->packets++;
    if (path->way == SIM_CLIENT_TO_SERVER) {
        note(sim, "to server", path, bytes);
        from_client(sim, path, bytes);
    } else {
        note(sim, "to relay", path, bytes);
        from_peer(sim, path, bytes);
    }
    put_on_link(sim);
}
