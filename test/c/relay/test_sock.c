#include "check.h"
#include "relay/sock.h"
#include "spell.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <unistd.h>

static void test_addresses_there_and_back(void)
{
    static const char *const texts[] = {"192.0.2.1:65535", "0.0.0.0:0", "[2001:db8::1]:3478",
                                        "[::]:1", "[fe80::1]:9"};

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct addr a = addr_of(texts[i]);
        union sock_addr sa;
        if (a.family == ADDR_V6 && a.ip[0] == 0xfe)
            a.scope = 7;
        socklen_t len = sock_from_addr(&sa, &a);
        CHECK_EQ(len, a.family == ADDR_V4 ? sizeof sa.v4 : sizeof sa.v6);
        struct addr back = sock_to_addr(&sa);
        CHECK(addr_eq(&a, &back));
    }
    union sock_addr other = {.sa = {.sa_family = AF_UNIX}};
    CHECK_EQ(sock_to_addr(&other).family, ADDR_NONE);
}

static void test_flags(void)
{
    struct addr at = addr_of("127.0.0.1:0");
    int fd = -1;

    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
    close(fd);
}

static int port_of(int fd)
{
    union sock_addr sa;
    socklen_t len = sizeof sa;

    CHECK_EQ(getsockname(fd, &sa.sa, &len), 0);
    return sock_to_addr(&sa).port;
}

static void test_a_relayed_port_is_nobody_elses(void)
{
    static const char *const ips[] = {"127.0.0.1:0", "[::1]:0"};

    for (size_t i = 0; i < 2; i++) {
        struct addr at = addr_of(ips[i]);
        int fd = -1, again = -1;
        CHECK_EQ(sock_open_relay(&at, &fd), 0);
        at.port = (uint16_t)port_of(fd);
        CHECK_EQ(sock_open_relay(&at, &again), EADDRINUSE);
        CHECK_EQ(again, -1);
        close(fd);
        CHECK_EQ(sock_open_relay(&at, &again), 0);
        close(again);
    }
}

/* IPv6 sockets leave IPv4 alone: the same port of both families is two listeners. */
static void test_families_do_not_meet(void)
{
    struct addr v6 = addr_of("[::]:0"), v4 = addr_of("0.0.0.0:0");
    int fd6 = -1, fd4 = -1;

    CHECK_EQ(sock_open_listener(&v6, SOCK_ALONE, &fd6), 0);
    CHECK(v6.port != 0);
    v4.port = v6.port;
    CHECK_EQ(sock_open_listener(&v4, SOCK_ALONE, &fd4), 0);
    close(fd4);
    close(fd6);
}

static void test_listeners_share_only_among_themselves(void)
{
    struct addr at = addr_of("127.0.0.1:0");
    int first = -1, second = -1, third = -1, other = -1;

    CHECK_EQ(sock_open_listener(&at, SOCK_FIRST, &first), 0);
    CHECK_EQ(at.port, port_of(first));
    if (sock_can_share()) {
        CHECK_EQ(sock_open_listener(&at, SOCK_FURTHER, &second), 0);
        CHECK_EQ(sock_open_listener(&at, SOCK_FURTHER, &third), 0);
        CHECK_EQ(port_of(third), at.port);
    }
    CHECK_EQ(sock_open_listener(&at, SOCK_FIRST, &other), EADDRINUSE);
    CHECK_EQ(sock_open_listener(&at, SOCK_ALONE, &other), EADDRINUSE);
    CHECK_EQ(sock_open_relay(&at, &other), EADDRINUSE);
    CHECK_EQ(other, -1);
    close(first);
    close(second);
    close(third);
}

static int option(int fd, int level, int name)
{
    int v = -1;
    socklen_t len = sizeof v;

    CHECK_EQ(getsockopt(fd, level, name, &v, &len), 0);
    return v;
}

static int connect_to(const struct addr *at)
{
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, at);
    int fd = socket(sa.sa.sa_family, SOCK_STREAM, 0);

    CHECK_EQ(connect(fd, &sa.sa, len), 0);
    return fd;
}

static void test_accepts(void)
{
    struct addr at = addr_of("0.0.0.0:0"), from, local;
    int fd = -1, accepted = -1;

    CHECK_EQ(sock_open_acceptor(&at, SOCK_ALONE, &fd), 0);
    CHECK_EQ(sock_accept(fd, &from, &accepted), EAGAIN);
    struct addr to = addr_of("127.0.0.1");
    to.port = at.port;
    int client = connect_to(&to);
    CHECK_EQ(sock_accept(fd, &from, &accepted), 0);
    CHECK_EQ(from.port, port_of(client));
    CHECK_EQ(sock_local(accepted, &local), 0);
    CHECK(addr_eq(&local, &to));
    CHECK(fcntl(accepted, F_GETFD) & FD_CLOEXEC);
    CHECK(fcntl(accepted, F_GETFL) & O_NONBLOCK);
    CHECK_EQ(option(accepted, IPPROTO_TCP, TCP_NODELAY) != 0, 1);
    CHECK_EQ(option(accepted, SOL_SOCKET, SO_KEEPALIVE) != 0, 1);
    close(accepted);
    close(client);
    close(fd);
}

