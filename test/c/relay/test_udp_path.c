#include "caller.h"

#include "core/turn_frame.h"

#include <netinet/udp.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#endif

/*
 * The whole way of a packet: a client with an allocation, the engine, a peer, all over real
 * sockets. What arrives there, and what it costs.
 */
enum {
    CHANNEL = 0x4001,
    BURST_MAX = 64,
    SIZE = 1500
};

struct path {
    struct rig r;
    struct caller caller;
    int client, peer;
    struct addr relayed;
    struct addr peer_at;
};

static void turn(struct caller *caller)
{
    rig_turn(&((struct path *)(void *)((char *)caller - offsetof(struct path, caller)))->r);
}

/* Client and listener on one address, peer and relayed address on another; channel 0: none. */
static void path_init(struct path *p, const char *client, const char *peer, uint16_t channel)
{
    memset(p, 0, sizeof *p);
    rig_init(&p->r);
    rig_listen(&p->r, client, NULL);
    CHECK_EQ(udp_start(p->r.udp, p->r.server), 0);
    p->peer = rig_socket(peer);
    p->peer_at = rig_local(p->peer);
    caller_init(&p->caller, p->r.crypto, client, &p->r.listener, turn);
    p->client = p->caller.fd;
    caller_allocate(&p->caller, p->peer_at.family);
    caller_admit(&p->caller, &p->peer_at, channel);
    p->relayed = p->caller.c.relayed;
}

static void path_free(struct path *p)
{
    rig_free(&p->r);
    caller_free(&p->caller);
    close(p->peer);
}

/* ---- bursts ---- */

/* Payload number n of a burst tells which one it is. */
static void fill(uint8_t *bytes, size_t len, unsigned n)
{
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(n * 31 + i);
}

/* Datagrams on their way to the relay: all of `size` bytes but the last. */
struct burst {
    uint8_t bytes[BURST_MAX * SIZE];
    size_t len, size;
};

static void burst_add(struct burst *b, struct span head, size_t payload, unsigned n)
{
    struct wbuf w = wbuf_of(b->bytes + b->len, sizeof b->bytes - b->len);
    uint8_t bytes[SIZE];

    fill(bytes, payload, n);
    wbuf_bytes(&w, head.data, head.len);
    wbuf_bytes(&w, bytes, payload);
    CHECK(!w.failed);
    if (b->len == 0)
        b->size = w.pos;
    b->len += w.pos;
}

/* With one call; false where the kernel does not cut apart, or not segments of that length. */
static bool send_together(const struct burst *b, int fd, const struct addr *to)
{
#ifdef UDP_SEGMENT
    int size = (int)b->size, none = 0;
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, to);

    if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof size) != 0)
        return false;
    ssize_t n = sendto(fd, b->bytes, b->len, 0, &sa.sa, len);
    CHECK_EQ(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &none, sizeof none), 0);
    return n == (ssize_t)b->len;
#else
    (void)b;
    (void)fd;
    (void)to;
    return false;
#endif
}

static void burst_send(struct burst *b, int fd, const struct addr *to)
{
    size_t n = send_together(b, fd, to) ? 0 : b->len;

    for (size_t at = 0; at < n; at += b->size)
        rig_send(fd, to, b->bytes + at, n - at < b->size ? n - at : b->size);
    b->len = 0;
}

/* Bursts by their payloads: how many of which size, and the size of one more. */
static const struct {
    unsigned count;
    size_t size, last;
} bursts[] = {{16, 160, 0}, {20, 1000, 999}, {1, 160, 0}, {40, 1400, 3}, {63, 1, 1}, {5, 37, 11}};

enum {
    BURSTS = sizeof bursts / sizeof *bursts
};

static void send_bursts(int fd, const struct addr *to, bool channel)
{
    static struct burst b;
    unsigned n = 0;

    for (unsigned i = 0; i < BURSTS; i++) {
        for (unsigned k = 0; k < bursts[i].count + (bursts[i].last > 0); k++, n++) {
            size_t size = k < bursts[i].count ? bursts[i].size : bursts[i].last;
            uint8_t head[STUN_CHANNEL_HEADER_SIZE];
            struct wbuf w = wbuf_of(head, sizeof head);
            wbuf_u16(&w, CHANNEL);
            wbuf_u16(&w, (uint16_t)size);
            burst_add(&b, span_of(head, channel ? w.pos : 0), size, n);
        }
        burst_send(&b, fd, to);
    }
}

/* What a frame for a client carries. */
static struct span payload_of(const uint8_t *got, size_t len, struct stun_msg *m)
{
    struct turn_channel_data cd;

