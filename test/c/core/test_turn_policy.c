#include "check.h"
#include "core/turn_policy.h"
#include "rng.h"
#include "spell.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static struct turn_policy policy;

static struct addr_prefix prefix_of(const char *text)
{
    struct addr_prefix p = {0};
    CHECK_EQ(addr_prefix_parse(text, strlen(text), &p), CT_OK);
    return p;
}

static bool allows(const char *peer)
{
    struct addr a = addr_of(peer);
    return turn_rule_allows(turn_policy_match(&policy, &a));
}

static void add(const char *prefix, enum turn_rule_kind kind)
{
    struct addr_prefix p = prefix_of(prefix);
    CHECK_EQ(turn_policy_add(&policy, &p, kind), CT_OK);
}

/* ---- what is built in ---- */

/* The registries of special addresses once more, as first and last address. */
static const char *const denied[][2] = {
    {"0.0.0.0", "0.255.255.255"},
    {"10.0.0.0", "10.255.255.255"},
    {"100.64.0.0", "100.127.255.255"},
    {"127.0.0.0", "127.255.255.255"},
    {"168.63.129.16", "168.63.129.16"},
    {"169.254.0.0", "169.254.255.255"},
    {"172.16.0.0", "172.31.255.255"},
    {"192.0.0.0", "192.0.0.255"},
    {"192.0.2.0", "192.0.2.255"},
    {"192.88.99.0", "192.88.99.255"},
    {"192.168.0.0", "192.168.255.255"},
    {"198.18.0.0", "198.19.255.255"},
    {"198.51.100.0", "198.51.100.255"},
    {"203.0.113.0", "203.0.113.255"},
    {"224.0.0.0", "239.255.255.255"},
    {"240.0.0.0", "255.255.255.255"},
    {"::", "::ffff:ffff"},
    {"::ffff:0:0", "::ffff:ffff:ffff"},
    {"64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff"},
    {"100::", "100::ffff:ffff:ffff:ffff"},
    {"2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
    {"ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
};

/* One up (1) or down (-1); false when it would leave the address space. */
static bool neighbour(struct addr *a, int by)
{
    size_t i = addr_ip_len(a->family);
    while (i--) {
        a->ip[i] = (uint8_t)(a->ip[i] + by);
        if (a->ip[i] != (by > 0 ? 0 : 0xFF))
            return true;
    }
    return false;
}

static bool in_range(const struct addr *a, const char *const range[2])
{
    struct addr first = addr_of(range[0]), last = addr_of(range[1]);
    return a->family == first.family && memcmp(a->ip, first.ip, 16) >= 0 &&
           memcmp(a->ip, last.ip, 16) <= 0;
}

static bool by_registry(const struct addr *a)
{
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    struct addr inner = addr_v4(a->ip + 12, 0);
    for (size_t i = 0; i < COUNT(denied); i++)
        if (in_range(a, denied[i]))
            return false;
    if (a->family == ADDR_V6 && memcmp(a->ip, nat64, 12) == 0)
        return by_registry(&inner);
    return true;
}

static void check_built_in(const struct addr *a)
{
    if (turn_rule_allows(turn_policy_match(&policy, a)) == by_registry(a))
        return;
    char text[ADDR_TEXT_MAX];
    addr_format_ip(a, text);
    check_failed(__FILE__, __LINE__, "not what the registries say");
    printf("#   %s should be %s\n", text, by_registry(a) ? "allowed" : "denied");
}

static void test_every_range_at_both_edges(void)
{
    turn_policy_defaults(&policy);
    for (size_t i = 0; i < COUNT(denied); i++) {
        struct addr first = addr_of(denied[i][0]), last = addr_of(denied[i][1]);
        CHECK(!turn_rule_allows(turn_policy_match(&policy, &first)));
        CHECK(!turn_rule_allows(turn_policy_match(&policy, &last)));
        struct addr before = first, after = last;
        if (neighbour(&before, -1))
            check_built_in(&before);
        if (neighbour(&after, 1))
            check_built_in(&after);
    }
}

static void test_edges_by_hand(void)
{
    static const char *const allowed[] = {
        "1.0.0.0",         "8.8.8.8",         "9.255.255.255",    "11.0.0.0",
        "100.63.255.255",  "100.128.0.0",     "126.255.255.255",  "128.0.0.0",
        "169.253.255.255", "169.255.0.0",     "172.15.255.255",   "172.32.0.0",
        "191.255.255.255", "192.0.1.0",       "192.0.3.0",        "192.88.98.255",
        "192.167.255.255", "192.169.0.0",     "198.17.255.255",   "198.20.0.0",
        "203.0.114.0",     "223.255.255.255", "2000::",           "2001:200::",
        "2001:db7:ffff::", "2001:db9::",      "2003::",           "2606:4700::1111",
        "3ffe::",          "3fff:1000::",     "64:ff9b::8.8.8.8",
    };
    static const char *const refused[] = {
        "0.0.0.0",
        "127.0.0.1",
        "168.63.129.16",
        "169.254.169.254",
        "255.255.255.255",
        "::",
        "::1",
        "::8.8.8.8",
        "::127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::168.63.129.16",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "2001:0:1::1",
        "2001:10::1",
        "2002:808:808::1",
        "2002:7f00:1::",
        "fe80::1",
        "fc00::1",
        "fd12::1",
        "ff02::1",
    };
    turn_policy_defaults(&policy);
    for (size_t i = 0; i < COUNT(allowed); i++) {
        CHECK(allows(allowed[i]));
        if (check_failures)
            printf("#   for %s\n", allowed[i]);
    }
    for (size_t i = 0; i < COUNT(refused); i++) {
        CHECK(!allows(refused[i]));
        if (check_failures)
            printf("#   for %s\n", refused[i]);
    }
}

/* The family decides, not the bytes: a v6 address that begins like 10.0.0.0 is another one. */
static void test_families_do_not_mix(void)
{
    turn_policy_defaults(&policy);
    CHECK(allows("a00::1"));
    policy.count = 0;
    add("::/0", TURN_RULE_DENY);
    CHECK(allows("10.0.0.1"));
    CHECK(!allows("2606:4700::1"));
}

static void test_ports_and_scopes_are_not_looked_at(void)
{
    turn_policy_defaults(&policy);
    struct addr a = addr_of("[fe80::1]:443");
    a.scope = 2;
    CHECK(!turn_rule_allows(turn_policy_match(&policy, &a)));
    CHECK(!allows("10.0.0.1:443"));
    CHECK(allows("8.8.8.8:443"));
}

static void test_random_addresses(void)
{
    struct rng rng = rng_new();
    turn_policy_defaults(&policy);
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t ip[16];
        rng_bytes(&rng, ip, sizeof ip);
        struct addr a = addr_v4(ip, 0);
        check_built_in(&a);
        const char *const *range = denied[rng_below(&rng, COUNT(denied))];
        struct addr b = addr_of(range[rng_below(&rng, 2)]);
        b.ip[rng_below(&rng, addr_ip_len(b.family))] ^= (uint8_t)(1u << rng_below(&rng, 8));
        check_built_in(&b);
        memcpy(ip, (const uint8_t[12]){0, 0x64, 0xff, 0x9b}, 12);
        struct addr c = addr_v6(ip, 0);
        check_built_in(&c);
    }
}

/* ---- the operator's word ---- */

static void test_allowing_what_is_built_in(void)
{
    turn_policy_defaults(&policy);
    add("0.0.0.0/0", TURN_RULE_ALLOW); /* shorter: helps nobody */
    CHECK(!allows("10.1.2.3"));
    add("10.1.0.0/16", TURN_RULE_ALLOW);
    CHECK(allows("10.1.2.3"));
    CHECK(!allows("10.2.2.3"));
    add("10.0.0.0/8", TURN_RULE_ALLOW); /* of the same length as the built-in denial */
    CHECK(allows("10.2.2.3"));
    add("127.0.0.1", TURN_RULE_ALLOW);
    CHECK(allows("127.0.0.1"));
    CHECK(!allows("127.0.0.2"));
    add("fe80::/10", TURN_RULE_ALLOW);
    CHECK(allows("fe80::1"));
}

static void test_denials_and_allowances(void)
{
    turn_policy_defaults(&policy);
    add("8.8.0.0/16", TURN_RULE_DENY);
    CHECK(!allows("8.8.8.8"));
    add("8.8.8.0/24", TURN_RULE_ALLOW);
    CHECK(allows("8.8.8.8"));
    CHECK(!allows("8.8.9.8"));
    add("8.8.8.8/32", TURN_RULE_DENY);
    CHECK(!allows("8.8.8.8"));
    CHECK(allows("8.8.8.9"));
    add("8.8.8.8/32", TURN_RULE_ALLOW); /* of two of the same length, the denial */
    CHECK(!allows("8.8.8.8"));
    add("10.0.0.0/8", TURN_RULE_ALLOW);
    add("10.0.0.0/8", TURN_RULE_DENY);
    CHECK(!allows("10.0.0.1"));
    add("0.0.0.0/0", TURN_RULE_DENY);
    CHECK(!allows("1.1.1.1"));
    CHECK(allows("8.8.8.9"));
}

static void test_the_order_of_rules_is_nothing(void)
{
    static const struct {
        const char *prefix;
        enum turn_rule_kind kind;
    } rules[] = {{"8.8.0.0/16", TURN_RULE_DENY},
                 {"8.8.8.0/24", TURN_RULE_ALLOW},
                 {"8.8.8.8/32", TURN_RULE_ALLOW},
                 {"8.8.8.8/32", TURN_RULE_DENY}};
    for (size_t first = 0; first < COUNT(rules); first++) {
        policy.count = 0;
        for (size_t i = 0; i < COUNT(rules); i++)
            add(rules[(first + i) % COUNT(rules)].prefix, rules[(first + i) % COUNT(rules)].kind);
        CHECK(!allows("8.8.8.8"));
        CHECK(allows("8.8.8.9"));
        CHECK(!allows("8.8.9.9"));
        CHECK(allows("8.9.9.9"));
    }
}

/* RFC 8656 §21.4: tunnels are never peers. */
static void test_never_means_never(void)
{
    static const char *const tunnels[] = {"::ffff:8.8.8.8", "2001:0:1::1", "2002:808:808::1"};
    turn_policy_defaults(&policy);
    add("::/0", TURN_RULE_ALLOW);
    add("::ffff:0:0/96", TURN_RULE_ALLOW);
    add("2001::/32", TURN_RULE_ALLOW);
    add("2002::/16", TURN_RULE_ALLOW);
    for (size_t i = 0; i < COUNT(tunnels); i++) {
        struct addr ip;
        CHECK_EQ(addr_parse(tunnels[i], strlen(tunnels[i]), &ip), CT_OK);
        add(tunnels[i], TURN_RULE_ALLOW); /* a whole address */
        CHECK(!allows(tunnels[i]) && turn_policy_never(&policy, &ip));
    }
    struct addr banned;
    add("9.9.9.9", TURN_RULE_DENY);
    CHECK_EQ(addr_parse("9.9.9.9", 7, &banned), CT_OK);
    CHECK(!allows("9.9.9.9") && !turn_policy_never(&policy, &banned));
    struct addr_prefix four = {.ip = {9, 9, 0, 0}, .family = ADDR_V4, .bits = 16};
    CHECK_EQ(turn_policy_add(&policy, &four, TURN_RULE_NEVER), CT_OK);
    CHECK(turn_policy_never(&policy, &banned));
    CHECK_EQ(addr_parse("64:ff9b::9.9.9.9", 16, &banned), CT_OK); /* what is inside */
    CHECK(turn_policy_never(&policy, &banned));
}

/* ---- IPv4 inside IPv6 ---- */

static void test_nat64_needs_both(void)
{
    turn_policy_defaults(&policy);
    CHECK(allows("64:ff9b::8.8.8.8"));
    CHECK(!allows("64:ff9b::10.1.0.1"));
    add("10.1.0.0/16", TURN_RULE_ALLOW);
    CHECK(allows("64:ff9b::10.1.0.1"));
    CHECK(!allows("64:ff9b::10.2.0.1"));
    add("8.8.8.8", TURN_RULE_DENY);
    CHECK(!allows("64:ff9b::8.8.8.8"));
    CHECK(allows("64:ff9b::8.8.8.9"));
    add("64:ff9b::/96", TURN_RULE_DENY);
    CHECK(!allows("64:ff9b::8.8.8.9"));
    CHECK(allows("8.8.8.9"));
}

static void test_allowing_an_embedding_does_not_allow_what_is_in_it(void)
{
    turn_policy_defaults(&policy);
    add("64:ff9b::7f00:1", TURN_RULE_ALLOW); /* 127.0.0.1 inside */
    CHECK(!allows("64:ff9b::127.0.0.1"));
    add("64:ff9b:1::/48", TURN_RULE_ALLOW);
    CHECK(allows("64:ff9b:1::8.8.8.8"));
    CHECK(!allows("64:ff9b:1::10.0.0.1"));
    CHECK(!allows("64:ff9b:1:abcd::10.0.0.1"));
    add("::/96", TURN_RULE_ALLOW);
    CHECK(allows("::8.8.8.8"));
    CHECK(!allows("::10.0.0.1"));
    CHECK(!allows("::127.0.0.1"));
}

/* ---- which rule, and how many ---- */

static void test_the_rule_that_decided(void)
{
    turn_policy_defaults(&policy);
    struct addr a = addr_of("10.1.2.3"), b = addr_of("8.8.8.8"), c = addr_of("64:ff9b::10.1.2.3");
    const struct turn_rule *rule = turn_policy_match(&policy, &a);
    CHECK(rule && rule->kind == TURN_RULE_DEFAULT_DENY && rule->prefix.bits == 8);
    CHECK(turn_policy_match(&policy, &c) == rule);
    CHECK(turn_policy_match(&policy, &b) == NULL);
    add("10.1.0.0/16", TURN_RULE_DENY);
    rule = turn_policy_match(&policy, &a);
    CHECK(rule && rule->kind == TURN_RULE_DENY && rule->prefix.bits == 16);
}

static void test_a_full_policy(void)
{
    struct addr_prefix p = prefix_of("8.8.8.8");
    turn_policy_defaults(&policy);
    CHECK(policy.count >= COUNT(denied) && policy.count < TURN_RULES_MAX);
    while (policy.count < TURN_RULES_MAX)
        CHECK_EQ(turn_policy_add(&policy, &p, TURN_RULE_ALLOW), CT_OK);
    CHECK_EQ(turn_policy_add(&policy, &p, TURN_RULE_DENY), CT_ENOSPACE);
    CHECK_EQ(policy.count, TURN_RULES_MAX);
    CHECK(allows("8.8.8.8"));
    CHECK(!allows("10.0.0.1"));
    turn_policy_defaults(&policy);
    CHECK(policy.count < TURN_RULES_MAX);
}

/* ---- any rules at all ---- */

static bool covers(const struct turn_rule *rule, const struct addr *a)
{
    if (rule->prefix.family != a->family)
        return false;
    for (unsigned i = 0; i < rule->prefix.bits; i++)
        if ((rule->prefix.ip[i / 8] ^ a->ip[i / 8]) >> (7 - i % 8) & 1)
            return false;
    return true;
}

/* The text of turn_policy.h, read plainly. */
static bool plainly_allows(const struct addr *a)
{
    for (int bits = 129; bits >= 0; bits--) {
        bool found[TURN_RULE_NEVER + 1] = {false};
        for (size_t i = 0; i < policy.count; i++) {
            const struct turn_rule *rule = &policy.rules[i];
            bool never = rule->kind == TURN_RULE_NEVER && bits == 129;
            if ((rule->prefix.bits == bits || never) && covers(rule, a))
                found[rule->kind] = true;
        }
        if (found[TURN_RULE_NEVER] || found[TURN_RULE_DENY])
            return false;
        if (found[TURN_RULE_ALLOW])
            return true;
        if (found[TURN_RULE_DEFAULT_DENY])
            return false;
    }
    return true;
}

static void random_rules(struct rng *rng, size_t n)
{
    while (n--) {
        struct addr_prefix p = {.family = rng_below(rng, 2) ? ADDR_V4 : ADDR_V6};
        p.bits = (uint8_t)rng_below(rng, p.family == ADDR_V4 ? 33 : 129);
        for (unsigned i = 0; i < p.bits; i++)
            if (rng_below(rng, 8) == 0) /* mostly zeros, so that prefixes nest */
                p.ip[i / 8] |= (uint8_t)(0x80 >> i % 8);
        CHECK_EQ(turn_policy_add(&policy, &p, (enum turn_rule_kind)rng_below(rng, 4)), CT_OK);
    }
}

static void test_random_rules(void)
{
    struct rng rng = rng_new();
    unsigned allowed = 0, refused = 0;
    for (unsigned round = 0; round < 2000; round++) {
        policy.count = 0;
        random_rules(&rng, rng_below(&rng, 40));
        for (unsigned i = 0; i < 20; i++) {
            uint8_t ip[16] = {0};
            for (unsigned bit = 0; bit < 128; bit++)
                if (rng_below(&rng, 8) == 0)
                    ip[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
            struct addr a = i % 2 ? addr_v4(ip, 0) : addr_v6(ip, 0), inner = addr_canonical(&a);
            bool want = plainly_allows(&a) && plainly_allows(&inner);
            CHECK_EQ(turn_rule_allows(turn_policy_match(&policy, &a)), want);
            allowed += want;
            refused += !want;
        }
    }
    CHECK(allowed > 1000 && refused > 1000);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_every_range_at_both_edges),
        CHECK_TEST(test_edges_by_hand),
        CHECK_TEST(test_families_do_not_mix),
        CHECK_TEST(test_ports_and_scopes_are_not_looked_at),
        CHECK_TEST(test_random_addresses),
        CHECK_TEST(test_allowing_what_is_built_in),
        CHECK_TEST(test_denials_and_allowances),
        CHECK_TEST(test_the_order_of_rules_is_nothing),
        CHECK_TEST(test_never_means_never),
        CHECK_TEST(test_nat64_needs_both),
        CHECK_TEST(test_allowing_an_embedding_does_not_allow_what_is_in_it),
        CHECK_TEST(test_the_rule_that_decided),
        CHECK_TEST(test_a_full_policy),
        CHECK_TEST(test_random_rules),
    };
    return CHECK_RUN(tests);
}
