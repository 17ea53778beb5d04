#include "core/turn_discovery.h"

#include "core/turn_reply.h"

enum {
    CHANGE_IP = 0x04, /* bits of CHANGE-REQUEST, RFC 5780 §7.2 */
    CHANGE_PORT = 0x02,
};

/* Which of the four addresses the request came to; -1: none of them. */
static int place_of(const struct turn_config *config, const struct turn_tuple *tuple)
{
    const struct turn_discovery *d = &config->discovery;
    for (int i = 0; d->on && tuple->transport == TURN_UDP && i < TURN_DISCOVERY_PLACES; i++)
        if (addr_eq(&d->at[i], &tuple->server))
            return i;
    return -1;
}

bool turn_discovery_serves(const struct turn_config *config, const struct turn_tuple *tuple)
{
    return place_of(config, tuple) >= 0;
}

/* What clients are told of an address of ours: the external one, where a 1:1 NAT stands before it.
 */
static struct addr announced(const struct turn_config *config, const struct addr *at)
{
    struct addr a = *at;
    for (size_t i = 0; i < config->relay_count; i++)
        if (addr_ip_eq(&config->relays[i].bind, at))
            memcpy(a.ip, config->relays[i].external.ip, sizeof a.ip);
    return a;
}

/* Where the answer leaves from and goes to. 0 or 400 (§6.1). */
static enum stun_error route(const struct turn_server *s, const struct turn_request *r, int *from,
                             struct turn_tuple *to)
{
    uint32_t change = 0;
    struct span port = stun_msg_bytes(r->msg, STUN_ID_RESPONSE_PORT);
    *to = *r->tuple;
    if (stun_msg_u32(r->msg, STUN_ID_CHANGE_REQUEST, &change) == CT_EVALUE)
        return STUN_BAD_REQUEST;
    *from ^=
        (change & CHANGE_IP ? TURN_OTHER_IP : 0) | (change & CHANGE_PORT ? TURN_OTHER_PORT : 0);
    to->server = s->config->discovery.at[*from];
    to->link = s->config->discovery.link[*from];
    if (!port.data)
        return 0;
    struct rbuf b = rbuf_of(port.data, port.len);
    to->client.port = rbuf_u16(&b);
    if (!stun_attr_length_ok(STUN_ID_RESPONSE_PORT, port.len) || to->client.port == 0 ||
        stun_msg_has(r->msg, STUN_ID_PADDING))
        return STUN_BAD_REQUEST;
    return 0;
}

/*
 * PADDING as long as a large packet, but not longer than the request's: nobody shall get more bytes
 * sent to a forged source than he sends himself.
 */
static void put_padding(const struct turn_request *r, struct wbuf *w)
{
    static const uint8_t zeros[TURN_PADDING_MAX];
    size_t asked = stun_msg_bytes(r->msg, STUN_ID_PADDING).len;
    if (stun_msg_has(r->msg, STUN_ID_PADDING))
        stun_put(w, STUN_ATTR_PADDING, zeros,
                 asked < sizeof zeros ? asked & ~(size_t)3 : sizeof zeros);
}

static void answer(struct turn_server *s, const struct turn_request *r, int from,
                   const struct turn_tuple *to)
{
    const struct turn_discovery *d = &s->config->discovery;
    struct turn_request out = *r;
    struct addr origin = announced(s->config, &d->at[from]);
    int came_to = place_of(s->config, r->tuple);
    struct addr other = announced(s->config, &d->at[came_to ^ (TURN_OTHER_IP | TURN_OTHER_PORT)]);
    struct wbuf w = wbuf_of(s->io->ops->reserve(s->io, TURN_RESERVE_MAX), TURN_RESERVE_MAX);
    out.tuple = to;
    stun_begin(&w, stun_type(STUN_BINDING, STUN_SUCCESS), stun_msg_tid(r->msg));
    stun_put_xaddr(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &r->tuple->client);
    stun_put_addr(&w, STUN_ATTR_MAPPED_ADDRESS, &r->tuple->client);
    stun_put_addr(&w, STUN_ATTR_RESPONSE_ORIGIN, &origin);
    stun_put_addr(&w, STUN_ATTR_OTHER_ADDRESS, &other);
    put_padding(r, &w);
    turn_reply_send(s, &out, &w);
}

static void discover(struct turn_server *s, const struct turn_request *r)
{
    struct turn_tuple to;
    int from = place_of(s->config, r->tuple);
    enum stun_error code = route(s, r, &from, &to);
    if (code)
        turn_reply_error(s, r, code);
    else
        answer(s, r, from, &to);
}

void turn_binding(struct turn_server *s, struct turn_request *r)
{
    turn_count(&s->counters, TURN_N_BINDINGS, 1);
    if (turn_discovery_serves(s->config, r->tuple)) {
        discover(s, r);
        return;
    }
    struct wbuf w = turn_reply_begin(s, r, STUN_SUCCESS);
    stun_put_xaddr(&w, STUN_ATTR_XOR_MAPPED_ADDRESS, &r->tuple->client);
    turn_reply_send(s, r, &w);
}
