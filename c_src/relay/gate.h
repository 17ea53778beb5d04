/*
 * How many connections are open, in the whole relay and per source: shared by all workers, asked
 * only when connections come and go.
 *
 * A source is an IPv4 address or an IPv6 /64, as for rate limits (core/ratelimit.h).
 */
#ifndef CT_RELAY_GATE_H
#define CT_RELAY_GATE_H

#include "core/addr.h"

struct gate;

/* For at most `most` connections. NULL when memory or randomness is missing. */
struct gate *gate_new(uint32_t most);
/* NULL is fine. */
void gate_free(struct gate *g);

/*
 * Counts one connection more; false when there are too many, in total or (at most source_most) of
 * this source. A source of family ADDR_NONE counts in the total only.
 */
bool gate_enter(struct gate *g, const struct addr *source, uint32_t source_most);

/* Takes back one gate_enter() of the same source. */
void gate_leave(struct gate *g, const struct addr *source);

#endif
