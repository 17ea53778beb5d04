#define _GNU_SOURCE
#include "message.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>

enum {
    COOKIE = 0x2112A442,
    HEADER = 20,
    INTEGRITY = 24, /* MESSAGE-INTEGRITY with its header */
    CLASS = 0x0110,
    SUCCESS = 0x0100,
    ERROR = 0x0110,
    NO_ANSWER = 999,
};

enum {
    SEND_INDICATION = 0x0016,
    USERNAME = 0x0006,
    MESSAGE_INTEGRITY = 0x0008,
    ERROR_CODE = 0x0009,
    CHANNEL_NUMBER = 0x000C,
    LIFETIME = 0x000D,
    XOR_PEER_ADDRESS = 0x0012,
    DATA = 0x0013,
    REALM = 0x0014,
    NONCE = 0x0015,
    XOR_RELAYED_ADDRESS = 0x0016,
    REQUESTED_TRANSPORT = 0x0019,
};

/* ---- writing ---- */

static void put_header(struct wbuf *w, uint16_t type, uint64_t id)
{
    wbuf_u16(w, type);
    wbuf_u16(w, 0);
    wbuf_u32(w, COOKIE);
    wbuf_u32(w, 0);
    wbuf_u64(w, id);
}

static void put_attr(struct wbuf *w, uint16_t type, const void *value, size_t len)
{
    wbuf_u16(w, type);
    wbuf_u16(w, (uint16_t)len);
    wbuf_bytes(w, value, len);
    wbuf_zeros(w, (4 - len % 4) % 4);
}

static void put_text(struct wbuf *w, uint16_t type, const char *text)
{
    put_attr(w, type, text, strlen(text));
}

static void put_u32(struct wbuf *w, uint16_t type, uint32_t value)
{
    wbuf_u16(w, type);
    wbuf_u16(w, 4);
    wbuf_u32(w, value);
}

static void put_peer(struct wbuf *w, const struct sockaddr_in *peer)
{
    wbuf_u16(w, XOR_PEER_ADDRESS);
    wbuf_u16(w, 8);
    wbuf_u16(w, 1);
    wbuf_u16(w, (uint16_t)(ntohs(peer->sin_port) ^ COOKIE >> 16));
    wbuf_u32(w, ntohl(peer->sin_addr.s_addr) ^ (uint32_t)COOKIE);
}

/* Writes the header's length as if `more` bytes were to follow. */
static void set_length(struct wbuf *w, size_t more)
{
    wbuf_patch_u16(w, 2, (uint16_t)(w->pos + more - HEADER));
}

static void put_credentials(struct wbuf *w, const struct credentials *c)
{
    uint8_t mac[20];
    put_text(w, USERNAME, c->user);
    put_text(w, REALM, c->realm);
    put_text(w, NONCE, c->nonce);
    set_length(w, INTEGRITY);
    HMAC(EVP_sha1(), c->key, sizeof c->key, w->data, w->pos, mac, NULL);
    put_attr(w, MESSAGE_INTEGRITY, mac, sizeof mac);
}

static void put_attrs(struct wbuf *w, const struct request *r)
{
    switch (r->method) {
    case MESSAGE_ALLOCATE:
        put_u32(w, REQUESTED_TRANSPORT, IPPROTO_UDP << 24);
        break;
    case MESSAGE_REFRESH:
        put_u32(w, LIFETIME, r->lifetime);
        break;
    case MESSAGE_BIND:
        put_u32(w, CHANNEL_NUMBER, (uint32_t)r->channel << 16);
        put_peer(w, &r->peer);
        break;
    }
}

size_t message_request(uint8_t *out, const struct request *r, const struct credentials *c,
                       uint64_t id)
{
    struct wbuf w = wbuf_of(out, MESSAGE_MAX);
    put_header(&w, (uint16_t)r->method, id);
    put_attrs(&w, r);
    if (c->nonce[0])
        put_credentials(&w, c);
    set_length(&w, 0);
    return w.pos;
}

