#include "check.h"
#include "exact.h"
#include "relay/term.h"
#include "rng.h"

#include <limits.h>

/* A term of every kind that is known, behind its version byte. */
static struct term_out sample(void)
{
    struct term_out out;

    term_out_init(&out);
    ei_x_encode_version(&out.x);
    term_put_tuple(&out, 3);
    term_put_atom(&out, "hello");
    term_put_map(&out, 2);
    term_put_text(&out, "a binary as key");
    term_put_list(&out, 3);
    term_put_uint(&out, 7);
    term_put_uint(&out, 70000);
    term_put_uint(&out, UINT64_MAX);
    term_put_nil(&out);
    term_put_atom(&out, "numbers");
    term_put_nil(&out);
    term_put_tuple(&out, 2);
    ei_x_encode_double(&out.x, 1.5);
    ei_x_encode_string(&out.x, "charlist");
    CHECK(!out.failed);
    return out;
}

static size_t size_of(const struct term_out *out)
{
    return (size_t)out->x.index;
}

/* A term written by `put`, ready to be read; the buffer is the caller's to free. */
static struct term_in reread(struct term_out *out)
{
    struct term_in in = {0};

    CHECK(term_in_init(&in, (const uint8_t *)out->x.buff, size_of(out)));
    return in;
}

static void begin(struct term_out *out)
{
    term_out_init(out);
    ei_x_encode_version(&out->x);
}

static void test_reads_what_it_wrote(void)
{
    struct term_out out = sample();
    struct term_in in = reread(&out);
    char name[TERM_ATOM_MAX];
    struct span text;
    uint64_t n;

    CHECK_EQ(term_tuple(&in), 3);
    CHECK(term_atom(&in, name));
    CHECK_STR(name, "hello");
    CHECK_EQ(term_map(&in), 2);
    CHECK(term_binary(&in, &text));
    CHECK(span_eq(text, span_str("a binary as key")));
    CHECK_EQ(term_list(&in), 3);
    CHECK(term_uint(&in, UINT64_MAX, &n));
    CHECK_EQ(n, 7);
    CHECK(term_uint(&in, UINT64_MAX, &n));
    CHECK_EQ(n, 70000);
    CHECK(term_uint(&in, UINT64_MAX, &n));
    CHECK(n == UINT64_MAX);
    term_list_end(&in);
    CHECK(term_atom(&in, name));
    CHECK_STR(name, "numbers");
    CHECK_EQ(term_list(&in), 0);
    CHECK_EQ(term_tuple(&in), 2);
    term_skip(&in);
    term_skip(&in);
    CHECK_EQ(in.at, out.x.index);
    term_out_free(&out);
}

static void test_stays_on_another_kind(void)
{
    struct term_out out;
    char name[TERM_ATOM_MAX];
    struct span text;
    uint64_t n;
    bool b;

    begin(&out);
    term_put_uint(&out, 300);
    struct term_in in = reread(&out);
    int at = in.at;
    CHECK_EQ(term_tuple(&in), -1);
    CHECK_EQ(term_map(&in), -1);
    CHECK_EQ(term_list(&in), -1);
    CHECK(!term_atom(&in, name));
    CHECK(!term_bool(&in, &b));
    CHECK(!term_binary(&in, &text));
    CHECK(!term_uint(&in, 299, &n));
    CHECK_EQ(in.at, at);
    CHECK(term_uint(&in, 300, &n));
    CHECK_EQ(n, 300);
    term_out_free(&out);

    begin(&out);
    term_put_atom(&out, "true");
    in = reread(&out);
    CHECK(!term_uint(&in, 1, &n));
    CHECK(term_bool(&in, &b) && b);
    term_out_free(&out);
}

static void test_reads_no_negative_number(void)
{
    struct term_out out;
    uint64_t n;

    begin(&out);
    ei_x_encode_long(&out.x, -1);
    struct term_in in = reread(&out);
    CHECK(!term_uint(&in, UINT64_MAX, &n));
    term_out_free(&out);
}

static void test_empty_binary_is_not_null(void)
{
    struct term_out out;
    struct span text = {0};

    begin(&out);
    term_put_text(&out, "");
    struct term_in in = reread(&out);
    CHECK(term_binary(&in, &text));
    CHECK(text.data != NULL);
    CHECK_EQ(text.len, 0);
    term_out_free(&out);
}

static bool accepts(const void *bytes, size_t len)
{
    struct exact e = exact_of(bytes, len, 0);
    struct term_in in;
    bool ok = term_in_init(&in, e.data, e.len);

    exact_free(&e);
    return ok;
}

static void test_refuses_every_beginning(void)
{
    struct term_out out = sample();

    for (size_t n = 0; n < size_of(&out); n++)
        CHECK(!accepts(out.x.buff, n));
    CHECK(accepts(out.x.buff, size_of(&out)));
    term_put_nil(&out);
    CHECK(!accepts(out.x.buff, size_of(&out)));
    term_out_free(&out);
}

