#include "check.h"
#include "core/addr.h"
#include "exact.h"
#include "rng.h"

#include <arpa/inet.h>
#include <sys/socket.h>

/* Parses from a block without a final zero, so that reading past the text is seen. */
static enum ct_err parse(const char *text, struct addr *out)
{
    struct exact e = exact_of(text, strlen(text), 0);
    enum ct_err err = addr_parse((const char *)e.data, e.len, out);
    exact_free(&e);
    return err;
}

static struct addr addr_of(const char *text)
{
    struct addr a = {0};
    CHECK_EQ(parse(text, &a), CT_OK);
    return a;
}

static enum ct_err parse_prefix(const char *text, struct addr_prefix *out)
{
    struct exact e = exact_of(text, strlen(text), 0);
    enum ct_err err = addr_prefix_parse((const char *)e.data, e.len, out);
    exact_free(&e);
    return err;
}

static void test_made_from_bytes(void)
{
    const uint8_t v4[4] = {192, 0, 2, 1};
    const uint8_t v6[16] = {0x20, 0x01, 0x0d, 0xb8, [15] = 1};
    struct addr a = addr_v4(v4, 3478), b = addr_v6(v6, 3478);
    struct addr pa = addr_of("192.0.2.1:3478"), pb = addr_of("[2001:db8::1]:3478");
    CHECK(addr_eq(&a, &pa));
    CHECK(addr_eq(&b, &pb));
    CHECK(!addr_eq(&a, &b));
    CHECK_EQ(addr_ip_len(ADDR_V4), 4);
    CHECK_EQ(addr_ip_len(ADDR_V6), 16);
    CHECK_EQ(addr_ip_len(ADDR_NONE), 0);
    CHECK_EQ(addr_ip_len(3), 0);
}

/* Equality is of bytes: nothing may hide between the fields. */
static void test_has_no_padding(void)
{
    CHECK_EQ(sizeof(struct addr), 16 + 4 + 2 + 1 + 1);
    CHECK_EQ(sizeof(struct addr_prefix), 18);
}

static void test_equality(void)
{
    struct addr a = addr_of("192.0.2.1:1"), b = addr_of("192.0.2.1:2"), c = addr_of("[::1]:1"),
                d = c;
    d.scope = 3;
    CHECK(!addr_eq(&a, &b));
    CHECK(addr_ip_eq(&a, &b));
    CHECK(!addr_eq(&c, &d));
    CHECK(addr_ip_eq(&c, &d));
    CHECK(!addr_ip_eq(&a, &c));
}

static void test_any(void)
{
    struct addr a = addr_of("0.0.0.0:5"), b = addr_of("::"), c = addr_of("0.0.0.1"),
                d = addr_of("::1");
    CHECK(addr_is_any(&a));
    CHECK(addr_is_any(&b));
    CHECK(!addr_is_any(&c));
    CHECK(!addr_is_any(&d));
}

