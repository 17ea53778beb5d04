#include "scenario.h"

static uint32_t between(struct rng *r, uint32_t least, uint32_t most)
{
    return least + (uint32_t)rng_below(r, (size_t)most - least + 1);
}

static bool one_in(struct rng *r, unsigned n)
{
    return rng_below(r, n) == 0;
}

/* Loss up to 30 %, doubling up to 10 %, delays up to two seconds; one seed in four has clear sky.
 */
static struct sim_weather weather(struct rng *r)
{
    static const uint32_t delays[] = {0, 40, 300, 2000};
    struct sim_weather w = {.delay_min = between(r, 0, 60)};
    w.delay_max = w.delay_min;
    if (one_in(r, 4))
        return w;
    w.loss = (uint16_t)between(r, 0, 300);
    w.twice = (uint16_t)between(r, 0, 100);
    w.overtake = (uint16_t)between(r, 0, 300);
    w.delay_max = w.delay_min + delays[rng_below(r, 4)];
    if (w.delay_max > 2000)
        w.delay_max = 2000;
    return w;
}

static struct model_rules rules(struct rng *r)
{
    struct model_rules rules = model_rules();
    rules.port_min = (uint16_t)(50000 + rng_below(r, 2));
    rules.port_max = (uint16_t)(rules.port_min + (one_in(r, 3) ? between(r, 1, 5) : 40));
    rules.quota = one_in(r, 3) ? between(r, 1, 2) : 0;
    rules.max_allocations = one_in(r, 4) ? between(r, 2, 5) : 64;
    if (one_in(r, 2))
        rules.nonce = between(r, 30, 900);
    if (one_in(r, 4))
        rules.lifetime_max = between(r, 600, 1200);
    if (one_in(r, 8))
        rules.lifetime_default = between(r, 60, 600);
    if (one_in(r, 4))
        rules.permission = between(r, 30, 600);
    if (one_in(r, 4))
        rules.channel = between(r, 30, 900);
    if (one_in(r, 2))
        rules.quarantine = between(r, 1, 300);
    return rules;
}

static struct sim_manner manner(struct rng *r)
{
    static const uint32_t lifetimes[] = {0, 1, 599, 600, 777, 1800, 3600, 4000000000};
    struct sim_manner m = {
        .start_ms = between(r, 0, 60000),
        .life_ms =
            one_in(r, 3) ? between(r, 500, 10000) : between(r, 1, 100) * between(r, 100, 15000),
        .gap_ms = one_in(r, 3) ? 0 : between(r, 0, 60000),
        .traffic_ms = between(r, 5000, 60000),
        .rounds = (uint8_t)between(r, 1, 4),
        .end = one_in(r, 2) ? SIM_RELEASES : SIM_DIES,
        .lifetime = lifetimes[rng_below(r, 8)],
        .peers = (uint8_t)between(r, 0, 63),
        .channels = (uint8_t)(between(r, 0, 63) & between(r, 0, 63)),
        .dual = one_in(r, 4),
        .even = one_in(r, 4),
        .next = one_in(r, 4),
        .redeems = one_in(r, 4),
        .neglects = one_in(r, 4),
        .shuffles = one_in(r, 3),
        .splits = one_in(r, 2),
        .meets = one_in(r, 2),
    };
    return m;
}

struct sim_plan sim_plan_random(uint64_t seed)
{
    struct rng r = rng_of(seed);
    struct sim_plan plan = {
        .name = "random",
        .seed = seed,
        .duration_ms = between(&r, 600, 2400) * 1000u,
        .weather = weather(&r),
        .rules = rules(&r),
        .clients = (uint8_t)between(&r, 1, 5),
        .answers = between(&r, 0, 1000),
        .unasked_ms = between(&r, 10000, 60000),
        .probes = 100,
    };
    for (size_t i = 0; i < plan.clients; i++) {
        plan.manners[i] = manner(&r);
        plan.valid_s[i] = one_in(&r, 4) ? between(&r, 10, 1500) : 86400;
    }
    plan.rules.pair = one_in(&r, 2);
    plan.rules.switched = plan.rules.pair && one_in(&r, 3);
    if (one_in(&r, 3))
        plan.rules.admission =
            one_in(&r, 3) || !plan.rules.pair ? TURN_ADMISSION_PRESENCE : TURN_ADMISSION_ROOM;
    plan.rules.max_grants = one_in(&r, 3) ? between(&r, 1, 10) : 40;
    bool alone = plan.rules.switched || plan.rules.admission == TURN_ADMISSION_ROOM;
    for (size_t i = 0; alone && i < plan.clients; i++) {
        plan.manners[i].meets = true; /* there is nobody else; a few try all the same */
        plan.manners[i].peers &= (uint8_t)(one_in(&r, 4) ? 0xff : 0);
    }
    return plan;
}

struct sim_plan sim_plan_script(const char *name, const struct sim_step *script, size_t steps)
{
    struct sim_plan plan = {
        .name = name,
        .rules = model_rules(),
        .clients = SIM_CLIENTS,
        .duration_ms = script[steps - 1].at_ms + 1000u,
        .script = script,
        .steps = steps,
    };
    plan.rules.port_min = 50000;
    plan.rules.port_max = 50015;
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        plan.manners[i].scripted = true;
        plan.valid_s[i] = 86400;
    }
    return plan;
}

struct sim_plan sim_plan_persistent(uint64_t seed, unsigned loss)
{
    struct sim_plan plan = {
        .name = "persistent",
        .seed = seed,
        .duration_ms = 7200000,
        .weather = {.loss = (uint16_t)loss, .delay_min = 10, .delay_max = 150},
        .rules = model_rules(),
        .clients = SIM_CLIENTS,
    };
    plan.rules.port_min = 50000;
    plan.rules.port_max = 50063;
    for (size_t i = 0; i < SIM_CLIENTS; i++) {
        plan.manners[i] = (struct sim_manner){
            .start_ms = (uint32_t)i * 1000, .life_ms = 7100000, .rounds = 1, .peers = 1};
        plan.valid_s[i] = 86400;
    }
    return plan;
}
