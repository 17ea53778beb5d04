#include "check.h"
#include "core/buf.h"
#include "exact.h"
#include "rng.h"

static void test_reads_big_endian_at_any_offset(void)
{
    static const uint8_t bytes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    for (size_t skew = 0; skew < 8; skew++) {
        struct exact e = exact_of(bytes, sizeof bytes, skew);
        struct rbuf r = rbuf_of(e.data, e.len);
        CHECK_EQ(rbuf_u8(&r), 0x01);
        CHECK_EQ(rbuf_u16(&r), 0x0203);
        CHECK_EQ(rbuf_u32(&r), 0x04050607);
        CHECK(rbuf_u64(&r) == 0x08090a0b0c0d0e0fu);
        CHECK_EQ(rbuf_left(&r), 0);
        CHECK(!r.failed);
        exact_free(&e);
    }
}

static void test_a_read_beyond_the_end_fails_for_good(void)
{
    struct exact e = exact_of("abc", 3, 1);
    struct rbuf r = rbuf_of(e.data, e.len);
    CHECK_EQ(rbuf_u32(&r), 0);
    CHECK(r.failed);
    CHECK_EQ(r.pos, 0);
    CHECK_EQ(rbuf_left(&r), 0);
    CHECK_EQ(rbuf_u8(&r), 0);
    CHECK(rbuf_take(&r, 0) == NULL);
    CHECK(rbuf_u64(&r) == 0);
    exact_free(&e);
}

static void test_half_a_long_number_reads_as_zero(void)
{
    struct exact e = exact_of("\xff\xff\xff\xff\xff\xff\xff", 7, 0);
    struct rbuf r = rbuf_of(e.data, e.len);
    rbuf_u64(&r);
    CHECK(r.failed);
    r = rbuf_of(e.data, 1);
    CHECK_EQ(rbuf_u16(&r), 0);
    CHECK(r.failed);
    exact_free(&e);
}

static void test_take_gives_views_and_knows_no_overflow(void)
{
    struct exact e = exact_of("abcde", 5, 3);
    struct rbuf r = rbuf_of(e.data, e.len);
    CHECK(rbuf_take(&r, 2) == e.data);
    CHECK(rbuf_take(&r, 0) == e.data + 2);
    CHECK_EQ(rbuf_left(&r), 3);
    CHECK(rbuf_take(&r, 3) == e.data + 2);
    CHECK(rbuf_take(&r, 0) == e.data + 5);
    CHECK(!r.failed);
    CHECK(rbuf_take(&r, SIZE_MAX) == NULL);
    CHECK(r.failed);
    exact_free(&e);
}

static void test_writes_what_reads_back(void)
{
    for (size_t skew = 0; skew < 8; skew++) {
        struct exact e = exact_of("--------------------", 20, skew);
        struct wbuf w = wbuf_of(e.data, e.len);
        wbuf_u8(&w, 0x81);
        wbuf_u16(&w, 0x8283);
        wbuf_u32(&w, 0x84858687);
        wbuf_u64(&w, 0x88898a8b8c8d8e8fu);
        wbuf_bytes(&w, "\x90\x91", 2);
        wbuf_zeros(&w, 3);
        CHECK(!w.failed);
        CHECK_EQ(w.pos, 20);
        CHECK_BYTES(e.data,
                    "\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\0\0\0",
                    20);
        exact_free(&e);
    }
}

static void test_a_write_beyond_the_end_fails_for_good(void)
{
    struct exact e = exact_of("...", 3, 0);
    struct wbuf w = wbuf_of(e.data, e.len);
    wbuf_bytes(&w, "abcd", 4);
    CHECK(w.failed);
    CHECK_EQ(w.pos, 0);
    wbuf_u8(&w, 'x');
    wbuf_bytes(&w, NULL, 0);
    wbuf_zeros(&w, 1);
    CHECK(wbuf_room(&w, 0) == NULL);
    CHECK_BYTES(e.data, "...", 3);

    w = wbuf_of(e.data, e.len);
    CHECK(wbuf_room(&w, SIZE_MAX) == NULL);
    CHECK(w.failed);
    exact_free(&e);
}

static void test_a_write_may_fill_the_buffer(void)
{
    struct exact e = exact_of("...", 3, 0);
    struct wbuf w = wbuf_of(e.data, e.len);
    CHECK(wbuf_room(&w, 3) == e.data);
    wbuf_bytes(&w, NULL, 0);
    wbuf_zeros(&w, 0);
    CHECK(!w.failed);
    wbuf_u16(&w, 1);
    CHECK(w.failed);
    exact_free(&e);
}

static void test_patches_only_what_was_written(void)
{
    uint8_t bytes[8] = {0};
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    wbuf_u32(&w, 0x01020304);
    wbuf_patch_u16(&w, 2, 0xaabb);
    CHECK(!w.failed);
    CHECK_BYTES(bytes, "\x01\x02\xaa\xbb\0\0\0\0", 8);
    wbuf_patch_u16(&w, 3, 0xffff);
    CHECK(w.failed);
    w.failed = false;
    wbuf_patch_u16(&w, SIZE_MAX, 0xffff);
    CHECK(w.failed);
    CHECK_BYTES(bytes, "\x01\x02\xaa\xbb\0\0\0\0", 8);

    w = wbuf_of(bytes, sizeof bytes);
    wbuf_u8(&w, 1);
    wbuf_patch_u16(&w, 0, 0xffff);
    CHECK(w.failed);
}

static void test_spans(void)
{
    const uint8_t same[] = {'a', 'b'};
    CHECK(span_eq(span_str("ab"), span_of(same, 2)));
    CHECK(!span_eq(span_str("ab"), span_str("ac")));
    CHECK(!span_eq(span_str("ab"), span_str("a")));
    CHECK(span_eq(span_str(""), (struct span){0}));
}

/* Random reads against an index that is checked by hand. */
static void test_random_reads(void)
{
    struct rng rng = rng_new();
    for (unsigned round = 0; round < 20000; round++) {
        uint8_t bytes[40];
        size_t len = rng_below(&rng, sizeof bytes), at = 0;
        bool failed = false;
        rng_bytes(&rng, bytes, sizeof bytes);
        struct exact e = exact_of(bytes, len, rng_below(&rng, 8));
        struct rbuf r = rbuf_of(e.data, e.len);
        for (unsigned i = 0; i < 12; i++) {
            size_t n = (size_t)1 << rng_below(&rng, 4);
            uint64_t want = 0;
            failed = failed || n > len - at;
            for (size_t k = 0; !failed && k < n; k++)
                want = want << 8 | bytes[at++];
            uint64_t got = n == 1   ? rbuf_u8(&r)
                           : n == 2 ? rbuf_u16(&r)
                           : n == 4 ? rbuf_u32(&r)
                                    : rbuf_u64(&r);
            CHECK(failed || got == want);
            CHECK_EQ(r.failed, failed);
        }
        exact_free(&e);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_reads_big_endian_at_any_offset),
        CHECK_TEST(test_a_read_beyond_the_end_fails_for_good),
        CHECK_TEST(test_half_a_long_number_reads_as_zero),
        CHECK_TEST(test_take_gives_views_and_knows_no_overflow),
        CHECK_TEST(test_writes_what_reads_back),
        CHECK_TEST(test_a_write_beyond_the_end_fails_for_good),
        CHECK_TEST(test_a_write_may_fill_the_buffer),
        CHECK_TEST(test_patches_only_what_was_written),
        CHECK_TEST(test_spans),
        CHECK_TEST(test_random_reads),
    };
    return CHECK_RUN(tests);
}
