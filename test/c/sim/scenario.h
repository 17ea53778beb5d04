/* Where plans come from: a seed, or the table of named scenarios. */
#ifndef CT_TEST_SIM_SCENARIO_H
#define CT_TEST_SIM_SCENARIO_H

#include "sim.h"

/* Clients, weather, limits and lives by the seed: the same plan for the same seed. */
struct sim_plan sim_plan_random(uint64_t seed);

/* Clear weather without delay, the RFCs' numbers, one scripted client that may be many. */
struct sim_plan sim_plan_script(const char *name, const struct sim_step *script, size_t steps);

/* Clients that stay for two hours in this much loss (per mille), and nothing else goes wrong. */
struct sim_plan sim_plan_persistent(uint64_t seed, unsigned loss);

/* A scenario of its own name: the rows of design/conformance.md that it plays. */
struct sim_named {
    const char *rows;
    const char *name;
    const struct sim_step *script;
    size_t steps;
    void (*adjust)(struct sim_plan *plan); /* NULL: nothing to adjust */
};

extern const struct sim_named sim_named[];
extern const size_t sim_named_count;

#endif
