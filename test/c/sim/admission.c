/*
 * The BEAM's part of admission: users come to rooms and go, at any time; what the table says is
 * compared at once, and the engine is told a moment later, as a worker is that has other things to
 * do first.
 */
#include "sim.h"

enum {
    TOLD_LATE_MS = 200,
    EVERY_MS = 20000,
    OPEN_MS = 30000,
};

static struct turn_grants *grants_of(const struct sim *sim)
{
    return turn_commons_grants(sim->engine.commons);
}

static uint64_t user_hash(const struct sim *sim, size_t user)
{
    char name[16];
    int len = snprintf(name, sizeof name, "user%zu", user);
    return turn_commons_user(sim->engine.commons, (const uint8_t *)name, (size_t)len);
}

static uint64_t room_hash(const struct sim *sim, size_t room)
{
    char name[16];
    int len = snprintf(name, sizeof name, "room%zu", room);
    return turn_commons_room(sim->engine.commons, (const uint8_t *)name, (size_t)len);
}

/* The engine is told later, and in this order. */
static void post(struct sim *sim, size_t user, uint64_t ended)
{
    uint64_t late = sim->plan->script ? 0 : rng_below(&sim->rng, TOLD_LATE_MS);
    uint64_t at_ms = sim->engine.now.ms + late;
    if (!turn_commons_busy(sim->engine.commons, user_hash(sim, user))) {
        if (model_user_lives(&sim->model, user))
            sim_fail(sim, "a user's allocations are not counted");
        return;
    }
    if (sim->news_count == SIM_NEWS) {
        sim_fail(sim, "there is no room for news");
        return;
    }
    if (sim->news_count && sim->news[sim->news_count - 1].at_ms > at_ms)
        at_ms = sim->news[sim->news_count - 1].at_ms;
    sim->news[sim->news_count++] =
        (struct sim_news){.at_ms = at_ms,
                          .user = user,
                          .withdrawal = ended ? sim->model.withdrawals : 0,
                          .change = {.user = user_hash(sim, user), .ended = ended}};
}

void sim_admit(struct sim *sim, size_t user, size_t room)
{
    bool fresh, must;
    enum ct_err want = model_admit(&sim->model, user, room, &must);
    enum ct_err got =
        turn_grants_put(grants_of(sim), user_hash(sim, user), room_hash(sim, room), &fresh);
    sim_trace_note(&sim->trace, sim->engine.now.ms, "admit", NULL, span_of(NULL, 0));
    if (got != want || fresh != must)
        sim_fail(sim, "a grant was given that must not be, or not");
    if (fresh)
        post(sim, user, 0);
}

void sim_withdraw(struct sim *sim, size_t user, size_t room)
{
    bool last;
    uint64_t ended;
    bool want = model_withdraw(&sim->model, user, room, &last);
    bool got = turn_grants_take(grants_of(sim), user_hash(sim, user), room_hash(sim, room), &ended);
    sim_trace_note(&sim->trace, sim->engine.now.ms, "withdraw", NULL, span_of(NULL, 0));
    if (got != want || last != (ended != 0))
        sim_fail(sim, "a grant was taken that was not there, or another");
    if (got)
        post(sim, user, ended);
}

static void open_grants(struct sim *sim)
{
    turn_grants_open(grants_of(sim));
    sim->model.open = true;
    sim->open_ms = UINT64_MAX;
}

/* The oldest news reaches the engine. */
static void tell(struct sim *sim)
{
    struct sim_news news = sim->news[0];
    sim->news_count--;
    memmove(sim->news, sim->news + 1, sim->news_count * sizeof *sim->news);
    sim_trace_note(&sim->trace, sim->engine.now.ms, "told", NULL, span_of(NULL, 0));
    engine_clear(&sim->engine);
    turn_server_admission(sim->engine.server, &news.change, 1, sim->engine.now);
    model_told(&sim->model, news.user, news.withdrawal);
    if (sim->engine.to_clients || sim->engine.to_peers)
        sim_fail(sim, "something was sent because of a grant");
    const char *problem = model_compare(&sim->model, sim->engine.server);
    if (problem)
        sim_fail(sim, problem);
}

static void anybody(struct sim *sim)
{
    size_t user = rng_below(&sim->rng, MODEL_USERS), room = rng_below(&sim->rng, MODEL_ROOMS);
    room = rng_below(&sim->rng, 3) ? room % 3 : room; /* where there are others */
    sim->grant_ms = sim->engine.now.ms + 1 + rng_below(&sim->rng, EVERY_MS);
    if (rng_below(&sim->rng, 2))
        sim_admit(sim, user, room);
    else
        for (size_t i = 0; i < (rng_below(&sim->rng, 2) ? 1 : MODEL_ROOMS); i++)
            sim_withdraw(sim, user, (room + i) % MODEL_ROOMS);
}

void sim_admission_init(struct sim *sim)
{
    sim->open_ms = sim->grant_ms = UINT64_MAX;
    sim->news_count = 0;
    if (sim->plan->rules.admission == TURN_ADMISSION_OFF)
        return;
    if (sim->plan->script) {
        open_grants(sim);
        return;
    }
    sim->grant_ms = sim->start_ms;
    sim->open_ms = sim->start_ms + rng_below(&sim->rng, OPEN_MS);
}

uint64_t sim_admission_due(const struct sim *sim)
{
    uint64_t due = sim->grant_ms < sim->open_ms ? sim->grant_ms : sim->open_ms;
    uint64_t news = sim->news_count ? sim->news[0].at_ms : UINT64_MAX;
    return news < due ? news : due;
}

void sim_admission_tick(struct sim *sim)
{
    uint64_t now_ms = sim->engine.now.ms;
    if (sim->news_count && sim->news[0].at_ms <= now_ms)
        tell(sim);
    else if (sim->open_ms <= now_ms)
        open_grants(sim);
    else
        anybody(sim);
}
