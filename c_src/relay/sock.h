/* Bound sockets, and addresses as the operating system writes them. */
#ifndef CT_RELAY_SOCK_H
#define CT_RELAY_SOCK_H

#include "core/addr.h"

#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

union sock_addr {
    struct sockaddr sa;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static inline socklen_t sock_from_addr(union sock_addr *out, const struct addr *a)
{
    if (a->family == ADDR_V4) {
        out->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(a->port)};
        memcpy(&out->v4.sin_addr, a->ip, 4);
        return sizeof out->v4;
    }
    out->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(a->port)};
    memcpy(&out->v6.sin6_addr, a->ip, 16);
    out->v6.sin6_scope_id = a->scope;
    return sizeof out->v6;
}

/* ADDR_NONE for any other family. */
static inline struct addr sock_to_addr(const union sock_addr *from)
{
    struct addr a = {.family = ADDR_NONE};

    if (from->sa.sa_family == AF_INET) {
        memcpy(a.ip, &from->v4.sin_addr, 4);
        a.port = ntohs(from->v4.sin_port);
        a.family = ADDR_V4;
    } else if (from->sa.sa_family == AF_INET6) {
        memcpy(a.ip, &from->v6.sin6_addr, 16);
        a.scope = from->v6.sin6_scope_id;
        a.port = ntohs(from->v6.sin6_port);
        a.family = ADDR_V6;
    }
    return a;
}

/* Whether the kernel spreads the datagrams of one port over several sockets (Linux). */
bool sock_can_share(void);

/*
 * Everything below: non-blocking, close-on-exec, IPv6 without IPv4; *fd is set on success only and
 * then the caller's. Returns 0 or an errno.
 */

/* A relayed transport address: datagrams leave without DF (RFC 8656 §14). */
int sock_open_relay(const struct addr *at, int *fd);

/*
 * A listening socket, with large buffers. The first one of an address is bound alone, so that a
 * port in use is noticed, and then `shared`; further ones join it. *at gets the port if it was 0.
 * A wildcard address is told to deliver the local address with each datagram where that can be.
 */
enum sock_place {
    SOCK_ALONE,
    SOCK_FIRST,
    SOCK_FURTHER
};
int sock_open_listener(struct addr *at, enum sock_place place, int *fd);

/*
 * The same for TCP: it listens. What is accepted there sends at once, queues little that is not yet
 * sent, and is dropped when the other end has been gone for a minute or so.
 */
int sock_open_acceptor(struct addr *at, enum sock_place place, int *fd);

/*
 * Begins to connect from an address that others may be bound to as well, with
 * sock_open_acceptor(SOCK_FIRST): writable when that is over, sock_error() says how.
 */
int sock_connect(const struct addr *from, const struct addr *to, int *fd);

/*
 * Lets the other end take as long as it likes to read, as TCP does by itself; what is accepted
 * there does too. Who is gone is still noticed, by keepalive.
 */
void sock_be_patient(int fd);

/* Accepts a connection, non-blocking and close-on-exec. *from is its other end. */
int sock_accept(int fd, struct addr *from, int *out);

/* The socket's own address; of an accepted one, what the client connected to. */
int sock_local(int fd, struct addr *out);

/* Whether a socket can be bound to this IP. */
int sock_try_ip(const struct addr *ip);

/* Reads and clears the socket's pending error: an errno, or 0. */
int sock_error(int fd);
void sock_clear_error(int fd);

/*
 * Linux: the ICMP errors about what this socket sends wait at the socket, to be read with
 * sock_read_icmp(). Each also fails one call of the socket's with its errno.
 */
void sock_keep_icmp(int fd, uint8_t family);

struct sock_icmp {
    struct addr to; /* where the datagram was meant to go */
    uint8_t type, code;
    uint32_t mtu;
};

/* The next error, ICMP's or the like of this host's own; false when none waits. */
bool sock_read_icmp(int fd, struct sock_icmp *out);

/* Each datagram then comes with its DSCP and ECN. */
void sock_tell_dscp(int fd, uint8_t family);

/*
 * Linux: consecutive datagrams of one length from one sender may come as one, with a control
 * message that tells their length (UDP_GRO): only for who asks for control messages each time.
 */
void sock_keep_together(int fd);

/* Whether what is sent from now on may be cut in pieces: of IPv4 anywhere, of IPv6 here only. */
void sock_dont_fragment(int fd, uint8_t family, bool on);

#endif