static void test_acceptors_share_only_among_themselves(void)
{
    struct addr at = addr_of("127.0.0.1:0");
    int first = -1, second = -1, other = -1;

    CHECK_EQ(sock_open_acceptor(&at, SOCK_FIRST, &first), 0);
    if (sock_can_share())
        CHECK_EQ(sock_open_acceptor(&at, SOCK_FURTHER, &second), 0);
    CHECK_EQ(sock_open_acceptor(&at, SOCK_FIRST, &other), EADDRINUSE);
    CHECK_EQ(sock_open_acceptor(&at, SOCK_ALONE, &other), EADDRINUSE);
    CHECK_EQ(other, -1);
    close(first);
    close(second);
}

static int wait_for_connect(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    CHECK_EQ(poll(&p, 1, 2000), 1);
    return sock_error(fd);
}

/* Out of the port where it listens, and in there: one address for both (RFC 6062 §5.2). */
static void test_connects_from_where_it_listens(void)
{
    struct addr at = addr_of("127.0.0.1:0"), peer = at, closed = at, from, local;
    int listener = -1, other = -1, out = -1, in = -1, gone = -1;

    CHECK_EQ(sock_open_acceptor(&at, SOCK_FIRST, &listener), 0);
    CHECK_EQ(sock_open_acceptor(&peer, SOCK_ALONE, &other), 0);
    CHECK_EQ(sock_open_acceptor(&closed, SOCK_ALONE, &gone), 0);
    close(gone);
    CHECK_EQ(sock_connect(&at, &peer, &out), 0);
    CHECK_EQ(wait_for_connect(out), 0);
    CHECK_EQ(sock_local(out, &local), 0);
    CHECK(addr_eq(&local, &at));
    CHECK_EQ(sock_accept(other, &from, &in), 0);
    CHECK(addr_eq(&from, &at));
    close(in);
    int client = connect_to(&at);
    CHECK_EQ(sock_accept(listener, &from, &in), 0);
    close(in);
    close(client);
    int refused = -1;
    if (sock_connect(&at, &closed, &refused) == 0) {
        CHECK_EQ(wait_for_connect(refused), ECONNREFUSED);
        CHECK_EQ(sock_error(refused), 0);
        close(refused);
    }
    struct addr strange = addr_of("192.0.2.1:5000");
    CHECK_EQ(sock_connect(&strange, &peer, &refused), EADDRNOTAVAIL);
    close(out);
    close(other);
    close(listener);
}

#ifdef TCP_USER_TIMEOUT
static void test_patience(void)
{
    struct addr at = addr_of("127.0.0.1:0"), from;
    int fd = -1, in = -1;

    CHECK_EQ(sock_open_acceptor(&at, SOCK_ALONE, &fd), 0);
    CHECK(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT) > 0);
    sock_be_patient(fd);
    int client = connect_to(&at);
    CHECK_EQ(sock_accept(fd, &from, &in), 0);
    CHECK_EQ(option(in, IPPROTO_TCP, TCP_USER_TIMEOUT), 0);
    close(in);
    close(client);
    close(fd);
}
#endif

/* Who closes first keeps a port busy for a minute; a relay that comes back must have it. */
static void test_a_port_is_taken_again_at_once(void)
{
    struct addr at = addr_of("127.0.0.1:0"), from;
    int fd = -1, accepted = -1;

    CHECK_EQ(sock_open_acceptor(&at, SOCK_ALONE, &fd), 0);
    int client = connect_to(&at);
    CHECK_EQ(sock_accept(fd, &from, &accepted), 0);
    close(accepted);
    close(fd);
    CHECK_EQ(sock_open_acceptor(&at, SOCK_ALONE, &fd), 0);
    close(client);
    close(fd);
}

static void test_ips_that_are_not_ours(void)
{
    struct addr ours = addr_of("127.0.0.1"), others = addr_of("192.0.2.77");

    CHECK_EQ(sock_try_ip(&ours), 0);
    CHECK_EQ(sock_try_ip(&others), EADDRNOTAVAIL);
}

