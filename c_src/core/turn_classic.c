#include "core/turn_classic.h"

#include "core/turn_reply.h"

enum {
    CHANGES = 0x06 /* the bits of CHANGE-REQUEST that ask for something, RFC 3489 §11.2.4 */
};

/* CHANGE-REQUEST without a change, which clients of that time send always, asks for nothing. */
static unsigned serves(const struct stun_msg *m)
{
    uint32_t change;
    bool none = stun_msg_u32(m, STUN_ID_CHANGE_REQUEST, &change) == CT_OK && !(change & CHANGES);
    return none ? TURN_SERVES_NO_CHANGE : 0;
}

static void answer(struct turn_server *s, const struct turn_request *r)
{
    turn_count(&s->counters, TURN_N_BINDINGS, 1);
    if (turn_unserved(r->msg, serves(r->msg))) {
        turn_reply_unknown(s, r, serves(r->msg));
        return;
    }
    struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
    stun_put_addr(&w, STUN_ATTR_MAPPED_ADDRESS, &r->tuple->client);
    turn_reply_send(s, r, &w);
}

bool turn_classic(struct turn_server *s, const struct turn_tuple *tuple,
                  const struct turn_packet *packet, struct turn_now now)
{
    struct stun_msg msg;
    bool dtls = tuple->transport == TURN_DTLS;
    bool served = s->config->classic_stun && tuple->transport == TURN_UDP;
    if ((!dtls && !served) || stun_msg_decode_classic(&msg, packet->data, packet->len) != CT_OK ||
        msg.cls != STUN_REQUEST || (!dtls && msg.method != STUN_BINDING))
        return false;
    const struct turn_request r = {.tuple = tuple, .msg = &msg, .now = now};
    turn_count(&s->counters, TURN_N_REQUESTS, 1);
    if (dtls)
        turn_reply_error(s, &r, STUN_SERVER_ERROR);
    else
        answer(s, &r);
    return true;
}
