#include "relay/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/errqueue.h>
#endif

enum {
    LISTENER_BUFFER = 4 << 20,
    RELAY_BUFFER = 1 << 20, /* a burst from one peer; the kernel takes memory as datagrams wait */
    UNSENT_MAX = 128 << 10, /* bytes of a connection that the kernel takes and has not sent */
    KEEPALIVE_S = 30,       /* of silence, before the kernel asks whether a client is there */
    BACKLOG = 1024,
};

static int set_option(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof value) == 0 ? 0 : errno;
}

bool sock_can_share(void)
{
#ifdef __linux__
    return true;
#else
    return false;
#endif
}

/* Linux sets both flags at once; elsewhere nothing is exec'd, so the gap does no harm. */
static int open_socket(const struct addr *at, int type)
{
    int family = at->family == ADDR_V4 ? AF_INET : AF_INET6;
#ifdef SOCK_CLOEXEC
    return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
    int fd = socket(family, type, 0);

    if (fd >= 0) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
    }
    return fd;
#endif
}

static int open_udp(const struct addr *at)
{
    return open_socket(at, SOCK_DGRAM);
}

static int bind_to(int fd, const struct addr *at)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, at);

    if (at->family == ADDR_V6) {
        int err = set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
        if (err)
            return err;
    }
    return bind(fd, &sa.sa, len) == 0 ? 0 : errno;
}

/* A datagram that is too long for the path is fragmented, whatever ICMP says. */
static void allow_fragments(int fd, const struct addr *at)
{
    if (at->family == ADDR_V4)
        sock_dont_fragment(fd, ADDR_V4, false);
}

/* Past the administrator's limit where we may, up to it otherwise. */
static void raise_receive_buffer(int fd, int size)
{
#ifdef SO_RCVBUFFORCE
    if (set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, size) == 0)
        return;
#endif
    set_option(fd, SOL_SOCKET, SO_RCVBUF, size);
}

int sock_open_relay(const struct addr *at, int *fd)
{
    int s = open_udp(at);

    if (s < 0)
        return errno;
    int err = bind_to(s, at);
    if (err) {
        close(s);
        return err;
    }
    raise_receive_buffer(s, RELAY_BUFFER);
    allow_fragments(s, at);
    *fd = s;
    return 0;
}

static void raise_send_buffer(int fd, int size)
{
#ifdef SO_SNDBUFFORCE
    if (set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, size) == 0)
        return;
#endif
    set_option(fd, SOL_SOCKET, SO_SNDBUF, size);
}

static int ask_for_local_address(int fd, const struct addr *at)
{
#ifdef __linux__
    if (addr_is_any(at))
        return at->family == ADDR_V4 ? set_option(fd, IPPROTO_IP, IP_PKTINFO, 1)
                                     : set_option(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
#else
    (void)fd;
    (void)at;
#endif
    return 0;
}

int sock_local(int fd, struct addr *out)
{
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;

    if (getsockname(fd, &sa.sa, &len) != 0)
        return errno;
    *out = sock_to_addr(&sa);
    return 0;
}

static int learn_port(int fd, struct addr *at)
{
    struct addr local = {.port = 0};
    int err = sock_local(fd, &local);

    at->port = local.port;
    return err;
}

/*
 * SO_REUSEPORT before bind() would let a second relay of the same user join this one's port and
 * take its clients. So the first socket is bound without it, which fails when anybody has the port.
 */
static int bind_listener(int fd, struct addr *at, enum sock_place place)
{
    int err = 0;

    if (place == SOCK_FURTHER)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err)
        err = bind_to(fd, at);
    if (!err && place == SOCK_FIRST)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err)
        err = ask_for_local_address(fd, at);
    return err ? err : learn_port(fd, at);
}

int sock_open_listener(struct addr *at, enum sock_place place, int *fd)
{
    int s = open_udp(at);

    if (s < 0)
        return errno;
    int err = bind_listener(s, at, place);
    if (err) {
        close(s);
        return err;
    }
    raise_receive_buffer(s, LISTENER_BUFFER);
    raise_send_buffer(s, LISTENER_BUFFER);
    allow_fragments(s, at);
    *fd = s;
    return 0;
}

/* ---- TCP ---- */

/*
 * What accepted sockets inherit. Media is late when it waits for a full segment, or behind more of
 * it than the path holds; a client that vanished is to be noticed before its allocation expires.
 */
static void set_stream_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
#ifdef TCP_NOTSENT_LOWAT
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_MAX);
#endif
#ifdef TCP_KEEPIDLE
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S / 3);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 3);
#endif
#ifdef TCP_USER_TIMEOUT
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 2 * KEEPALIVE_S * 1000);
#endif
}

void sock_be_patient(int fd)
{
#ifdef TCP_USER_TIMEOUT
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 0);
#else
    (void)fd;
#endif
}

/*
 * SO_REUSEADDR: connections of an earlier relay that the kernel still remembers do not keep the
 * port. A socket that listens does, so the first one does before it lets others share.
 */
static int bind_acceptor(int fd, struct addr *at, enum sock_place place)
{
    int err = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (!err && place == SOCK_FURTHER)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err)
        err = bind_to(fd, at);
    if (!err && listen(fd, BACKLOG) != 0)
        err = errno;
    if (!err && place == SOCK_FIRST)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    return err ? err : learn_port(fd, at);
}