    if (turn_channel_data_decode(got, len, &cd) == CT_OK)
        return len == STUN_CHANNEL_HEADER_SIZE + cd.data.len ? cd.data : span_of(NULL, 0);
    return stun_msg_decode(m, got, len, NULL) == CT_OK ? stun_msg_bytes(m, STUN_ID_DATA)
                                                       : span_of(NULL, 0);
}

static void check_bursts(int fd, bool framed)
{
    unsigned n = 0;

    for (unsigned i = 0; i < BURSTS; i++)
        for (unsigned k = 0; k < bursts[i].count + (bursts[i].last > 0); k++, n++) {
            size_t size = k < bursts[i].count ? bursts[i].size : bursts[i].last;
            static uint8_t got[1 << 16], want[SIZE];
            struct stun_msg m;
            struct addr from;
            ssize_t len = rig_recv(fd, got, sizeof got, &from);
            fill(want, size, n);
            struct span data = span_of(got, len < 0 ? 0 : (size_t)len);
            if (framed)
                data = payload_of(got, data.len, &m);
            CHECK(span_eq(data, span_of(want, size)));
        }
    uint8_t byte;
    CHECK(recv(fd, &byte, 1, MSG_DONTWAIT) < 0);
}

static unsigned burst_total(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < BURSTS; i++)
        n += bursts[i].count + (bursts[i].last > 0);
    return n;
}

static void check_path(const char *client, const char *peer)
{
    struct path p;

    path_init(&p, client, peer, CHANNEL);
    for (unsigned round = 1; round <= 2; round++) {
        send_bursts(p.client, &p.r.listener, true);
        rig_run_until(&p.r, TURN_N_UP_PACKETS, round * burst_total());
        check_bursts(p.peer, false);
        send_bursts(p.peer, &p.relayed, false);
        rig_run_until(&p.r, TURN_N_DOWN_PACKETS, round * burst_total());
        check_bursts(p.client, true);
    }
    CHECK_EQ(rig_counter(&p.r, TURN_N_DROP_SEND), 0);
    CHECK_EQ(rig_counter(&p.r, TURN_N_DROP_RECEIVE), 0);
    path_free(&p);
}

/* ---- tests ---- */

/* Bursts of equal and of mixed sizes cross the relay both ways: all of it, in order, unaltered. */
static void test_bursts_between_families(void)
{
    check_path("127.0.0.1:0", "127.0.0.1:0");
    check_path("127.0.0.1:0", "[::1]:0");
    check_path("[::1]:0", "127.0.0.1:0");
    check_path("[::1]:0", "[::1]:0");
}

/* The same to a client without a channel: each payload has a head of its own, and padding. */
static void test_bursts_as_indications(void)
{
    struct path p;

    path_init(&p, "127.0.0.1:0", "[::1]:0", 0);
    send_bursts(p.peer, &p.relayed, false);
    rig_run_until(&p.r, TURN_N_DOWN_PACKETS, burst_total());
    check_bursts(p.client, true);
    path_free(&p);
}

#ifdef __linux__

enum {
    SMALL_MTU = 1300 /* bursts hold longer datagrams */
};

/* A network of this process's own, whose only device is loopback with that MTU. */
static bool enter_small_network(void)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_mtu = SMALL_MTU};

    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return false;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    bool done = fd >= 0 && ioctl(fd, SIOCSIFMTU, &lo) == 0;
    lo.ifr_flags = IFF_UP;
    done = done && ioctl(fd, SIOCSIFFLAGS, &lo) == 0;
    if (fd >= 0)
        close(fd);
    return done;
}

/* How a child process ends that enters such a network, if it may, and runs this there. */
static int in_small_network(void (*run)(void))
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        bool entered = enter_small_network();
        if (entered)
            run();
        fflush(stdout);
        _exit(entered ? check_failures != 0 : 2);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_nothing(void)
{
}

static void run_paths(void)
{
    check_path("127.0.0.1:0", "127.0.0.1:0");
    check_path("[::1]:0", "[::1]:0");
}

/* Datagrams that the MTU does not hold cross as fragments, each once, among others that it holds.
 */
static void test_bursts_beyond_the_mtu(void)
{
    CHECK_EQ(in_small_network(run_paths), 0);
}
#endif

/* ---- what it costs ---- */

/* Packets both ways: bursts, and one at a time. */
static void traffic(struct path *p, unsigned rounds)
{
    static const uint8_t frame[STUN_CHANNEL_HEADER_SIZE + 160] = {CHANNEL >> 8, CHANNEL & 0xff, 0,
                                                                  160};
    uint64_t up = rig_counter(&p->r, TURN_N_UP_PACKETS);
    uint64_t down = rig_counter(&p->r, TURN_N_DOWN_PACKETS);
    static uint8_t got[256];
    struct addr from;

    for (unsigned i = 1; i <= rounds; i++) {
        unsigned n = i % 3 ? 1 : 20;
        for (unsigned k = 0; k < n; k++) {
            rig_send(p->client, &p->r.listener, frame, sizeof frame);
            rig_send(p->peer, &p->relayed, frame + STUN_CHANNEL_HEADER_SIZE, 160);
        }
        rig_run_until(&p->r, TURN_N_UP_PACKETS, up += n);
        rig_run_until(&p->r, TURN_N_DOWN_PACKETS, down += n);
        for (unsigned k = 0; k < n; k++) {
            CHECK_EQ(rig_recv(p->peer, got, sizeof got, &from), 160);
            CHECK_EQ(rig_recv(p->client, got, sizeof got, &from), sizeof frame);
        }
    }
}

