/* Scripts: what named scenarios do to the millisecond, and what they expect. */
#include "sim.h"

static void expect(struct sim *sim, const struct sim_step *step, int64_t got, const char *what)
{
    char why[120];
    if (got == step->value)
        return;
    snprintf(why, sizeof why, "step %zu: %s is %lld, not %d", sim->step, what, (long long)got,
             step->value);
    sim_fail(sim, why);
}

static void unasked(struct sim *sim, const struct sim_step *step)
{
    struct sim_peer *peer = &sim->peers[step->peer];
    const struct addr *at = &sim->clients[step->client].relayed[peer->at.family == ADDR_V6];
    sim_peer_say(peer, sim->engine.now.ms, at);
}

static int64_t heard_by_peer(struct sim *sim, uint8_t peer)
{
    uint64_t before = sim->peer_heard[peer];
    sim->peer_heard[peer] = sim->peers[peer].heard;
    return (int64_t)(sim->peers[peer].heard - before);
}

static int64_t heard_by_client(struct sim *sim, uint8_t client)
{
    uint64_t before = sim->client_heard[client];
    sim->client_heard[client] = sim->clients[client].heard;
    return (int64_t)(sim->clients[client].heard - before);
}

static int64_t live(const struct sim *sim)
{
    int64_t n = 0;
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        n += model_live(&sim->model, &sim->model.allocs[i]);
    return n;
}

static int64_t ports_taken(const struct sim *sim)
{
    const struct engine *e = &sim->engine;
    int64_t n = 0;
    turn_commons_expire(e->commons, e->now.ms);
    for (uint8_t relay = 0; relay < e->config.relay_count; relay++)
        for (uint32_t port = e->config.port_min; port <= e->config.port_max; port++)
            n += turn_commons_port_used(e->commons,
                                        (struct turn_port){.relay = relay, .port = (uint16_t)port});
    return n;
}

static void check(struct sim *sim, const struct sim_step *step)
{
    const struct sim_client *client = &sim->clients[step->client];
    switch (step->act) {
    case SIM_CODE:
        expect(sim, step, client->last_code, "the code");
        break;
    case SIM_SENDS:
        expect(sim, step, client->last_sends, "the number of transmissions");
        break;
    case SIM_WORTH:
        expect(sim, step, client->last_lifetime, "LIFETIME");
        break;
    case SIM_PEER_GOT:
        expect(sim, step, heard_by_peer(sim, step->peer), "what the peer got");
        break;
    case SIM_GOT:
        expect(sim, step, heard_by_client(sim, step->client), "what the client got");
        break;
    case SIM_LIVE:
        expect(sim, step, live(sim), "the number of allocations");
        break;
    case SIM_OPEN:
        expect(sim, step, engine_open_relays(&sim->engine), "the number of open relays");
        break;
    default:
        expect(sim, step, ports_taken(sim), "the number of ports taken");
    }
}

void sim_do(struct sim *sim, const struct sim_step *step)
{
    struct sim_client *client = &sim->clients[step->client];
    switch (step->act) {
    case SIM_ASK:
        sim_client_ask(client, &step->ask);
        break;
    case SIM_SEND:
    case SIM_CHANNEL:
        sim_client_say(client, step->peer,
                       step->act == SIM_CHANNEL ? (uint16_t)(STUN_CHANNEL_MIN + step->peer) : 0);
        break;
    case SIM_UNASKED:
        unasked(sim, step);
        break;
    case SIM_LOSE:
        sim->link.lose_next[SIM_CLIENT_TO_SERVER] = (unsigned)step->value;
        break;
    case SIM_LOSE_ANS:
        sim->link.lose_next[SIM_SERVER_TO_CLIENT] = (unsigned)step->value;
        break;
    case SIM_REPLAY:
        sim_client_replay(client);
        break;
    case SIM_ADMIT:
        sim_admit(sim, step->client / 2u, (size_t)step->value);
        break;
    case SIM_WITHDRAW:
        sim_withdraw(sim, step->client / 2u, (size_t)step->value);
        break;
    case SIM_STRANGER:
        *client->c.nonce = *client->c.realm = 0;
        break;
    default:
        check(sim, step);
    }
}
