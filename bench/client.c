#define _GNU_SOURCE
#include "client.h"

#include "batch.h"
#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/udp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    PORT_FIRST = 10000,
    PORT_LAST = 60999,
    HOST_LAST = 250,
    SHARED_PORT_FIRST = 61000,
    SHARED_PORT_LAST = 64999,
    RECEIVE_BUFFER = 8 << 20,
    TRIES = 7,
    TRY_MS = 300,
};

/* A request under way, and what came back. */
struct exchange {
    uint8_t request[MESSAGE_MAX];
    size_t request_len;
    uint8_t bytes[MESSAGE_MAX];
    struct span reply;
};

/* ---- sockets ---- */

static struct sockaddr_in next_address(struct client_ports *p)
{
    if (p->port == 0)
        *p = (struct client_ports){
            .net = p->net,
            .host = 1,
            .port = (uint16_t)(PORT_FIRST + now_ns() / 1000 % (PORT_LAST - PORT_FIRST))};
    uint32_t ip = 127u << 24 | (uint32_t)p->net << 16 | p->host;
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(ip), .sin_port = htons(p->port)};
    if (p->port++ == PORT_LAST) {
        p->port = PORT_FIRST;
        p->host = p->host == HOST_LAST ? 1 : (uint8_t)(p->host + 1);
    }
    return at;
}

static void prepare(int fd, bool gro)
{
    int size = RECEIVE_BUFFER, on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (gro && setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on))
        die("UDP_GRO: %s", strerror(errno));
}

int client_socket(struct client_ports *ports, bool gro)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    prepare(fd, gro);
    for (int tries = PORT_FIRST; tries <= PORT_LAST; tries++) {
        struct sockaddr_in at = next_address(ports);
        if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
            return fd;
    }
    die("no free port from %d to %d", PORT_FIRST, PORT_LAST);
}

static void name_user(struct client *c, const struct client_source *source, int id)
{
    snprintf(c->credentials.user, sizeof c->credentials.user, "%lld:user%d",
             (long long)time(NULL) + 3600, source->users ? id % source->users : id);
}

void client_open(struct client *c, struct client_source *source, int id)
{
    *c = (struct client){
        .fd = client_socket(&source->clients, source->gro), .owner = true, .peer = -1};
    if (connect(c->fd, (struct sockaddr *)&source->server, sizeof source->server))
        die("connect: %s", strerror(errno));
    name_user(c, source, id);
}

static struct sockaddr_in local_address(int fd)
{
    struct sockaddr_in at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len))
        die("getsockname: %s", strerror(errno));
    return at;
}

/* Bound to every local address: 127.0.0.0/8 has enough of them. */
static int shared_socket(void)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    if (fd < 0)
        die("socket: %s", strerror(errno));
    prepare(fd, false);
    for (uint16_t port = SHARED_PORT_FIRST; port <= SHARED_PORT_LAST; port++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};
        if (bind(fd, (struct sockaddr *)&at, sizeof at) == 0)
            return fd;
    }
    die("no free port from %d to %d", SHARED_PORT_FIRST, SHARED_PORT_LAST);
}

void client_open_shared(struct client *clients, struct client_source *source, int id)
{
    struct client *c = &clients[id];
    uint32_t n = (uint32_t)(id % CLIENT_SHARERS);
    uint32_t ip = 127u << 24 | (uint32_t)source->clients.net << 16 | n / HOST_LAST << 8;
    *c = (struct client){.owner = n == 0, .peer = -1};
    c->fd = c->owner ? shared_socket() : clients[id - (int)n].fd;
    c->from.s_addr = htonl(ip | (n % HOST_LAST + 1));
    c->at = local_address(c->fd);
    c->at.sin_addr = c->from;
    name_user(c, source, id);
}

bool client_transmit(const struct client *c, const struct client_source *source, const void *bytes,
                     size_t len)
{
    struct sockaddr_in to = source->server;
    if (c->from.s_addr == 0)
        return send(c->fd, bytes, len, 0) == (ssize_t)len;
    struct batch_way way = {.fd = c->fd, .to = &to, .from = c->from};
    return batch_send_one(&way, bytes, len);
}

void client_open_peer(struct client *c, struct client_source *source)
{
    c->peer = client_socket(&source->peers, source->gro);
    c->peer_owner = true;
    c->peer_addr = local_address(c->peer);
}

void client_share_peer(struct client *c, const struct client *other)
{
    c->peer = other->peer;
    c->peer_addr = other->peer_addr;
}

void client_close(struct client *c)
{
    if (c->fd >= 0 && c->owner)
        close(c->fd);
    if (c->peer >= 0 && c->peer_owner)
        close(c->peer);
    c->fd = c->peer = -1;
}

/* ---- requests ---- */

/* Waits for the reply to the request just sent; what else arrives is dropped. */
static bool await(int fd, struct exchange *x)
{
    uint64_t end = now_ns() + TRY_MS * 1000000ull;
    for (uint64_t now; (now = now_ns()) < end;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)((end - now) / 1000000) + 1) <= 0)
            continue;
        ssize_t len = recv(fd, x->bytes, sizeof x->bytes, 0);
        x->reply = span_of(x->bytes, len > 0 ? (size_t)len : 0);
        if (message_answers(x->reply, x->request))
            return true;
    }
    return false;
}

static bool transact(const struct client *c, const struct client_source *source, struct exchange *x)
{
    /* what cannot be sent is sent again, as what is lost on the way */
    for (int tries = 0; tries < TRIES; tries++)
        if (client_transmit(c, source, x->request, x->request_len) && await(c->fd, x))
            return true;
    return false;
}

/* Sends the request, again with credentials when challenged, and again when the nonce is stale. */
static void request(struct client *c, const struct client_source *source, struct exchange *x,
                    const struct request *r)
{
    for (int tries = 0; tries < 3; tries++) {
        x->request_len = message_request(x->request, r, &c->credentials, now_ns());
        if (!transact(c, source, x))
            die("request %04x: no answer", r->method);
        if (message_error(x->reply) == 0)
            return;
        credentials_learn(&c->credentials, x->reply, source->secret);
    }
    struct span reason = message_reason(x->reply);
    die("request %04x refused: %d %.*s", r->method, message_error(x->reply), (int)reason.len,
        reason.len ? (const char *)reason.data : "");
}

void client_allocate(struct client *c, const struct client_source *source)
{
    struct exchange x;
    request(c, source, &x, &(struct request){.method = MESSAGE_ALLOCATE});
    if (!message_relayed(x.reply, &c->relay))
        die("Allocate: no IPv4 relayed address in the answer");
}

void client_bind(struct client *c, const struct client_source *source,
                 const struct sockaddr_in *peer)
{
    struct exchange x;
    c->channel = CLIENT_CHANNEL;
    request(c, source, &x,
            &(struct request){.method = MESSAGE_BIND, .channel = c->channel, .peer = *peer});
}

void client_release(struct client *c, const struct client_source *source)
{
    struct exchange x;
    request(c, source, &x, &(struct request){.method = MESSAGE_REFRESH});
}