static void test_text(void)
{
    static const char *const cases[][2] = {
        {"192.0.2.1:3478", "192.0.2.1:3478"},
        {"192.0.2.1", "192.0.2.1:0"},
        {"255.255.255.255:65535", "255.255.255.255:65535"},
        {"[2001:DB8::1]:80", "[2001:db8::1]:80"},
        {"2001:db8::1", "[2001:db8::1]:0"},
        {"[::]", "[::]:0"},
        {"[::]:0", "[::]:0"},
        {"1:2:3:4:5:6:7:8", "[1:2:3:4:5:6:7:8]:0"},
        {"1:0:0:2:0:0:0:3", "[1:0:0:2::3]:0"},      /* the longest run */
        {"1:0:0:2:3:0:0:4", "[1::2:3:0:0:4]:0"},    /* the first of equals */
        {"1:0:2:3:4:5:6:7", "[1:0:2:3:4:5:6:7]:0"}, /* one group is not compressed */
        {"0:0:1:2:3:4:5:6", "[::1:2:3:4:5:6]:0"},
        {"1:2:3:4:5:6:0:0", "[1:2:3:4:5:6::]:0"},
        {"1:2:3:4:5:6:7::", "[1:2:3:4:5:6:7:0]:0"},
        {"::2:3:4:5:6:7:8", "[0:2:3:4:5:6:7:8]:0"},
        {"::ffff:192.0.2.1", "[::ffff:192.0.2.1]:0"},
        {"::FFFF:C000:201", "[::ffff:192.0.2.1]:0"},
        {"64:ff9b::192.0.2.1", "[64:ff9b::c000:201]:0"},
        {"1:2:3:4:5:6:1.2.3.4", "[1:2:3:4:5:6:102:304]:0"},
        {"0001:0002::0003", "[1:2::3]:0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[ADDR_TEXT_MAX];
        struct addr a = addr_of(cases[i][0]);
        addr_format(&a, out);
        CHECK_STR(out, cases[i][1]);
    }
}

static void test_text_that_is_none(void)
{
    static const char *const cases[] = {
        "",
        " ",
        "x",
        "localhost",
        "localhost:80",
        "1",
        "127.1",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "1.2.3.1000",
        "01.2.3.4",
        "1.2.3.04",
        "1.2.3.4:",
        "1.2.3.4:65536",
        "1.2.3.4:080",
        "1.2.3.4:-1",
        "1.2.3.4:1x",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1..2.3",
        "1.2.3.",
        ".1.2.3",
        "0x1.2.3.4",
        "+1.2.3.4",
        "1.2.3.4:123456",
        "[1.2.3.4]:80",
        "[1.2.3.4]",
        "[",
        "]",
        "[]",
        "[]:80",
        "[::1",
        "::1]",
        "[::1]80",
        "[::1]:",
        "[::1]:99999",
        "[[::1]]",
        ":",
        ":::",
        "1:",
        ":1",
        "1::2::3",
        "::1::",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:8::",
        "::1:2:3:4:5:6:7:8",
        "1:2:3:4::5:6:7:8",
        "12345::",
        "g::",
        "1:2:3:4:5:6:7:1.2.3.4",
        "1.2.3.4::",
        "::1.2.3",
        "::1.2.3.4.5",
        "::1.2.3.4:5",
        "::1.2.3.256",
        "::01.2.3.4",
        "fe80::1%eth0",
        "fe80::1%1",
        "::1/128",
        "1.2.3.4/8",
        "1:2:3:4:5:6:7:8:",
        ":1:2:3:4:5:6:7:8",
        "1:::2",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct addr a = {.port = 77};
        CHECK_EQ(parse(cases[i], &a), CT_EVALUE);
        if (check_failures)
            printf("#   for \"%s\"\n", cases[i]);
        CHECK_EQ(a.port, 77); /* nothing is published on failure */
    }
    struct addr a;
    CHECK_EQ(addr_parse("1.2.3.4\0", 8, &a), CT_EVALUE);
}

static void test_family_none_is_printable(void)
{
    char out[ADDR_TEXT_MAX];
    struct addr none = {0};
    addr_format_ip(&none, out);
    CHECK_STR(out, "-");
    addr_format(&none, out);
    CHECK_STR(out, "-:0");
}

/* Random bytes with runs of zeros, so that "::" stands everywhere. */
static void random_ip(struct rng *rng, uint8_t ip[16])
{
    rng_bytes(rng, ip, 16);
    for (size_t i = 0; i < 16; i += 2)
        if (rng_below(rng, 2))
            memset(ip + i, 0, 2);
}

static void test_format_against_inet_ntop(void)
{
    struct rng rng = rng_new();
    char got[ADDR_TEXT_MAX], want[INET6_ADDRSTRLEN];
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t ip[16];
        random_ip(&rng, ip);
        if (i % 100 == 0)
            memcpy(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);
        struct addr a = addr_v4(ip, (uint16_t)rng_u64(&rng)), b = addr_v6(ip, 0);
        addr_format_ip(&a, got);
        CHECK_STR(got, inet_ntop(AF_INET, ip, want, sizeof want));
        /* glibc writes all of ::/96 in dotted form, RFC 5952 §5 only known prefixes */
        if (memcmp(ip, (const uint8_t[12]){0}, 12) == 0)
            continue;
        addr_format_ip(&b, got);
        CHECK_STR(got, inet_ntop(AF_INET6, ip, want, sizeof want));
    }
}

static void test_format_and_parse_are_inverse(void)
{
    struct rng rng = rng_new();
    for (unsigned i = 0; i < 20000; i++) {
        uint8_t ip[16];
        char text[ADDR_TEXT_MAX];
        random_ip(&rng, ip);
        uint16_t port = (uint16_t)rng_u64(&rng);
        struct addr a = i % 2 ? addr_v4(ip, port) : addr_v6(ip, port), b = {0};
        addr_format(&a, text);
        CHECK(strlen(text) < ADDR_TEXT_MAX);
        CHECK_EQ(parse(text, &b), CT_OK);
        CHECK(addr_eq(&a, &b));
    }
}

/* What inet_pton makes of this text, as an address of port 0. */
static bool libc_parse(const char *text, struct addr *out)
{
    uint8_t ip[16];
    if (inet_pton(AF_INET, text, ip) == 1)
        *out = addr_v4(ip, 0);
    else if (inet_pton(AF_INET6, text, ip) == 1)
        *out = addr_v6(ip, 0);
    else
        return false;
    return true;
}