/* The C tests always run under AddressSanitizer, which tells of each allocation. */
#if defined(__SANITIZE_ADDRESS__)
#define COUNTS_ALLOCATIONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define COUNTS_ALLOCATIONS 1
#endif
#endif

#ifdef COUNTS_ALLOCATIONS
/* Of sanitizer/allocator_interface.h, which not every compiler brings along. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));

static unsigned allocations;

static void count_allocation(const volatile void *memory, size_t size)
{
    (void)memory;
    (void)size;
    allocations++;
}

static void count_nothing(const volatile void *memory)
{
    (void)memory;
}

static void test_allocates_nothing(void)
{
    struct path p;

    path_init(&p, "127.0.0.1:0", "127.0.0.1:0", CHANNEL);
    traffic(&p, 12);
    CHECK(__sanitizer_install_malloc_and_free_hooks(count_allocation, count_nothing) > 0);
    void *volatile one = malloc(1);
    free(one);
    CHECK_EQ(allocations, 1);
    traffic(&p, 300);
    CHECK_EQ(allocations, 1);
    path_free(&p);
}
#endif

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))

/* Receive, send and wait; the test's own sockets need no others. */
static const int allowed[] = {
    __NR_recvmsg,    __NR_recvfrom, __NR_recvmmsg,    __NR_sendto,     __NR_sendmsg,
    __NR_sendmmsg,   __NR_write,    __NR_epoll_pwait, __NR_exit_group,
#ifdef __NR_epoll_wait
    __NR_epoll_wait,
#endif
};

/* The sanitizer's _exit() does more. */
static void end_now(int status)
{
    syscall(__NR_exit_group, status);
}

static void tell_call(int signal, siginfo_t *info, void *context)
{
    char text[] = "# system call 000\n";

    (void)signal;
    (void)context;
    for (int i = 0, n = info->si_syscall; i < 3; i++, n /= 10)
        text[sizeof text - 3 - (size_t)i] = (char)('0' + n % 10);
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
    end_now(1);
}

/* From here on every other system call ends the process. */
static void allow_only_those(void)
{
    enum {
        CALLS = sizeof allowed / sizeof *allowed
    };
    struct sock_filter code[2 * CALLS + 2];
    struct sock_fprog program = {.filter = code};
    struct sigaction tell = {.sa_sigaction = tell_call, .sa_flags = SA_SIGINFO};

    code[program.len++] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < CALLS; i++) {
        code[program.len++] =
            (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)allowed[i], 0, 1);
        code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    CHECK_EQ(sigaction(SIGSYS, &tell, NULL), 0);
    CHECK_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    CHECK_EQ(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static int run_filtered(struct path *p, void (*run)(struct path *p))
{
    int status = -1;

    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        check_failures = 0;
        allow_only_those();
        run(p);
        fflush(stdout);
        end_now(check_failures ? 2 : 0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void run_traffic(struct path *p)
{
    traffic(p, 300);
}

static void run_stray_call(struct path *p)
{
    (void)p;
    (void)getppid();
}

static void test_calls_only_what_it_must(void)
{
    struct path p;

    path_init(&p, "127.0.0.1:0", "127.0.0.1:0", CHANNEL);
    traffic(&p, 12);
    CHECK_EQ(run_filtered(&p, run_traffic), 0);
    CHECK_EQ(run_filtered(&p, run_stray_call), 1);
    path_free(&p);
}
#endif

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_bursts_between_families),
        CHECK_TEST(test_bursts_as_indications),
#ifdef COUNTS_ALLOCATIONS
        CHECK_TEST(test_allocates_nothing),
#endif
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
        CHECK_TEST(test_calls_only_what_it_must),
#endif
#ifdef __linux__
        CHECK_TEST(test_bursts_beyond_the_mtu), /* the last: not everybody may have a network */
#endif
    };
    size_t n = sizeof tests / sizeof *tests;

    printf("# UDP by %s\n", udp_backend());
#ifdef __linux__
    if (in_small_network(run_nothing) != 0) {
        printf("# SKIPPED test_bursts_beyond_the_mtu: may not have a network namespace\n");
        n--;
    }
#endif
    return check_run(tests, n);
}