int sock_open_acceptor(struct addr *at, enum sock_place place, int *fd)
{
    int s = open_socket(at, SOCK_STREAM);

    if (s < 0)
        return errno;
    set_stream_options(s);
    int err = bind_acceptor(s, at, place);
    if (err) {
        close(s);
        return err;
    }
    *fd = s;
    return 0;
}

static int connect_from(int fd, const struct addr *from, const struct addr *to)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, to);
    int err = set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);

    if (!err)
        err = set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    if (!err)
        err = bind_to(fd, from);
    if (!err && connect(fd, &sa.sa, len) != 0 && errno != EINPROGRESS)
        err = errno;
    return err;
}

int sock_connect(const struct addr *from, const struct addr *to, int *fd)
{
    int s = open_socket(from, SOCK_STREAM);

    if (s < 0)
        return errno;
    set_stream_options(s);
    int err = connect_from(s, from, to);
    if (err) {
        close(s);
        return err;
    }
    *fd = s;
    return 0;
}

int sock_accept(int fd, struct addr *from, int *out)
{
    union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
    socklen_t len = sizeof sa;
#ifdef SOCK_CLOEXEC
    int s = accept4(fd, &sa.sa, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    int s = accept(fd, &sa.sa, &len);

    if (s >= 0) {
        fcntl(s, F_SETFD, FD_CLOEXEC);
        fcntl(s, F_SETFL, fcntl(s, F_GETFL) | O_NONBLOCK);
    }
#endif
    if (s < 0)
        return errno;
    *from = sock_to_addr(&sa);
    *out = s;
    return 0;
}

/* ---- the rest ---- */

int sock_try_ip(const struct addr *ip)
{
    int fd = -1;
    int err = sock_open_relay(ip, &fd);

    if (!err)
        close(fd);
    return err;
}

int sock_error(int fd)
{
    int err = 0;
    socklen_t len = sizeof err;

    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 ? err : errno;
}

void sock_clear_error(int fd)
{
    (void)sock_error(fd);
}

/*
 * Without DF. OMIT also has the kernel tell of "fragmentation needed" what was sent with DF a
 * moment before, and not remember it: DONT would not tell.
 */
#if defined(IP_PMTUDISC_OMIT)
#define NO_DF IP_PMTUDISC_OMIT
#elif defined(IP_MTU_DISCOVER)
#define NO_DF IP_PMTUDISC_DONT
#endif

void sock_dont_fragment(int fd, uint8_t family, bool on)
{
    if (family == ADDR_V6) {
#ifdef IPV6_DONTFRAG
        set_option(fd, IPPROTO_IPV6, IPV6_DONTFRAG, on);
#endif
        return;
    }
#if defined(IP_MTU_DISCOVER)
    set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, on ? IP_PMTUDISC_DO : NO_DF);
#elif defined(IP_DONTFRAG)
    set_option(fd, IPPROTO_IP, IP_DONTFRAG, on);
#else
    (void)fd;
    (void)on;
#endif
}

void sock_tell_dscp(int fd, uint8_t family)
{
    if (family == ADDR_V4)
        set_option(fd, IPPROTO_IP, IP_RECVTOS, 1);
    else
        set_option(fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
}

/* Kernels before 5.0 refuse, and go on as they do. */
void sock_keep_together(int fd)
{
#ifdef UDP_GRO
    set_option(fd, IPPROTO_UDP, UDP_GRO, 1);
#else
    (void)fd;
#endif
}

/* ---- ICMP ---- */

#ifdef __linux__

void sock_keep_icmp(int fd, uint8_t family)
{
    if (family == ADDR_V4)
        set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
    else
        set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
}

/*
 * What the error says in ICMP's words. A datagram with DF that is longer than the first hop takes
 * never gets as far as ICMP: the same is told of it.
 */
static bool translate(const struct sock_extended_err *e, struct sock_icmp *out)
{
    out->type = e->ee_type;
    out->code = e->ee_code;
    out->mtu = e->ee_info;
    if (e->ee_origin == SO_EE_ORIGIN_LOCAL && e->ee_errno == EMSGSIZE) {
        out->type = out->to.family == ADDR_V4 ? 3 : 2;
        out->code = out->to.family == ADDR_V4 ? 4 : 0;
        return true;
    }
    return e->ee_origin == SO_EE_ORIGIN_ICMP || e->ee_origin == SO_EE_ORIGIN_ICMP6;
}

static bool find_error(struct msghdr *msg, struct sock_icmp *out)
{
    struct sock_extended_err e;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        bool v4 = c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR;
        bool v6 = c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if ((!v4 && !v6) || c->cmsg_len < CMSG_LEN(sizeof e))
            continue;
        memcpy(&e, CMSG_DATA(c), sizeof e);
        return translate(&e, out);
    }
    return false;
}

bool sock_read_icmp(int fd, struct sock_icmp *out)
{
    union sock_addr to;
    union {
        size_t aligned; /* as a cmsghdr must be */
        uint8_t bytes[256];
    } control;

    for (;;) {
        struct msghdr msg = {.msg_name = &to,
                             .msg_namelen = sizeof to,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
        to.sa.sa_family = AF_UNSPEC;
        if (recvmsg(fd, &msg, MSG_ERRQUEUE | MSG_DONTWAIT) < 0)
            return false;
        out->to = sock_to_addr(&to);
        if (out->to.family != ADDR_NONE && find_error(&msg, out))
            return true;
    }
}

#else

void sock_keep_icmp(int fd, uint8_t family)
{
    (void)fd;
    (void)family;
}

bool sock_read_icmp(int fd, struct sock_icmp *out)
{
    (void)fd;
    (void)out;
    return false;
}

#endif
