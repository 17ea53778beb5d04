#include "core/turn_policy.h"

#include <string.h>

/* Not a public unicast address (RFC 6890 and the registries it made), or never a peer. */
static const struct {
    const char *prefix;
    enum turn_rule_kind kind;
} builtin[] = {
    {"0.0.0.0/8", TURN_RULE_DEFAULT_DENY},        /* this network */
    {"10.0.0.0/8", TURN_RULE_DEFAULT_DENY},       /* private, RFC 1918 */
    {"100.64.0.0/10", TURN_RULE_DEFAULT_DENY},    /* carrier-grade NAT, RFC 6598 */
    {"127.0.0.0/8", TURN_RULE_DEFAULT_DENY},      /* loopback */
    {"168.63.129.16/32", TURN_RULE_DEFAULT_DENY}, /* Azure's metadata and DNS */
    {"169.254.0.0/16", TURN_RULE_DEFAULT_DENY},   /* link-local, cloud metadata services */
    {"172.16.0.0/12", TURN_RULE_DEFAULT_DENY},    /* private */
    {"192.0.0.0/24", TURN_RULE_DEFAULT_DENY},     /* IETF protocol assignments */
    {"192.0.2.0/24", TURN_RULE_DEFAULT_DENY},     /* documentation */
    {"192.88.99.0/24", TURN_RULE_DEFAULT_DENY},   /* 6to4 relay anycast, RFC 7526 */
    {"192.168.0.0/16", TURN_RULE_DEFAULT_DENY},   /* private */
    {"198.18.0.0/15", TURN_RULE_DEFAULT_DENY},    /* benchmarks */
    {"198.51.100.0/24", TURN_RULE_DEFAULT_DENY},  /* documentation */
    {"203.0.113.0/24", TURN_RULE_DEFAULT_DENY},   /* documentation */
    {"224.0.0.0/4", TURN_RULE_DEFAULT_DENY},      /* multicast */
    {"240.0.0.0/4", TURN_RULE_DEFAULT_DENY},      /* reserved, broadcast */
    {"::/128", TURN_RULE_DEFAULT_DENY},           /* unspecified */
    {"::1/128", TURN_RULE_DEFAULT_DENY},          /* loopback */
    {"::/96", TURN_RULE_DEFAULT_DENY},            /* v4-compatible */
    {"::ffff:0:0/96", TURN_RULE_NEVER},           /* v4-mapped */
    {"64:ff9b::/96", TURN_RULE_ALLOW},            /* NAT64: the IPv4 address inside decides */
    {"64:ff9b:1::/48", TURN_RULE_DEFAULT_DENY},   /* local NAT64, RFC 8215 */
    {"100::/64", TURN_RULE_DEFAULT_DENY},         /* discard */
    {"2001::/23", TURN_RULE_DEFAULT_DENY},        /* IETF protocol assignments */
    {"2001::/32", TURN_RULE_NEVER},               /* Teredo, RFC 8656 §21.4 */
    {"2001:db8::/32", TURN_RULE_DEFAULT_DENY},    /* documentation */
    {"2002::/16", TURN_RULE_NEVER},               /* 6to4, RFC 8656 §21.4 */
    {"3fff::/20", TURN_RULE_DEFAULT_DENY},        /* documentation, RFC 9637 */
    {"5f00::/16", TURN_RULE_DEFAULT_DENY},        /* segment routing, RFC 9602 */
    {"fc00::/7", TURN_RULE_DEFAULT_DENY},         /* unique local */
    {"fe80::/10", TURN_RULE_DEFAULT_DENY},        /* link-local */
    {"fec0::/10", TURN_RULE_DEFAULT_DENY},        /* site-local, deprecated */
    {"ff00::/8", TURN_RULE_DEFAULT_DENY},         /* multicast */
};

void turn_policy_defaults(struct turn_policy *policy)
{
    policy->count = 0;
    for (size_t i = 0; i < sizeof builtin / sizeof *builtin; i++) {
        struct addr_prefix prefix;
        if (addr_prefix_parse(builtin[i].prefix, strlen(builtin[i].prefix), &prefix) == CT_OK)
            (void)turn_policy_add(policy, &prefix, builtin[i].kind);
    }
}

enum ct_err turn_policy_add(struct turn_policy *policy, const struct addr_prefix *prefix,
                            enum turn_rule_kind kind)
{
    if (policy->count == TURN_RULES_MAX)
        return CT_ENOSPACE;
    policy->rules[policy->count++] = (struct turn_rule){.prefix = *prefix, .kind = (uint8_t)kind};
    return CT_OK;
}

/*
 * Whether `a` decides rather than `b`: NEVER always does, then the longer prefix, then the
 * operator's word over the built-in one, then a denial over an allowance.
 */
static bool decides(const struct turn_rule *a, const struct turn_rule *b)
{
    if (!b)
        return true;
    if ((a->kind == TURN_RULE_NEVER) != (b->kind == TURN_RULE_NEVER))
        return a->kind == TURN_RULE_NEVER;
    if (a->prefix.bits != b->prefix.bits)
        return a->prefix.bits > b->prefix.bits;
    return a->kind > b->kind;
}

static const struct turn_rule *longest(const struct turn_policy *policy, const struct addr *peer)
{
    const struct turn_rule *best = NULL;
    for (size_t i = 0; i < policy->count; i++) {
        const struct turn_rule *rule = &policy->rules[i];
        if (addr_prefix_has(&rule->prefix, peer) && decides(rule, best))
            best = rule;
    }
    return best;
}

const struct turn_rule *turn_policy_match(const struct turn_policy *policy, const struct addr *peer)
{
    const struct turn_rule *rule = longest(policy, peer);
    struct addr inner = addr_canonical(peer);
    if (inner.family == peer->family || !turn_rule_allows(rule))
        return rule;
    return longest(policy, &inner);
}

bool turn_policy_never(const struct turn_policy *policy, const struct addr *ip)
{
    for (size_t i = 0; i < policy->count; i++)
        if (policy->rules[i].kind == TURN_RULE_NEVER &&
            addr_prefix_has(&policy->rules[i].prefix, ip))
            return true;
    if (ip->family == ADDR_V4) /* what an IPv6 address stands for would have to be looked at */
        return false;
    const struct turn_rule *rule = turn_policy_match(policy, ip);
    return rule && rule->kind == TURN_RULE_NEVER;
}
