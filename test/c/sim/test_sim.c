/*
 * The simulator's tests. SIM_SEEDS=<how many> and SIM_FIRST=<the first> choose the seeds of random
 * plans; a failure prints the seed, what was wrong and the last events, and the same seed does the
 * same again.
 */
#include "scenario.h"

#include <stdlib.h>
#include <time.h>

enum {
    SEEDS = 2000 /* of make test-c */
};

static struct sim *sim; /* some 1.5 MB: made once */

static double seconds(void)
{
    struct timespec t;
    timespec_get(&t, TIME_UTC);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *given = getenv(name);
    return given && *given ? strtoull(given, NULL, 10) : otherwise;
}

static void print_plan(const struct sim_plan *p)
{
    printf("#   loss %u, doubled %u, overtaking %u per mille, delay %u to %u ms\n", p->weather.loss,
           p->weather.twice, p->weather.overtake, p->weather.delay_min, p->weather.delay_max);
    printf("#   pairs %s, mode %s\n", p->rules.pair ? "in memory" : "over sockets",
           p->rules.switched ? "switch" : "open");
    printf("#   admission %d, at most %u grants\n", p->rules.admission, p->rules.max_grants);
    printf("#   %u clients, quota %u, at most %u allocations, ports %u to %u, nonce %u s\n",
           p->clients, p->rules.quota, p->rules.max_allocations, p->rules.port_min,
           p->rules.port_max, p->rules.nonce);
}

static bool run(const struct sim_plan *plan)
{
    if (sim_run(sim, plan))
        return true;
    printf("# scenario \"%s\", seed %" PRIu64 ": %s\n", plan->name, plan->seed, sim->problem);
    print_plan(plan);
    sim_trace_print(&sim->trace);
    if (plan->probes) /* a random one */
        printf("# again: make sim SIM_SEEDS=1 SIM_FIRST=%" PRIu64 "\n", plan->seed);
    CHECK(!"the scenario");
    return false;
}

/* Over relay sockets, and with the short cut between relayed addresses. */
static void test_named(void)
{
    for (size_t i = 0; i < 2 * sim_named_count; i++) {
        const struct sim_named *n = &sim_named[i / 2];
        struct sim_plan plan = sim_plan_script(n->name, n->script, n->steps);
        plan.rules.pair = i % 2;
        if (n->adjust)
            n->adjust(&plan);
        printf("# %s %s (%s)\n", run(&plan) ? "plays" : "FAILS", n->name, n->rows);
    }
}

/* What of admission has been seen. */
struct admitted {
    uint64_t refused, early, withdrawn, strays;
};

static void add_admitted(struct admitted *sum)
{
    const uint64_t *counts = sim->model.counts;
    sum->refused += counts[TURN_N_REFUSED_ADMISSION];
    sum->early += counts[TURN_N_DROP_EARLY];
    sum->withdrawn += counts[TURN_N_WITHDRAWN];
    sum->strays += counts[TURN_N_DROP_OTHER_ROOM];
}

static void add(struct sim_tally *sum, uint64_t *late)
{
    const uint64_t *from = (const uint64_t *)&sim->tally;
    uint64_t *to = (uint64_t *)sum;
    for (size_t i = 0; i < offsetof(struct sim_tally, has_token) / sizeof *to; i++)
        to[i] += from[i];
    *late += sim->model.late;
}

static void test_random(void)
{
    uint64_t n = setting("SIM_SEEDS", SEEDS), first = setting("SIM_FIRST", 1);
    uint64_t packets = 0, paired = 0, late = 0, failed = 0;
    struct sim_tally sum = {0};
    struct admitted admitted = {0};
    double start = seconds();
    clock_t busy = clock();
    for (uint64_t seed = first; seed < first + n && failed < 3; seed++) {
        struct sim_plan plan = sim_plan_random(seed);
        failed += !run(&plan);
        packets += sim->packets;
        paired += sim->paired;
        add(&sum, &late);
        add_admitted(&admitted);
    }
    double took = seconds() - start;
    printf("# %" PRIu64 " seeds in %.1f s (%.1f s of CPU), %.0f a minute; %" PRIu64 " packets\n", n,
           took, (double)(clock() - busy) / CLOCKS_PER_SEC, (double)n * 60 / took, packets);
    printf("# transactions %" PRIu64 ", retransmissions %" PRIu64 ", timed out %" PRIu64
           ", refused %" PRIu64 "\n",
           sum.asked, sum.retransmitted, sum.timed_out, sum.refused);
    printf("# allocations %" PRIu64 ", died %" PRIu64 ", late copies refused %" PRIu64
           ", data heard %" PRIu64 ", paired %" PRIu64 "\n",
           sum.allocated, sum.died, late, sum.heard, paired);
    printf("# without a grant %" PRIu64 ", early %" PRIu64 ", withdrawn %" PRIu64
           ", data of other rooms %" PRIu64 "\n",
           admitted.refused, admitted.early, admitted.withdrawn, admitted.strays);
    CHECK(n < 1000 ||
          (admitted.refused && admitted.early && admitted.withdrawn && admitted.strays));
    CHECK(sum.allocated > n / 4 && sum.heard > n / 4 && paired > n / 4);
}

/* The same seed does the same, to the byte. */
static void test_replays(void)
{
    uint64_t first = setting("SIM_FIRST", 1);
    for (uint64_t seed = first; seed < first + 20; seed++) {
        struct sim_plan plan = sim_plan_random(seed);
        CHECK(run(&plan));
        uint64_t digest = sim->trace.digest, count = sim->trace.count;
        CHECK(run(&plan));
        CHECK(digest == sim->trace.digest && count == sim->trace.count);
    }
}

static uint64_t deaths(unsigned loss, uint64_t seeds, uint64_t *refreshed)
{
    uint64_t died = 0;
    *refreshed = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct sim_plan plan = sim_plan_persistent(seed, loss);
        CHECK(run(&plan));
        died += sim->tally.died;
        *refreshed += sim->tally.refreshed;
    }
    return died;
}

/* RFC 8489 §6.2.1, begun a minute ahead: loss of 10 % ends no allocation, of 50 % it does. */
static void test_persistence(void)
{
    static const unsigned losses[] = {0, 100, 300, 500};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        uint64_t refreshed, died = deaths(losses[i], 20, &refreshed);
        printf("# loss %u per mille: %" PRIu64 " refreshes, %" PRIu64 " allocations lost\n",
               losses[i], refreshed, died);
        CHECK(refreshed > 1000 && (losses[i] < 500 || died));
        CHECK(losses[i] > 100 || died == 0);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_named),
        CHECK_TEST(test_random),
        CHECK_TEST(test_replays),
        CHECK_TEST(test_persistence),
    };
    sim = calloc(1, sizeof *sim);
    int status = sim ? CHECK_RUN(tests) : 1;
    free(sim);
    return status;
}
