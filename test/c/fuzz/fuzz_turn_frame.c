/*
 * Any bytes as a stream and as ChannelData: what is said of the first bytes of a frame stays true
 * when more of them come, and ChannelData that is read is written again the same.
 */
#include "core/stun_wire.h"
#include "core/turn_frame.h"
#include "exact.h"
#include "fuzz.h"

/* The size of the first frame, which more and more bytes may only find out, never change. */
static enum ct_err first_frame(const uint8_t *data, size_t len, size_t *size)
{
    size_t known = 0;
    enum ct_err err = CT_OK;
    for (size_t n = 0; n <= len && n <= STUN_HEADER_SIZE; n++) {
        struct exact e = exact_of(data, n, n % 8);
        size_t now = SIZE_MAX;
        enum ct_err now_err = turn_frame_size(e.data, e.len, &now);
        exact_free(&e);
        MUST(err == CT_OK || now_err == err);
        MUST(!known || (now_err == CT_OK && now == known));
        err = now_err;
        if (err == CT_OK)
            known = now;
    }
    *size = known;
    return err;
}

static void check_channel_data(const uint8_t *data, size_t len)
{
    struct turn_channel_data d;
    struct exact in = exact_of(data, len, len % 8), out = exact_of(data, len, 0);
    if (turn_channel_data_decode(in.data, in.len, &d) == CT_OK) {
        MUST(turn_frame_kind(data[0]) == TURN_FRAME_CHANNEL);
        MUST(d.channel >= STUN_CHANNEL_MIN && d.channel <= STUN_CHANNEL_MAX);
        MUST(d.data.data == in.data + 4 && d.data.len <= len - 4);
        struct wbuf w = wbuf_of(out.data, 4 + d.data.len);
        turn_channel_data_encode(&w, d.channel, d.data, false);
        MUST(!w.failed && w.pos == 4 + d.data.len && memcmp(out.data, in.data, w.pos) == 0);
    }
    exact_free(&in);
    exact_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t frame = 0;
    for (size_t at = 0; at < size; at += frame) {
        size_t left = size - at;
        check_channel_data(data + at, left);
        if (first_frame(data + at, left, &frame) != CT_OK)
            break;
        MUST(frame % 4 == 0 && (frame == 0 || frame >= STUN_CHANNEL_HEADER_SIZE));
        MUST(frame || left < 8);
        if (frame == 0 || frame > left)
            break;
    }
    return 0;
}
