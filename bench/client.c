#define _GNU_SOURCE
#include "client.h"

#include "core/buf.h"
#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT_FIRST = 41000,
    PORT_LAST = 60999,
    RECEIVE_BUFFER = 8 << 20,
    TRIES = 7,
    TRY_MS = 300,
};

enum {
    COOKIE = 0x2112A442,
    ALLOCATE = 0x0003,
    REFRESH = 0x0004,
    CHANNEL_BIND = 0x0009,
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

/* A request under way, and what came back. */
struct exchange {
    uint16_t type;
    struct wbuf attrs; /* of the request, credentials apart */
    uint8_t attr_bytes[128];
    uint8_t request[CLIENT_PACKET_MAX];
    uint8_t reply[CLIENT_PACKET_MAX];
    size_t reply_len;
};

/* ---- sockets ---- */

static struct sockaddr_in loopback(uint16_t port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

static void widen(int fd)
{
    int size = RECEIVE_BUFFER;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

int client_socket(struct client_source *source)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    widen(fd);
    if (source->port == 0)
        source->port = (uint16_t)(PORT_FIRST + now_ns() / 1000 % (PORT_LAST - PORT_FIRST));
    for (int tries = PORT_FIRST; tries <= PORT_LAST; tries++) {
        struct sockaddr_in at = loopback(source->port);
        source->port = source->port == PORT_LAST ? PORT_FIRST : (uint16_t)(source->port + 1);
        if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
            return fd;
    }
    die("no free port from %d to %d", PORT_FIRST, PORT_LAST);
}

void client_open(struct client *c, struct client_source *source, int id)
{
    *c = (struct client){.fd = client_socket(source), .peer = -1};
    if (connect(c->fd, (struct sockaddr *)&source->server, sizeof source->server))
        die("connect: %s", strerror(errno));
    snprintf(c->user, sizeof c->user, "%lld:user%d", (long long)time(NULL) + 3600,
             source->users ? id % source->users : id);
}

void client_open_peer(struct client *c, struct client_source *source)
{
    socklen_t len = sizeof c->peer_addr;
    c->peer = client_socket(source);
    if (getsockname(c->peer, (struct sockaddr *)&c->peer_addr, &len))
        die("getsockname: %s", strerror(errno));
}

void client_close(struct client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    if (c->peer >= 0)
        close(c->peer);
    c->fd = c->peer = -1;
}

/* ---- messages ---- */

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
    wbuf_patch_u16(w, 2, (uint16_t)(w->pos + more - 20));
}

static void put_credentials(struct wbuf *w, const struct client *c)
{
    uint8_t mac[20];
    put_text(w, USERNAME, c->user);
    put_text(w, REALM, c->realm);
    put_text(w, NONCE, c->nonce);
    set_length(w, 24);
    HMAC(EVP_sha1(), c->key, sizeof c->key, w->data, w->pos, mac, NULL);
    put_attr(w, MESSAGE_INTEGRITY, mac, sizeof mac);
}

/* The first attribute of that type; empty when there is none. */
static struct span find_attr(const struct exchange *x, uint16_t type)
{
    struct rbuf r = rbuf_of(x->reply, x->reply_len);
    rbuf_take(&r, 20);
    while (rbuf_left(&r) >= 4) {
        uint16_t t = rbuf_u16(&r), len = rbuf_u16(&r);
        const uint8_t *value = rbuf_take(&r, len);
        if (value && t == type)
            return span_of(value, len);
        rbuf_take(&r, (4 - len % 4u) % 4u);
    }
    return span_of(NULL, 0);
}

/* ---- requests ---- */

static bool answers(const struct exchange *x, ssize_t len)
{
    return len >= 20 && memcmp(x->reply + 4, x->request + 4, 16) == 0;
}

/* Waits for the reply to the request just sent; what else arrives is dropped. */
static bool await(int fd, struct exchange *x)
{
    uint64_t end = now_ns() + TRY_MS * 1000000ull;
    for (uint64_t now; (now = now_ns()) < end;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
            continue;
        ssize_t len = recv(fd, x->reply, sizeof x->reply, 0);
        if (!answers(x, len))
            continue;
        x->reply_len = (size_t)len;
        return true;
    }
    return false;
}

static bool transact(const struct client *c, struct exchange *x)
{
    struct wbuf w = wbuf_of(x->request, sizeof x->request);
    put_header(&w, x->type, now_ns());
    wbuf_bytes(&w, x->attrs.data, x->attrs.pos);
    if (c->nonce[0])
        put_credentials(&w, c);
    set_length(&w, 0);
    for (int tries = 0; tries < TRIES; tries++) {
        /* what cannot be sent is sent again, as what is lost on the way */
        ssize_t sent = send(c->fd, x->request, w.pos, 0);
        if (sent == (ssize_t)w.pos && await(c->fd, x))
            return true;
    }
    return false;
}

static void derive_key(struct client *c, const char *secret)
{
    uint8_t mac[20];
    char password[64], text[512];
    HMAC(EVP_sha1(), secret, (int)strlen(secret), (const uint8_t *)c->user, strlen(c->user), mac,
         NULL);
    EVP_EncodeBlock((uint8_t *)password, mac, sizeof mac);
    int len = snprintf(text, sizeof text, "%s:%s:%s", c->user, c->realm, password);
    EVP_Digest(text, (size_t)len, c->key, NULL, EVP_md5(), NULL);
}

static void learn_challenge(struct client *c, const struct exchange *x, const char *secret)
{
    struct span realm = find_attr(x, REALM), nonce = find_attr(x, NONCE);
    if (realm.len)
        snprintf(c->realm, sizeof c->realm, "%.*s", (int)realm.len, (const char *)realm.data);
    if (nonce.len)
        snprintf(c->nonce, sizeof c->nonce, "%.*s", (int)nonce.len, (const char *)nonce.data);
    derive_key(c, secret);
}

static _Noreturn void refused(const struct exchange *x)
{
    struct span e = find_attr(x, ERROR_CODE);
    if (e.len < 4)
        die("request %04x: an answer that is none", x->type);
    die("request %04x refused: %d %.*s", x->type, e.data[2] * 100 + e.data[3], (int)e.len - 4,
        (const char *)e.data + 4);
}

/* Sends the request, again with credentials when challenged, and again when the nonce is stale. */
static void request(struct client *c, const struct client_source *source, struct exchange *x)
{
    for (int tries = 0; tries < 3; tries++) {
        if (!transact(c, x))
            die("request %04x: no answer", x->type);
        uint16_t class = (uint16_t)(x->reply[0] << 8 | x->reply[1]) & 0x0110;
        if (class == 0x0100)
            return;
        learn_challenge(c, x, source->secret);
    }
    refused(x);
}

static void begin(struct exchange *x, uint16_t type)
{
    x->type = type;
    x->attrs = wbuf_of(x->attr_bytes, sizeof x->attr_bytes);
}

void client_allocate(struct client *c, const struct client_source *source)
{
    struct exchange x;
    begin(&x, ALLOCATE);
    put_attr(&x.attrs, REQUESTED_TRANSPORT, (const uint8_t[]){17, 0, 0, 0}, 4);
    request(c, source, &x);
    struct span relayed = find_attr(&x, XOR_RELAYED_ADDRESS);
    struct rbuf r = rbuf_of(relayed.data, relayed.len);
    uint16_t family = rbuf_u16(&r);
    uint16_t port = (uint16_t)(rbuf_u16(&r) ^ COOKIE >> 16);
    uint32_t ip = rbuf_u32(&r) ^ (uint32_t)COOKIE;
    if (r.failed || family != 1)
        die("Allocate: no IPv4 relayed address in the answer");
    c->relay = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip)};
}

