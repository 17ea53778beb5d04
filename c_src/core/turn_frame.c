#include "core/turn_frame.h"

#include "core/stun_wire.h"

enum turn_frame_kind turn_frame_kind(uint8_t first)
{
    if (first <= 3)
        return TURN_FRAME_STUN;
    if (first >= 64 && first <= 79)
        return TURN_FRAME_CHANNEL;
    return first >= 20 && first <= 63 ? TURN_FRAME_DTLS : TURN_FRAME_OTHER;
}

static enum ct_err decode_up_to(uint16_t most, struct span message, struct turn_channel_data *out)
{
    struct rbuf r = rbuf_of(message.data, message.len);
    uint16_t channel = rbuf_u16(&r), size = rbuf_u16(&r);
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

enum ct_err turn_channel_data_decode(const uint8_t *data, size_t len, struct turn_channel_data *out)
{
    return decode_up_to(STUN_CHANNEL_MAX, span_of(data, len), out);
}

enum ct_err turn_channel_data_decode_old(const uint8_t *data, size_t len,
                                         struct turn_channel_data *out)
{
    return decode_up_to(STUN_CHANNEL_OLD_MAX, span_of(data, len), out);
}

void turn_channel_data_encode(struct wbuf *w, uint16_t channel, struct span data, bool stream)
{
    if (data.len > UINT16_MAX) {
        w->failed = true;
        return;
    }
    wbuf_u16(w, channel);
    wbuf_u16(w, (uint16_t)data.len);
    wbuf_bytes(w, data.data, data.len);
    if (stream)
        wbuf_zeros(w, stun_padded(data.len) - data.len);
}

static enum ct_err stun_frame_size(struct rbuf r, size_t *size)
{
    rbuf_u16(&r);
    uint16_t length = rbuf_u16(&r);
    if (r.failed)
        return CT_OK;
    if (length % 4)
        return CT_ELENGTH;
    uint32_t cookie = rbuf_u32(&r);
    if (r.failed)
        return CT_OK;
    if (cookie != STUN_COOKIE)
        return CT_ECOOKIE;
    *size = STUN_HEADER_SIZE + (size_t)length;
    return CT_OK;
}

enum ct_err turn_frame_size(const uint8_t *data, size_t len, size_t *size)
{
    *size = 0;
    if (len == 0)
        return CT_OK;
    if (data[0] <= 3)
        return stun_frame_size(rbuf_of(data, len), size);
    /* also what ChannelBind never hands out, up to 0x7FFF, so that the stream stays in step */
    if (data[0] < 0x40 || data[0] > 0x7F)
        return CT_ETYPE;
    struct rbuf r = rbuf_of(data, len);
    rbuf_u16(&r);
    uint16_t length = rbuf_u16(&r);
    if (!r.failed)
        *size = STUN_CHANNEL_HEADER_SIZE + stun_padded(length);
    return CT_OK;
}