size_t message_channel_data(uint8_t *out, uint16_t channel, const void *payload, size_t len)
{
    struct wbuf w = wbuf_of(out, MESSAGE_MAX);
    wbuf_u16(&w, channel);
    wbuf_u16(&w, (uint16_t)len);
    wbuf_bytes(&w, payload, len);
    return w.pos;
}

size_t message_send(uint8_t *out, const struct sockaddr_in *peer, uint64_t id, struct span payload)
{
    struct wbuf w = wbuf_of(out, MESSAGE_MAX);
    put_header(&w, SEND_INDICATION, id);
    put_peer(&w, peer);
    put_attr(&w, DATA, payload.data, payload.len);
    set_length(&w, 0);
    return w.pos;
}

/* ---- reading ---- */

/* The first attribute of that type; empty when there is none. */
static struct span find_attr(struct span reply, uint16_t type)
{
    struct rbuf r = rbuf_of(reply.data, reply.len);
    rbuf_take(&r, HEADER);
    while (rbuf_left(&r) >= 4) {
        uint16_t t = rbuf_u16(&r), len = rbuf_u16(&r);
        const uint8_t *value = rbuf_take(&r, len);
        if (value && t == type)
            return span_of(value, len);
        rbuf_take(&r, (4 - len % 4u) % 4u);
    }
    return span_of(NULL, 0);
}

bool message_answers(struct span reply, const uint8_t *request)
{
    return reply.len >= HEADER && memcmp(reply.data + 4, request + 4, HEADER - 4) == 0;
}

int message_error(struct span reply)
{
    struct rbuf r = rbuf_of(reply.data, reply.len);
    uint16_t class = rbuf_u16(&r) & CLASS;
    if (!r.failed && class == SUCCESS)
        return 0;
    struct span e = find_attr(reply, ERROR_CODE);
    if (class != ERROR || e.len < 4)
        return NO_ANSWER;
    return e.data[2] * 100 + e.data[3];
}

struct span message_reason(struct span reply)
{
    struct span e = find_attr(reply, ERROR_CODE);
    return e.len < 4 ? span_of(NULL, 0) : span_of(e.data + 4, e.len - 4);
}

bool message_relayed(struct span reply, struct sockaddr_in *out)
{
    struct span relayed = find_attr(reply, XOR_RELAYED_ADDRESS);
    struct rbuf r = rbuf_of(relayed.data, relayed.len);
    uint16_t family = rbuf_u16(&r);
    uint16_t port = (uint16_t)(rbuf_u16(&r) ^ COOKIE >> 16);
    uint32_t ip = rbuf_u32(&r) ^ (uint32_t)COOKIE;
    if (r.failed || family != 1)
        return false;
    *out = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
    return true;
}

/* ---- credentials ---- */

static void derive_key(struct credentials *c, const char *secret)
{
    uint8_t mac[20];
    char password[64], text[512];
    HMAC(EVP_sha1(), secret, (int)strlen(secret), (const uint8_t *)c->user, strlen(c->user), mac,
         NULL);
    EVP_EncodeBlock((uint8_t *)password, mac, sizeof mac);
    int len = snprintf(text, sizeof text, "%s:%s:%s", c->user, c->realm, password);
    EVP_Digest(text, (size_t)len, c->key, NULL, EVP_md5(), NULL);
}

static void copy_text(char *out, size_t size, struct span text)
{
    if (text.len)
        snprintf(out, size, "%.*s", (int)text.len, (const char *)text.data);
}

void credentials_learn(struct credentials *c, struct span reply, const char *secret)
{
    copy_text(c->realm, sizeof c->realm, find_attr(reply, REALM));
    copy_text(c->nonce, sizeof c->nonce, find_attr(reply, NONCE));
    derive_key(c, secret);
}
