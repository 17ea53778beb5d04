#include "core/ratelimit.h"

static struct ratelimit_bucket *find(struct ratelimit *r, uint64_t hash)
{
    uint32_t tag = (uint32_t)(hash >> 32) | 1; /* never 0, the tag of an unused bucket */
    uint32_t set = (uint32_t)hash % (RATELIMIT_BUCKETS / RATELIMIT_WAYS) * RATELIMIT_WAYS;
    struct ratelimit_bucket *oldest = &r->buckets[set];
    for (uint32_t i = 0; i < RATELIMIT_WAYS; i++) {
        struct ratelimit_bucket *b = &r->buckets[set + i];
        if (b->tag == tag)
            return b;
        if (b->at_ms < oldest->at_ms)
            oldest = b;
    }
    *oldest = (struct ratelimit_bucket){.tag = tag};
    return oldest;
}

bool ratelimit_take(struct ratelimit *r, const struct ratelimit_rule *rule,
                    const struct addr *source, uint64_t now_ms)
{
    size_t significant = source->family == ADDR_V6 ? 8 : 4;
    struct ratelimit_bucket *b = find(r, hash_bytes(&r->seed, source->ip, significant));
    uint64_t full = (uint64_t)rule->burst * 1000;
    uint64_t tokens = full;
    if (b->at_ms) {
        uint64_t elapsed = now_ms > b->at_ms ? now_ms - b->at_ms : 0;
        /* rate tokens per second are rate milli-tokens per millisecond */
        uint64_t gained = elapsed > full ? full : elapsed * rule->rate;
        tokens = b->milli_tokens + gained > full ? full : b->milli_tokens + gained;
    }
    b->at_ms = now_ms ? now_ms : 1;
    bool granted = tokens >= 1000;
    b->milli_tokens = (uint32_t)(granted ? tokens - 1000 : tokens);
    return granted;
}