static void test_refuses_lengths_that_lie(void)
{
    static const struct {
        size_t len;
        uint8_t bytes[12];
    } lies[] = {
        {6, {131, 109, 255, 255, 255, 255}},        /* binary of 4 GiB */
        {7, {131, 109, 0, 0, 0, 2, 'x'}},           /* binary, a byte short */
        {7, {131, 108, 255, 255, 255, 255, 106}},   /* list */
        {6, {131, 116, 255, 255, 255, 255}},        /* map */
        {6, {131, 116, 128, 0, 0, 0}},              /* map whose doubled arity overflows */
        {6, {131, 105, 255, 255, 255, 255}},        /* tuple */
        {3, {131, 104, 1}},                         /* tuple without its element */
        {4, {131, 110, 9, 0}},                      /* integer without its digits */
        {4, {131, 107, 255, 255}},                  /* string */
        {9, {131, 108, 0, 0, 0, 1, 97, 1, 97}},     /* improper list, cut off */
        {10, {131, 108, 0, 0, 0, 1, 97, 1, 97, 2}}, /* improper list */
        {5, {131, 119, 200, 'a', 'b'}},             /* atom */
        {3, {131, 80, 0}},                          /* compressed */
        {6, {131, 77, 0, 0, 0, 0}},                 /* bit string */
        {3, {130, 97, 1}},                          /* another version */
    };

    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++)
        CHECK(!accepts(lies[i].bytes, lies[i].len));
}

static void test_refuses_deep_nesting(void)
{
    for (int depth = 1; depth < 2 * TERM_DEPTH_MAX; depth++) {
        struct term_out out;
        begin(&out);
        for (int i = 0; i < depth; i++)
            term_put_tuple(&out, 1);
        term_put_nil(&out);
        CHECK_EQ(accepts(out.x.buff, size_of(&out)), depth <= TERM_DEPTH_MAX);
        term_out_free(&out);
    }
}

/* What is accepted, ei reads within its bounds: it ends where the frame ends. */
static void test_accepts_only_what_ei_reads(void)
{
    struct rng rng = rng_new();
    struct term_out out = sample();
    unsigned accepted = 0;

    for (int i = 0; i < 200000; i++) {
        struct exact e = exact_of(out.x.buff, size_of(&out), 0);
        struct term_in in;
        for (size_t flips = 1 + rng_below(&rng, 3); flips > 0; flips--)
            e.data[rng_below(&rng, e.len)] = (uint8_t)rng_u64(&rng);
        if (term_in_init(&in, e.data, e.len)) {
            char shown[TERM_SHOW_MAX];
            term_show(&in, shown);
            term_skip(&in);
            CHECK_EQ(in.at, e.len);
            accepted++;
        }
        exact_free(&e);
    }
    CHECK(accepted > 1000);
    term_out_free(&out);
}

static void check_shown(struct term_out *out, const char *want)
{
    char shown[TERM_SHOW_MAX];
    struct term_in in = reread(out);
    int at = in.at;

    term_show(&in, shown);
    CHECK_STR(shown, want);
    CHECK_EQ(in.at, at);
    term_out_free(out);
}

static void test_shows_terms(void)
{
    struct term_out out;
    char atom[256];

    begin(&out);
    term_put_text(&out, "caf\xc3\xa9\n\"");
    check_shown(&out, "\"caf???\"\"");
    begin(&out);
    term_put_text(&out, "0123456789012345678901234567890123456789012345678901234567890123+");
    check_shown(&out, "\"0123456789012345678901234567890123456789012345678901234567890123\"...");
    begin(&out);
    ei_x_encode_long(&out.x, LONG_MIN);
    check_shown(&out, "-9223372036854775808");
    begin(&out);
    term_put_uint(&out, UINT64_MAX);
    check_shown(&out, "18446744073709551615");
    begin(&out);
    ei_x_encode_string(&out.x, "abc");
    check_shown(&out, "a charlist");
    begin(&out);
    ei_x_encode_double(&out.x, 0.5);
    check_shown(&out, "a float");
    begin(&out);
    term_put_nil(&out);
    check_shown(&out, "a list of 0");
    begin(&out);
    term_put_map(&out, 0);
    check_shown(&out, "a map of 0");
    begin(&out);
    memset(atom, 'a', sizeof atom - 1);
    atom[sizeof atom - 1] = '\0';
    term_put_atom(&out, atom);
    atom[TERM_SHOW_MAX - 1] = '\0';
    check_shown(&out, atom);
}

static void test_writing_is_sticky(void)
{
    struct term_out out, none = {.failed = true};

    term_out_init(&out);
    term_put_uint(&out, 1);
    int written = out.x.index;
    term_put_terms(&out, &none, 0);
    CHECK(out.failed);
    term_put_uint(&out, 2);
    CHECK_EQ(out.x.index, written);
    term_out_free(&out);
    CHECK(out.failed);
    term_out_free(&out);
}

static void test_joins_terms(void)
{
    struct term_out out, part;
    struct addr a = addr_v4((const uint8_t[]){192, 0, 2, 1}, 9);
    struct span text;

    begin(&out);
    term_out_init(&part);
    term_put_addr(&part, &a);
    term_put_terms(&out, &part, size_of(&part));
    struct term_in in = reread(&out);
    CHECK(term_binary(&in, &text));
    CHECK(span_eq(text, span_str("192.0.2.1:9")));
    term_out_free(&part);
    term_out_free(&out);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_reads_what_it_wrote),
        CHECK_TEST(test_stays_on_another_kind),
        CHECK_TEST(test_reads_no_negative_number),
        CHECK_TEST(test_empty_binary_is_not_null),
        CHECK_TEST(test_refuses_every_beginning),
        CHECK_TEST(test_refuses_lengths_that_lie),
        CHECK_TEST(test_refuses_deep_nesting),
        CHECK_TEST(test_accepts_only_what_ei_reads),
        CHECK_TEST(test_shows_terms),
        CHECK_TEST(test_writing_is_sticky),
        CHECK_TEST(test_joins_terms),
    };
    return CHECK_RUN(tests);
}