/* An address' text with one to three characters changed, dropped or doubled. */
static void mangle(struct rng *rng, char *text, size_t cap)
{
    static const char letters[] = "0123456789abcdefF:.::%g";
    for (size_t n = rng_below(rng, 4); n; n--) {
        size_t len = strlen(text), at = rng_below(rng, len + 1);
        char c = letters[rng_below(rng, sizeof letters - 1)];
        if (len && at < len && rng_below(rng, 3) == 0) {
            memmove(text + at, text + at + 1, len - at);
        } else if (at < len && rng_below(rng, 2)) {
            text[at] = c;
        } else if (len + 2 < cap) {
            memmove(text + at + 1, text + at, len - at + 1);
            text[at] = c;
        }
    }
}

static void test_parse_against_inet_pton(void)
{
    struct rng rng = rng_new();
    unsigned good = 0, bad = 0;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t ip[16];
        char text[ADDR_TEXT_MAX];
        random_ip(&rng, ip);
        struct addr a = i % 3 ? addr_v6(ip, 0) : addr_v4(ip, 0), want = {0}, got = {0};
        addr_format_ip(&a, text);
        mangle(&rng, text, sizeof text);
        bool ok = libc_parse(text, &want);
        enum ct_err err = parse(text, &got);
        /* "1.2.3.4:5" is no address to inet_pton and has a port to us */
        if (!ok && strchr(text, '.') && err == CT_OK && got.family == ADDR_V4)
            continue;
        if (ok != (err == CT_OK) || (ok && !addr_eq(&got, &want))) {
            check_failed(__FILE__, __LINE__, "not the same as inet_pton");
            printf("#   \"%s\": %s, inet_pton %s\n", text, ct_err_name(err),
                   ok ? "accepts" : "refuses");
        }
        good += ok;
        bad += !ok;
    }
    CHECK(good > 10000);
    CHECK(bad > 10000);
}

static void test_parse_of_anything(void)
{
    struct rng rng = rng_new();
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t bytes[64];
        size_t n = rng_below(&rng, sizeof bytes);
        rng_bytes(&rng, bytes, n);
        struct exact e = exact_of(bytes, n, 0);
        struct addr a;
        struct addr_prefix p;
        (void)addr_parse((const char *)e.data, n, &a);
        (void)addr_prefix_parse((const char *)e.data, n, &p);
        exact_free(&e);
    }
}

static void test_canonical_forms(void)
{
    static const char *const cases[][2] = {
        {"192.0.2.1:5", "192.0.2.1:5"},
        {"[::ffff:192.0.2.1]:5", "192.0.2.1:5"},
        {"[::ffff:0.0.0.0]:5", "0.0.0.0:5"},
        {"[::192.0.2.1]:5", "192.0.2.1:5"},
        {"[::127.0.0.1]:5", "127.0.0.1:5"},
        {"[64:ff9b::192.0.2.1]:5", "192.0.2.1:5"},
        {"[64:ff9b::]:5", "0.0.0.0:5"},
        {"[64:ff9b:1::10.0.0.1]:5", "10.0.0.1:5"},
        {"[64:ff9b:1:ffff:1:2:a00:1]:5", "10.0.0.1:5"},
        {"[::]:5", "[::]:5"},
        {"[::1]:5", "[::1]:5"},
        {"[::100]:5", "0.0.1.0:5"},
        {"[::fffe:192.0.2.1]:5", "[::fffe:c000:201]:5"},
        {"[::1:ffff:192.0.2.1]:5", "[::1:ffff:c000:201]:5"},
        {"[64:ff9b:0:0:0:1:c000:201]:5", "[64:ff9b::1:c000:201]:5"},
        {"[64:ff9b:2::c000:201]:5", "[64:ff9b:2::c000:201]:5"},
        {"[64:ff9c::c000:201]:5", "[64:ff9c::c000:201]:5"},
        {"[2002:c000:201::]:5", "[2002:c000:201::]:5"},
        {"[2001:db8::1]:5", "[2001:db8::1]:5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct addr a = addr_of(cases[i][0]), want = addr_of(cases[i][1]);
        struct addr got = addr_canonical(&a);
        CHECK(addr_eq(&got, &want));
        if (check_failures)
            printf("#   for \"%s\"\n", cases[i][0]);
    }
}

static void test_canonical_drops_the_scope(void)
{
    struct addr a = addr_of("[::ffff:192.0.2.1]:5"), b = addr_of("192.0.2.1:5");
    a.scope = 9;
    struct addr c = addr_canonical(&a);
    CHECK(addr_eq(&c, &b));
}

static void test_prefix_text(void)
{
    static const struct {
        const char *text;
        unsigned bits;
    } good[] = {
        {"10.0.0.0/8", 8},         {"0.0.0.0/0", 0},      {"192.0.2.1/32", 32},
        {"192.0.2.1", 32},         {"fd00::/8", 8},       {"::/0", 0},
        {"::1/128", 128},          {"::1", 128},          {"2001:db8::/33", 33},
        {"::ffff:0.0.0.0/96", 96}, {"172.16.0.0/12", 12},
    };
    static const char *const bad[] = {
        "",
        "/",
        "/8",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.1/8",
        "10.0.0.0/08",
        "10.0.0.0/-1",
        "10.0.0.0/8 ",
        "10.0.0.0/8/8",
        "10.0.0/8",
        "::/129",
        "::1/127",
        "[::]/0",
        "[::1]",
        "fd00::1/8",
        "10.0.0.0:80",
        "10.0.0.0/1000",
        "::/",
        "192.0.2.128/24",
    };
    struct addr_prefix p;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        CHECK_EQ(parse_prefix(good[i].text, &p), CT_OK);
        CHECK_EQ(p.bits, good[i].bits);
        CHECK_EQ(p.family, strchr(good[i].text, ':') ? ADDR_V6 : ADDR_V4);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(parse_prefix(bad[i], &p), CT_EVALUE);
        if (check_failures)
            printf("#   for \"%s\"\n", bad[i]);
    }
}

