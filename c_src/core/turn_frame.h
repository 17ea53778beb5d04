/*
 * ChannelData (RFC 8656 §12.4) and how frames are told apart, on datagrams and on streams.
 *
 *  0                   1                   2                   3
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Channel Number        |            Length             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                       Application Data ...                    |  on streams padded to 4, the
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+  padding not in Length
 */
#ifndef CT_CORE_TURN_FRAME_H
#define CT_CORE_TURN_FRAME_H

#include "core/buf.h"
#include "core/err.h"
#include "core/stun_wire.h"

enum turn_frame_kind {
    TURN_FRAME_STUN,    /* first byte 0..3 */
    TURN_FRAME_CHANNEL, /* 64..79 */
    TURN_FRAME_DTLS,    /* 20..63 */
    TURN_FRAME_OTHER,   /* reserved: dropped */
};

/* By the first byte (RFC 7983 §7, RFC 8656 §12). */
static inline enum turn_frame_kind turn_frame_kind(uint8_t first)
{
    if (first <= 3)
        return TURN_FRAME_STUN;
    if (first >= 64 && first <= 79)
        return TURN_FRAME_CHANNEL;
    return first >= 20 && first <= 63 ? TURN_FRAME_DTLS : TURN_FRAME_OTHER;
}

struct turn_channel_data {
    uint16_t channel;
    struct span data;
};

/* One with a channel number up to `most`; errors as below. */
static inline enum ct_err turn_channel_data_up_to(uint16_t most, struct span message,
                                                  struct turn_channel_data *out)
{
    struct rbuf r = rbuf_of(message.data, message.len);
    uint32_t head = rbuf_u32(&r);
    uint16_t channel = (uint16_t)(head >> 16), size = (uint16_t)head;
    if (r.failed)
        return CT_ESHORT;
    if (channel < STUN_CHANNEL_MIN || channel > most)
        return CT_ECHANNEL;
    const uint8_t *payload = rbuf_take(&r, size);
    if (!payload)
        return CT_ESHORT;
    *out = (struct turn_channel_data){.channel = channel, .data = span_of(payload, size)};
    return CT_OK;
}

/*
 * One ChannelData message in a datagram; bytes behind Length are ignored (RFC 8656 §12.5).
 * CT_ESHORT when fewer than 4 or fewer than Length bytes follow; CT_ECHANNEL outside 0x4000-0x4FFF.
 */
enum ct_err turn_channel_data_decode(const uint8_t *data, size_t len,
                                     struct turn_channel_data *out);

/*
 * The same with channels of RFC 5766 too, up to 0x7FFF: a server meets clients of that time
 * (docs/decisions.md).
 */
static inline enum ct_err turn_channel_data_decode_old(const uint8_t *data, size_t len,
                                                       struct turn_channel_data *out)
{
    return turn_channel_data_up_to(STUN_CHANNEL_OLD_MAX, span_of(data, len), out);
}

/* Writes the 4-byte header and the payload; pads with zeros to 4 when `stream`. */
void turn_channel_data_encode(struct wbuf *w, uint16_t channel, struct span data, bool stream);

/*
 * The size of the first frame of a stream, padding included: 0 when more bytes are needed to tell.
 * CT_ETYPE when the bytes cannot start a frame (the connection is then unusable, RFC 8489 §6.2.2),
 * CT_ECOOKIE, CT_ELENGTH for a STUN header that cannot be one.
 * Frames in 0x5000-0x7FFF are sized too, so that a stream stays in step; the decoder refuses them.
 */
enum ct_err turn_frame_size(const uint8_t *data, size_t len, size_t *size);

#endif