#ifdef IP_MTU_DISCOVER
#ifdef IP_PMTUDISC_OMIT
#define WITHOUT_DF IP_PMTUDISC_OMIT
#else
#define WITHOUT_DF IP_PMTUDISC_DONT
#endif

/* Of IPv6 only the sender may cut a datagram in pieces, and does not when told so. */
static void check_unfragmented_v6(void)
{
    static char longest[65507]; /* a loopback device takes packets of 65,536 bytes */
    struct addr at = addr_of("[::1]:0"), to = at;
    union sock_addr sa;
    int fd = -1, peer = -1;

    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    CHECK_EQ(sock_open_listener(&to, SOCK_ALONE, &peer), 0);
    socklen_t len = sock_from_addr(&sa, &to);
    for (int on = 0; on < 3; on++) {
        sock_dont_fragment(fd, ADDR_V6, on == 1);
        ssize_t sent = sendto(fd, longest, sizeof longest, 0, &sa.sa, len);
        CHECK_EQ(sent, on == 1 ? -1 : (ssize_t)sizeof longest);
        if (on == 1)
            CHECK_EQ(errno, EMSGSIZE);
    }
    close(peer);
    close(fd);
}

static int discovery(int fd)
{
    int v = -1;
    socklen_t len = sizeof v;

    CHECK_EQ(getsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &v, &len), 0);
    return v;
}

static void test_fragmentation(void)
{
    struct addr at = addr_of("127.0.0.1:0"), at2 = at;
    int fd = -1, listener = -1;

    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    CHECK_EQ(discovery(fd), WITHOUT_DF);
    sock_dont_fragment(fd, ADDR_V4, true);
    CHECK_EQ(discovery(fd), IP_PMTUDISC_DO);
    sock_dont_fragment(fd, ADDR_V4, false);
    CHECK_EQ(discovery(fd), WITHOUT_DF);
    close(fd);
    CHECK_EQ(sock_open_listener(&at2, SOCK_ALONE, &listener), 0);
    CHECK_EQ(discovery(listener), WITHOUT_DF);
    close(listener);
    check_unfragmented_v6();
}
#endif

#ifdef __linux__
/* Waits for at most two seconds. */
static bool read_icmp(int fd, struct sock_icmp *e)
{
    struct pollfd p = {.fd = fd, .events = 0};

    return poll(&p, 1, 2000) == 1 && (p.revents & POLLERR) && sock_read_icmp(fd, e);
}

/* A closed port answers; the error is there to be read, fails one call, and then all is as before.
 */
static void check_closed_port(const char *ip, uint8_t type, uint8_t code)
{
    struct addr at = addr_of(ip), closed = at;
    struct sock_icmp e = {.type = 0};
    union sock_addr sa;
    int fd = -1, other = -1;

    CHECK_EQ(sock_open_listener(&closed, SOCK_ALONE, &other), 0);
    close(other);
    CHECK_EQ(sock_open_relay(&at, &fd), 0);
    sock_keep_icmp(fd, at.family);
    CHECK(!sock_read_icmp(fd, &e));
    socklen_t len = sock_from_addr(&sa, &closed);
    CHECK_EQ(sendto(fd, "x", 1, 0, &sa.sa, len), 1);
    CHECK(read_icmp(fd, &e));
    CHECK_EQ(e.type, type);
    CHECK_EQ(e.code, code);
    CHECK(addr_eq(&e.to, &closed));
    CHECK(!sock_read_icmp(fd, &e));
    sock_clear_error(fd);
    CHECK_EQ(sendto(fd, "x", 1, 0, &sa.sa, len), 1);
    close(fd);
}

static void test_icmp(void)
{
    check_closed_port("127.0.0.1", 3, 3);
    check_closed_port("::1", 1, 4);
}
#endif

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_addresses_there_and_back),
        CHECK_TEST(test_flags),
        CHECK_TEST(test_a_relayed_port_is_nobody_elses),
        CHECK_TEST(test_families_do_not_meet),
        CHECK_TEST(test_listeners_share_only_among_themselves),
        CHECK_TEST(test_accepts),
        CHECK_TEST(test_acceptors_share_only_among_themselves),
        CHECK_TEST(test_a_port_is_taken_again_at_once),
        CHECK_TEST(test_connects_from_where_it_listens),
#ifdef TCP_USER_TIMEOUT
        CHECK_TEST(test_patience),
#endif
        CHECK_TEST(test_ips_that_are_not_ours),
#ifdef IP_MTU_DISCOVER
        CHECK_TEST(test_fragmentation),
#endif
#ifdef __linux__
        CHECK_TEST(test_icmp),
#endif
    };
    return CHECK_RUN(tests);
}