static bool bit(const uint8_t *ip, unsigned i)
{
    return ip[i / 8] >> (7 - i % 8) & 1;
}

static void flip(struct addr *a, unsigned i)
{
    a->ip[i / 8] ^= (uint8_t)(1u << (7 - i % 8));
}

/* At every length: the first and last address lie in it, a change within its bits leaves it. */
static void prefix_at(struct rng *rng, uint8_t family, unsigned bits)
{
    unsigned width = family == ADDR_V4 ? 32 : 128;
    uint8_t ip[16];
    rng_bytes(rng, ip, 16);
    struct addr low = family == ADDR_V4 ? addr_v4(ip, 1) : addr_v6(ip, 1);
    for (unsigned i = bits; i < width; i++)
        if (bit(low.ip, i))
            flip(&low, i);
    struct addr high = low;
    for (unsigned i = bits; i < width; i++)
        flip(&high, i);
    char text[ADDR_TEXT_MAX + 8];
    addr_format_ip(&low, text);
    snprintf(text + strlen(text), 8, "/%u", bits);
    struct addr_prefix p;
    CHECK_EQ(parse_prefix(text, &p), CT_OK);
    CHECK_EQ(p.bits, bits);
    CHECK(addr_prefix_has(&p, &low));
    CHECK(addr_prefix_has(&p, &high));
    for (unsigned i = 0; i < bits; i++) {
        struct addr out = i % 2 ? low : high;
        flip(&out, i);
        CHECK(!addr_prefix_has(&p, &out));
    }
    struct addr other = low;
    other.family = family == ADDR_V4 ? ADDR_V6 : ADDR_V4;
    CHECK(!addr_prefix_has(&p, &other));
    if (bits < width) { /* host bits that are set are refused */
        flip(&low, bits + (unsigned)rng_below(rng, width - bits));
        addr_format_ip(&low, text);
        snprintf(text + strlen(text), 8, "/%u", bits);
        CHECK_EQ(parse_prefix(text, &p), CT_EVALUE);
    }
}

static void test_prefixes_of_every_length(void)
{
    struct rng rng = rng_new();
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned bits = 0; bits <= 32; bits++)
            prefix_at(&rng, ADDR_V4, bits);
        for (unsigned bits = 0; bits <= 128; bits++)
            prefix_at(&rng, ADDR_V6, bits);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_made_from_bytes),
        CHECK_TEST(test_has_no_padding),
        CHECK_TEST(test_equality),
        CHECK_TEST(test_any),
        CHECK_TEST(test_text),
        CHECK_TEST(test_text_that_is_none),
        CHECK_TEST(test_family_none_is_printable),
        CHECK_TEST(test_format_against_inet_ntop),
        CHECK_TEST(test_format_and_parse_are_inverse),
        CHECK_TEST(test_parse_against_inet_pton),
        CHECK_TEST(test_parse_of_anything),
        CHECK_TEST(test_canonical_forms),
        CHECK_TEST(test_canonical_drops_the_scope),
        CHECK_TEST(test_prefix_text),
        CHECK_TEST(test_prefixes_of_every_length),
    };
    return CHECK_RUN(tests);
}
