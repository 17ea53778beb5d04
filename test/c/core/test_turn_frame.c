#include "check.h"
#include "core/stun_wire.h"
#include "core/turn_frame.h"
#include "exact.h"
#include "rng.h"
#include "vectors.h"

static struct turn_channel_data decoded(const uint8_t *data, size_t len, enum ct_err want)
{
    struct turn_channel_data d = {0};
    CHECK_EQ(turn_channel_data_decode(data, len, &d), want);
    return d;
}

static void test_kinds(void)
{
    for (unsigned first = 0; first < 256; first++) {
        enum turn_frame_kind want = first < 4                   ? TURN_FRAME_STUN
                                    : first >= 20 && first < 64 ? TURN_FRAME_DTLS
                                    : first >= 64 && first < 80 ? TURN_FRAME_CHANNEL
                                                                : TURN_FRAME_OTHER;
        CHECK_EQ(turn_frame_kind((uint8_t)first), want);
    }
}

static void test_vectors(void)
{
    struct vectors v = vectors_open("channel_data.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r)) {
        uint8_t data[64], out[64];
        if (!vector_is(&r.line[0], "channel_data"))
            continue;
        size_t len = vector_hex(vector_find(&r, "data")->word[1], data, sizeof data);
        uint16_t channel = (uint16_t)vector_number(vector_find(&r, "channel")->word[1]);
        bool stream = strcmp(vector_find(&r, "transport")->word[1], "stream") == 0;

        struct exact e = exact_of(r.bytes, r.len, seen);
        struct turn_channel_data d = decoded(e.data, e.len, CT_OK);
        CHECK_EQ(d.channel, channel);
        CHECK(span_eq(d.data, span_of(data, len)));

        struct wbuf w = wbuf_of(out, sizeof out);
        turn_channel_data_encode(&w, channel, span_of(data, len), stream);
        CHECK(!w.failed);
        CHECK(span_eq(span_of(out, w.pos), span_of(r.bytes, r.len)));
        exact_free(&e);
        seen++;
    }
    CHECK_EQ(seen, 3);
    vectors_close(&v);
}

static void test_malformed_vectors(void)
{
    struct vectors v = vectors_open("malformed.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r)) {
        const struct vector_line *line = vector_find(&r, "channel_data");
        if (!line)
            continue;
        struct exact e = exact_of(r.bytes, r.len, 0);
        struct turn_channel_data d;
        CHECK_STR(ct_err_name(turn_channel_data_decode(e.data, e.len, &d)), line->word[1]);
        exact_free(&e);
        seen++;
    }
    CHECK_EQ(seen, 3);
    vectors_close(&v);
}

/* RFC 8656 §12.5: over UDP, padding may follow and is ignored. */
static void test_bytes_behind_the_length_are_ignored(void)
{
    struct turn_channel_data d = decoded((const uint8_t *)"\x40\x01\x00\x03"
                                                          "abcdefgh",
                                         12, CT_OK);
    CHECK_EQ(d.channel, 0x4001);
    CHECK(span_eq(d.data, span_str("abc")));
}

static void test_channel_range(void)
{
    for (unsigned channel = 0; channel <= 0xFFFF; channel++) {
        const uint8_t bytes[] = {(uint8_t)(channel >> 8), (uint8_t)channel, 0, 0};
        bool ok = channel >= 0x4000 && channel <= 0x4FFF;
        decoded(bytes, sizeof bytes, ok ? CT_OK : CT_ECHANNEL);
        struct turn_channel_data old;
        bool old_ok = channel >= 0x4000 && channel <= 0x7FFF;
        enum ct_err want = old_ok ? CT_OK : CT_ECHANNEL;
        CHECK_EQ(turn_channel_data_decode_old(bytes, sizeof bytes, &old), want);
    }
}

static void test_every_truncation_is_short(void)
{
    static const uint8_t frame[] = "\x4f\xff\x00\x05"
                                   "hello";
    for (size_t len = 0; len < 9; len++)
        for (size_t skew = 0; skew < 8; skew++) {
            struct exact e = exact_of(frame, len, skew);
            decoded(e.data, e.len, CT_ESHORT);
            exact_free(&e);
        }
    decoded(frame, 9, CT_OK);
}

