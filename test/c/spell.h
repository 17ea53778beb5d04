/* Addresses and rules as tests spell them. The text must be right. */
#ifndef CT_TEST_SPELL_H
#define CT_TEST_SPELL_H

#include "core/turn_config.h"

#include <stdlib.h>

/* "192.0.2.9:5000", "192.0.2.9" (port 0), "[2001:db8::9]:5000". */
static inline struct addr addr_of(const char *text)
{
    struct addr a = {0};
    if (addr_parse(text, strlen(text), &a) != CT_OK)
        abort();
    return a;
}

/* A rule of the peer policy for "198.51.100.0/24". */
static inline void spell_rule(struct turn_config *config, const char *prefix,
                              enum turn_rule_kind kind)
{
    struct addr_prefix p;
    if (addr_prefix_parse(prefix, strlen(prefix), &p) != CT_OK ||
        turn_policy_add(&config->policy, &p, kind) != CT_OK)
        abort();
}

static inline void spell_allow(struct turn_config *config, const char *prefix)
{
    spell_rule(config, prefix, TURN_RULE_ALLOW);
}

#endif
