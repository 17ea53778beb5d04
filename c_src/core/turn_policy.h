/*
 * Which peers may be reached (RFC 8656 §21.2, §21.4).
 *
 * The longest matching prefix decides; of two of the same length, a denial. Everything that is not
 * a public unicast address is denied by default, and allowed again only by a prefix at least as
 * long as the one that denies it. A NAT64 address must be allowed itself, and so must the IPv4
 * address inside it.
 */
#ifndef CT_CORE_TURN_POLICY_H
#define CT_CORE_TURN_POLICY_H

#include "core/addr.h"

enum {
    TURN_RULES_MAX = 256
};

enum turn_rule_kind {
    TURN_RULE_DEFAULT_DENY, /* built in; yields to the operator's word of the same length */
    TURN_RULE_ALLOW,
    TURN_RULE_DENY,
    TURN_RULE_NEVER, /* Teredo, 6to4, v4-mapped: no allowance helps */
};

struct turn_rule {
    struct addr_prefix prefix;
    uint8_t kind; /* enum turn_rule_kind */
};

struct turn_policy {
    struct turn_rule rules[TURN_RULES_MAX];
    uint16_t count;
};

/* The built-in denials and nothing else. */
void turn_policy_defaults(struct turn_policy *policy);

/* CT_ENOSPACE when TURN_RULES_MAX rules are there already. */
enum ct_err turn_policy_add(struct turn_policy *policy, const struct addr_prefix *prefix,
                            enum turn_rule_kind kind);

/* The rule that decides about this IP; NULL when none matches, which allows. */
const struct turn_rule *turn_policy_match(const struct turn_policy *policy,
                                          const struct addr *peer);

/* Whether nothing helps this IP: neither peers nor clients are served there (RFC 8656 §21.4). */
bool turn_policy_never(const struct turn_policy *policy, const struct addr *ip);

static inline bool turn_rule_allows(const struct turn_rule *rule)
{
    return !rule || rule->kind == TURN_RULE_ALLOW;
}

#endif