static void test_the_largest_payload(void)
{
    static uint8_t data[65536], out[4 + 65536 + 4];
    struct wbuf w = wbuf_of(out, sizeof out);
    memset(out, 0xEE, sizeof out);
    turn_channel_data_encode(&w, 0x4000, span_of(data, 65535), true);
    CHECK(!w.failed);
    CHECK_EQ(w.pos, 4 + 65536);
    CHECK_EQ(out[4 + 65535], 0);
    CHECK_EQ(decoded(out, w.pos, CT_OK).data.len, 65535);
    size_t size;
    CHECK_EQ(turn_frame_size(out, 4, &size), CT_OK);
    CHECK_EQ(size, 4 + 65536);

    w = wbuf_of(out, sizeof out);
    turn_channel_data_encode(&w, 0x4000, span_of(data, 65536), false);
    CHECK(w.failed);
    CHECK_EQ(w.pos, 0);
}

static void test_encoding_needs_room(void)
{
    for (size_t cap = 0; cap < 12; cap++) {
        struct exact e = exact_of("............", cap, 0);
        struct wbuf w = wbuf_of(e.data, cap);
        turn_channel_data_encode(&w, 0x4000, span_str("abcde"), true);
        CHECK(w.failed);
        exact_free(&e);
    }
}

static void test_encode_and_decode_are_inverse(void)
{
    struct rng rng = rng_new();
    for (unsigned i = 0; i < 5000; i++) {
        uint8_t data[64], out[4 + sizeof data + 4];
        size_t len = rng_below(&rng, sizeof data + 1);
        uint16_t channel = (uint16_t)(0x4000 + rng_below(&rng, 0x1000));
        bool stream = i % 2;
        rng_bytes(&rng, data, len);
        memset(out, 0xEE, sizeof out);
        struct wbuf w = wbuf_of(out, sizeof out);
        turn_channel_data_encode(&w, channel, span_of(data, len), stream);
        CHECK_EQ(w.pos, 4 + (stream ? stun_padded(len) : len));
        for (size_t k = 4 + len; k < w.pos; k++)
            CHECK_EQ(out[k], 0);
        struct exact e = exact_of(out, w.pos, rng_below(&rng, 8));
        struct turn_channel_data d = decoded(e.data, e.len, CT_OK);
        CHECK_EQ(d.channel, channel);
        CHECK(span_eq(d.data, span_of(data, len)));
        exact_free(&e);
    }
}

/* ---- streams ---- */

enum {
    FRAMES_MAX = 8
};

/* What a connection makes of the bytes it has so far. */
struct stream {
    uint8_t bytes[256];
    size_t len;
    struct {
        size_t at, size;
        enum turn_frame_kind kind;
    } frame[FRAMES_MAX];
    size_t frames, taken;
};

static void feed(struct stream *s, const uint8_t *data, size_t len)
{
    memcpy(s->bytes + s->len, data, len);
    s->len += len;
    while (s->taken < s->len) {
        struct exact e = exact_of(s->bytes + s->taken, s->len - s->taken, 0);
        size_t size = 99;
        CHECK_EQ(turn_frame_size(e.data, e.len, &size), CT_OK);
        enum turn_frame_kind kind = turn_frame_kind(e.data[0]);
        exact_free(&e);
        if (size == 0 || size > s->len - s->taken)
            return;
        s->frame[s->frames].at = s->taken;
        s->frame[s->frames].size = size;
        s->frame[s->frames++].kind = kind;
        s->taken += size;
    }
}

static void check_frames(const struct stream *s, const struct vector_record *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct vector_line *line = &r->line[i];
        if (!vector_is(line, "frame"))
            continue;
        bool channel = strcmp(line->word[3], "channel") == 0;
        CHECK_EQ(s->frame[n].at, vector_number(line->word[1]));
        CHECK_EQ(s->frame[n].size, vector_number(line->word[2]));
        CHECK_EQ(s->frame[n].kind, channel ? TURN_FRAME_CHANNEL : TURN_FRAME_STUN);
        n++;
    }
    CHECK_EQ(s->frames, n);
    CHECK_EQ(s->taken, r->len);
}

/* In two parts at every point, in three at every two points, and in steps of every size. */
static void check_splits(const struct vector_record *r)
{
    for (size_t a = 0; a <= r->len; a++)
        for (size_t b = a; b <= r->len; b++) {
            struct stream s = {0};
            feed(&s, r->bytes, a);
            feed(&s, r->bytes + a, b - a);
            feed(&s, r->bytes + b, r->len - b);
            check_frames(&s, r);
        }
    for (size_t step = 1; step <= r->len; step++) {
        struct stream s = {0};
        for (size_t at = 0; at < r->len; at += step)
            feed(&s, r->bytes + at, r->len - at < step ? r->len - at : step);
        check_frames(&s, r);
    }
}