void client_bind(struct client *c, const struct client_source *source,
                 const struct sockaddr_in *peer)
{
    struct exchange x;
    begin(&x, CHANNEL_BIND);
    c->channel = CLIENT_CHANNEL;
    put_attr(&x.attrs, CHANNEL_NUMBER,
             (const uint8_t[]){(uint8_t)(c->channel >> 8), (uint8_t)c->channel, 0, 0}, 4);
    put_peer(&x.attrs, peer);
    request(c, source, &x);
}

void client_release(struct client *c, const struct client_source *source)
{
    struct exchange x;
    begin(&x, REFRESH);
    put_attr(&x.attrs, LIFETIME, (const uint8_t[]){0, 0, 0, 0}, 4);
    request(c, source, &x);
}

/* ---- traffic ---- */

size_t client_channel_data(const struct client *c, uint8_t *out, const void *payload, size_t len)
{
    struct wbuf w = wbuf_of(out, CLIENT_PACKET_MAX);
    wbuf_u16(&w, c->channel);
    wbuf_u16(&w, (uint16_t)len);
    wbuf_bytes(&w, payload, len);
    return w.pos;
}

size_t client_send_indication(const struct client *c, uint8_t *out, const void *payload, size_t len)
{
    struct wbuf w = wbuf_of(out, CLIENT_PACKET_MAX);
    put_header(&w, SEND_INDICATION, now_ns());
    put_peer(&w, &c->peer_addr);
    put_attr(&w, DATA, payload, len);
    set_length(&w, 0);
    return w.pos;
}
