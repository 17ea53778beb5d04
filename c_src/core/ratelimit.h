/*
 * Token buckets per source: how often an unauthenticated source is answered. A fixed table;
 * a source that is not in it takes the place of the one that has been quiet longest among four.
 */
#ifndef CT_CORE_RATELIMIT_H
#define CT_CORE_RATELIMIT_H

#include "core/addr.h"
#include "core/hash.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    RATELIMIT_BUCKETS = 4096,
    RATELIMIT_WAYS = 4
};

struct ratelimit_bucket {
    uint32_t tag;
    uint32_t milli_tokens;
    uint64_t at_ms;
};

struct ratelimit {
    struct ratelimit_bucket buckets[RATELIMIT_BUCKETS];
    struct hash_seed seed;
};

struct ratelimit_rule {
    uint32_t rate;  /* tokens per second, at most 1,000,000 */
    uint32_t burst; /* tokens that a bucket holds, at most 1,000,000 */
};

/* Takes one token of the source (an IPv4 address or an IPv6 /64); false when it has none left. */
bool ratelimit_take(struct ratelimit *r, const struct ratelimit_rule *rule,
                    const struct addr *source, uint64_t now_ms);

#endif