static void test_streams_in_every_split(void)
{
    struct vectors v = vectors_open("channel_data.txt");
    struct vector_record r;
    unsigned seen = 0;
    while (vectors_record(&v, &r)) {
        if (!vector_is(&r.line[0], "stream"))
            continue;
        check_splits(&r);
        seen++;
    }
    CHECK_EQ(seen, 1);
    vectors_close(&v);
}

static enum ct_err size_of(const void *bytes, size_t len, size_t *size)
{
    struct exact e = exact_of(bytes, len, 0);
    enum ct_err err = turn_frame_size(e.data, e.len, size);
    exact_free(&e);
    return err;
}

static void test_what_cannot_start_a_frame(void)
{
    size_t size;
    for (unsigned first = 0; first < 256; first++) {
        const uint8_t byte = (uint8_t)first;
        bool ok = first < 4 || (first >= 64 && first < 128);
        CHECK_EQ(size_of(&byte, 1, &size), ok ? CT_OK : CT_ETYPE);
    }
    CHECK_EQ(size_of("\0\1\0\2\x21\x12\xa4\x42", 8, &size), CT_ELENGTH);
    CHECK_EQ(size_of("\0\1\0\4\x21\x12\xa4\x43", 8, &size), CT_ECOOKIE);
    CHECK_EQ(size_of("GET / HTTP/1.1\r\n", 16, &size), CT_OK); /* a "channel", as it happens */
    CHECK_EQ(size, 4 + stun_padded('T' << 8 | ' '));
}

static void test_too_little_to_tell(void)
{
    size_t size = 99;
    CHECK_EQ(turn_frame_size(NULL, 0, &size), CT_OK);
    CHECK_EQ(size, 0);
    for (size_t len = 1; len < 4; len++) {
        size = 99;
        CHECK_EQ(size_of("\x40\0\0\0", len, &size), CT_OK);
        CHECK_EQ(size, 0);
    }
    for (size_t len = 1; len < 8; len++) {
        size = 99;
        CHECK_EQ(size_of("\0\1\0\4\x21\x12\xa4\x42", len, &size), CT_OK);
        CHECK_EQ(size, 0);
    }
    CHECK_EQ(size_of("\0\1\xff\xfc\x21\x12\xa4\x42", 8, &size), CT_OK);
    CHECK_EQ(size, 20 + 65532);
}

/* Refused by the decoder, but a stream must stay in step. */
static void test_reserved_channels_are_sized(void)
{
    size_t size = 0;
    CHECK_EQ(size_of("\x50\0\0\5", 4, &size), CT_OK);
    CHECK_EQ(size, 12);
    CHECK_EQ(size_of("\x7f\xff\0\1", 4, &size), CT_OK);
    CHECK_EQ(size, 8);
}

static void test_anything(void)
{
    struct rng rng = rng_new();
    for (unsigned i = 0; i < 50000; i++) {
        uint8_t bytes[48];
        size_t len = rng_below(&rng, sizeof bytes), size = 0;
        struct turn_channel_data d;
        rng_bytes(&rng, bytes, len);
        if (len > 2 && i % 2)
            bytes[2] = 0;
        struct exact e = exact_of(bytes, len, i % 8);
        (void)turn_frame_size(e.data, e.len, &size);
        if (turn_channel_data_decode(e.data, e.len, &d) == CT_OK)
            CHECK(d.data.data == e.data + 4 && d.data.len <= len - 4);
        exact_free(&e);
    }
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_kinds),
        CHECK_TEST(test_vectors),
        CHECK_TEST(test_malformed_vectors),
        CHECK_TEST(test_bytes_behind_the_length_are_ignored),
        CHECK_TEST(test_channel_range),
        CHECK_TEST(test_every_truncation_is_short),
        CHECK_TEST(test_the_largest_payload),
        CHECK_TEST(test_encoding_needs_room),
        CHECK_TEST(test_encode_and_decode_are_inverse),
        CHECK_TEST(test_streams_in_every_split),
        CHECK_TEST(test_what_cannot_start_a_frame),
        CHECK_TEST(test_too_little_to_tell),
        CHECK_TEST(test_reserved_channels_are_sized),
        CHECK_TEST(test_anything),
    };
    return CHECK_RUN(tests);
}
