#include "core/turn_frame.h"

enum ct_err turn_channel_data_decode(const uint8_t *data, size_t len, struct turn_channel_data *out)
{
    return turn_channel_data_up_to(STUN_CHANNEL_MAX, span_of(data, len), out);
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
