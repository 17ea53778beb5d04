/*
 * turnbench: a load generator for TURN servers over UDP, and the raw-socket floor to hold them
 * against. It prints one line of JSON: `turnbench -h` says how to call it, bench/README.md what
 * the figures mean.
 */
#define _GNU_SOURCE
#include "client.h"
#include "floor.h"
#include "load.h"
#include "proc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    LATENCIES_MAX = 4000000
};

struct bench {
    const struct mode *mode;
    struct client_source source;
    struct load load; /* clients, their number and what they send */
    struct procs server;
    int seconds, warm;  /* warm: allocations made before memory is first looked at */
    int cpu, floor_cpu; /* -1: anywhere */
    double setup_s;
};

struct mode {
    const char *name;
    void (*run)(struct bench *b, const struct mode *mode);
    bool with_peers;
    bool from_peer, indication, echo;
    const char *help;
};

static const char usage[] =
    "usage: turnbench [options]\n"
    "  -s HOST:PORT  the server, IPv4 (127.0.0.1:3478)\n"
    "  -W SECRET     of the REST scheme (bench)\n"
    "  -P PID,...    the server's processes, whose CPU time and memory are read\n"
    "  -m MODE       see below (up)\n"
    "  -n N          clients, one allocation and one channel each (64)\n"
    "  -w N          hold: allocations made before memory is first looked at (256)\n"
    "  -u N          user names that the clients share; 0: one each (0)\n"
    "  -r RATE       packets per second over all clients; 0: as many as go out (20000)\n"
    "  -b N          packets per client and turn, 1 to 64 (1)\n"
    "  -l BYTES      payload, 16 to 1400 (160)\n"
    "  -t SECONDS    to measure, after half a second to warm up (5)\n"
    "  -c CPU        keep the generator on that CPU\n"
    "  -f CPU        keep the floor's forwarder on that CPU\n"
    "modes:\n";

/* ---- clients ---- */

static void open_client(struct bench *b, int i, bool with_peer)
{
    struct client *c = &b->load.clients[i];
    client_open(c, &b->source, i);
    client_allocate(c, &b->source);
    if (!with_peer)
        return;
    client_open_peer(c, &b->source);
    client_bind(c, &b->source, &c->peer_addr);
}

static void open_clients(struct bench *b, const struct mode *mode)
{
    uint64_t start = now_ns();
    for (int i = 0; i < b->load.n; i++)
        open_client(b, i, mode->with_peers);
    b->setup_s = (double)(now_ns() - start) * 1e-9;
}

/* Releases every allocation, so that the next run meets a server without any. */
static void close_clients(struct bench *b)
{
    for (int i = 0; i < b->load.n; i++) {
        client_release(&b->load.clients[i], &b->source);
        client_close(&b->load.clients[i]);
    }
}

/* ---- modes with traffic ---- */

static void print_by_process(const struct bench *b, const uint64_t *before, double per)
{
    printf(",\"server_cpu_by_process\":[");
    for (size_t i = 0; i < b->server.n; i++)
        printf("%s%.0f", i ? "," : "",
               per > 0 ? (double)(proc_cpu_ns(b->server.pid[i]) - before[i]) / per : 0);
    printf("]");
}

static void print_traffic(const struct bench *b, const struct load_result *r)
{
    printf("{\"mode\":\"%s\",\"clients\":%d,\"size\":%d,\"burst\":%d,\"asked_pps\":%.0f",
           b->mode->name, b->load.n, b->load.size, b->load.burst, b->load.rate);
    printf(",\"sent\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"bad\":%" PRIu64
           ",\"loss_pct\":%.3f",
           r->sent, r->unsent, r->delivered, r->bad,
           r->sent ? 100.0 * (1.0 - (double)r->delivered / (double)r->sent) : 0.0);
    printf(",\"pps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f",
           (double)(r->delivered - r->late) / r->seconds, load_quantile(r, 0.5),
           load_quantile(r, 0.99), load_quantile(r, 0.999));
}

/* Half a second that is not counted, then the measurement. */
static void measure(struct bench *b, struct load_result *r)
{
    struct load_run *run = load_new(&b->load);
    uint64_t before[PROC_MAX], self = 0, cpu = 0;
    load_send(run, 0.5, r);
    for (size_t i = 0; i < b->server.n; i++)
        before[i] = proc_cpu_ns(b->server.pid[i]);
    cpu = procs_cpu_ns(&b->server);
    self = proc_cpu_ns(getpid());
    uint64_t start = now_ns();
    load_send(run, b->seconds, r);
    double wall = (double)(now_ns() - start);
    double used = (double)(procs_cpu_ns(&b->server) - cpu);
    double self_used = (double)(proc_cpu_ns(getpid()) - self);
    load_free(run);
    load_sort(r);
    print_traffic(b, r);
    printf(",\"server_cpu_ns_per_pkt\":%.0f", r->delivered ? used / (double)r->delivered : 0.0);
    print_by_process(b, before, (double)r->delivered);
    printf(",\"server_cpu_pct\":%.1f,\"gen_cpu_pct\":%.1f,\"server_rss_kb\":%" PRIu64
           ",\"setup_s\":%.3f}\n",
           100 * used / wall, 100 * self_used / wall, procs_rss_kb(&b->server), b->setup_s);
}

static void send_traffic(struct bench *b, const struct mode *mode)
{
    struct load_result r = {.latency_cap = LATENCIES_MAX};
    r.latency = malloc(r.latency_cap * sizeof *r.latency);
    if (!r.latency)
        die("no memory");
    b->load.from_peer = mode->from_peer;
    b->load.indication = mode->indication;
    b->load.echo = mode->echo;
    measure(b, &r);
    free(r.latency);
    if (r.delivered == 0)
        die("nothing arrived");
}

static void run_traffic(struct bench *b, const struct mode *mode)
{
    open_clients(b, mode);
    send_traffic(b, mode);
    close_clients(b);
}

/* Clients 2k and 2k + 1 are each other's peers, by their relayed addresses. */
static void run_pair(struct bench *b, const struct mode *mode)
{
    if (b->load.n % 2)
        die("pair wants an even number of clients");
    open_clients(b, mode);
    for (int i = 0; i < b->load.n; i++)
        client_bind(&b->load.clients[i], &b->source, &b->load.clients[i ^ 1].relay);
    send_traffic(b, mode);
    close_clients(b);
}

static void run_floor(struct bench *b, const struct mode *mode)
{
    socklen_t len = sizeof b->source.server;
    int in = client_socket(&b->source);
    if (getsockname(in, (struct sockaddr *)&b->source.server, &len))
        die("getsockname: %s", strerror(errno));
    for (int i = 0; i < b->load.n; i++) {
        client_open(&b->load.clients[i], &b->source, i);
        client_open_peer(&b->load.clients[i], &b->source);
        b->load.clients[i].channel = (uint16_t)(CLIENT_CHANNEL + i);
    }
    int pid = floor_start(in, b->load.clients, b->load.n, b->floor_cpu);
    b->server = (struct procs){.pid = {pid}, .n = 1};
    close(in);
    send_traffic(b, mode);
    floor_stop(pid);
}

/* ---- modes without ---- */

/*
 * Release, then allocate on a new 5-tuple with a new challenge: what a client that comes and goes
 * costs. Returns how often.
 */
static uint64_t cycle(struct bench *b, uint64_t end)
{
    uint64_t cycles = 0;
    for (int i = 0; now_ns() < end; i = (i + 1) % b->load.n) {
        struct client *c = &b->load.clients[i];
        client_release(c, &b->source);
        client_close(c);
        open_client(b, i, false);
        cycles++;
    }
    return cycles;
}

static void run_alloc(struct bench *b, const struct mode *mode)
{
    open_clients(b, mode);
    cycle(b, now_ns() + 500000000u);
    uint64_t before[PROC_MAX], cpu = procs_cpu_ns(&b->server), start = now_ns();
    for (size_t i = 0; i < b->server.n; i++)
        before[i] = proc_cpu_ns(b->server.pid[i]);
    double cycles = (double)cycle(b, start + (uint64_t)b->seconds * 1000000000u);
    double seconds = (double)(now_ns() - start) * 1e-9;
    double used = (double)(procs_cpu_ns(&b->server) - cpu);
    printf("{\"mode\":\"%s\",\"clients\":%d,\"cycles_per_s\":%.0f"
           ",\"server_cpu_us_per_cycle\":%.1f",
           mode->name, b->load.n, cycles / seconds, used / cycles / 1e3);
    print_by_process(b, before, cycles);
    printf("}\n");
    close_clients(b);
}

/*
 * Every allocation carries one packet there and back: it is there, and has used what it needs.
 * Returns how many did at best, of a few times: a busy machine may be late.
 */
static uint64_t carry(struct bench *b, int n)
{
    struct load_result r = {0};
    struct load all = b->load;
    uint64_t best = 0;
    all.n = n;
    all.echo = true;
    all.burst = 1;
    all.rate = 4000;
    struct load_run *run = load_new(&all);
    for (int tries = 0; tries < 10 && best < (uint64_t)n; tries++) {
        load_send(run, (n + 0.5) / all.rate, &r);
        best = r.delivered > best ? r.delivered : best;
    }
    load_free(run);
    return best;
}

struct memory {
    uint64_t kb, kb_of[PROC_MAX];
};

static struct memory look(const struct procs *server)
{
    struct memory m = {.kb = procs_settled_rss_kb(server)};
    for (size_t i = 0; i < server->n; i++)
        m.kb_of[i] = proc_rss_kb(server->pid[i]);
    return m;
}

static double growth(uint64_t from, uint64_t to, int n)
{
    return ((double)to - (double)from) / n;
}

static void run_hold(struct bench *b, const struct mode *mode)
{
    if (b->server.n == 0)
        die("hold wants -P");
    int n = b->load.n, all = n + b->warm;
    struct memory empty = look(&b->server);
    for (int i = 0; i < b->warm; i++)
        open_client(b, i, true);
    carry(b, b->warm);
    struct memory warm = look(&b->server);
    for (int i = b->warm; i < all; i++)
        open_client(b, i, true);
    uint64_t carried = carry(b, all);
    struct memory full = look(&b->server);
    b->load.n = all;
    close_clients(b);
    printf("{\"mode\":\"%s\",\"warm\":%d,\"allocations\":%d,\"carried\":%" PRIu64
           ",\"rss_empty_kb\":%" PRIu64 ",\"rss_warm_kb\":%" PRIu64 ",\"rss_full_kb\":%" PRIu64
           ",\"rss_released_kb\":%" PRIu64 ",\"rss_kb_per_alloc\":%.3f,\"by_process\":[",
           mode->name, b->warm, n, carried, empty.kb, warm.kb, full.kb, look(&b->server).kb,
           growth(warm.kb, full.kb, n));
    for (size_t i = 0; i < b->server.n; i++)
        printf("%s%.3f", i ? "," : "", growth(warm.kb_of[i], full.kb_of[i], n));
    printf("]}\n");
}

/* ---- the command line ---- */

static const struct mode modes[] = {
    {"up", run_traffic, .with_peers = true,
     .help = "client -> server -> peer: ChannelData in, plain UDP out"},
    {"down", run_traffic, .with_peers = true, .from_peer = true,
     .help = "peer -> server -> client: plain UDP in, ChannelData out"},
    {"echo", run_traffic, .with_peers = true, .echo = true,
     .help = "client -> server -> peer -> server -> client"},
    {"ind", run_traffic, .with_peers = true, .indication = true,
     .help = "as up, with Send indications"},
    {"pair", run_pair, .help = "client -> server, relay to relay -> client"},
    {"alloc", run_alloc, .help = "release and allocate over and over, one after another"},
    {"hold", run_hold, .with_peers = true, .help = "memory per allocation, over -n of them"},
    {"floor", run_floor, .help = "no TURN: up through a bare forwarder of our own"},
};

static const struct mode *find_mode(const char *name)
{
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        if (strcmp(modes[i].name, name) == 0)
            return &modes[i];
    die("no mode is called %s", name);
}

static _Noreturn void help(FILE *out, int status)
{
    fputs(usage, out);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
        fprintf(out, "  %-7s%s\n", modes[i].name, modes[i].help);
    exit(status);
}

static int number(char option, const char *text, int min, int max)
{
    char *end;
    long v = strtol(text, &end, 10);
    if (end == text || *end || v < min || v > max)
        die("-%c wants a number from %d to %d, not %s", option, min, max, text);
    return (int)v;
}

static struct sockaddr_in parse_server(const char *text)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strrchr(text, ':');
    if (!colon || snprintf(host, sizeof host, "%.*s", (int)(colon - text), text) >= 64 ||
        inet_pton(AF_INET, host, &at.sin_addr) != 1)
        die("-s wants IPV4:PORT, not %s", text);
    at.sin_port = htons((uint16_t)number('s', colon + 1, 1, 65535));
    return at;
}

static void set_option(struct bench *b, int option, const char *value)
{
    char *end;
    switch (option) {
    case 's':
        b->source.server = parse_server(value);
        break;
    case 'W':
        b->source.secret = value;
        break;
    case 'P':
        procs_parse(&b->server, value);
        break;
    case 'm':
        b->mode = find_mode(value);
        break;
    case 'n':
        b->load.n = number('n', value, 1, 8192);
        break;
    case 'w':
        b->warm = number('w', value, 1, 8192);
        break;
    case 'u':
        b->source.users = number('u', value, 0, 8192);
        break;
    case 'b':
        b->load.burst = number('b', value, 1, LOAD_BURST_MAX);
        break;
    case 'l':
        b->load.size = number('l', value, LOAD_SIZE_MIN, CLIENT_PAYLOAD_MAX);
        break;
    case 't':
        b->seconds = number('t', value, 1, 3600);
        break;
    case 'c':
        b->cpu = number('c', value, 0, 1023);
        break;
    case 'f':
        b->floor_cpu = number('f', value, 0, 1023);
        break;
    case 'r':
        b->load.rate = strtod(value, &end);
        if (end == value || *end || !(b->load.rate >= 0))
            die("-r wants packets per second, not %s", value);
        break;
    case 'h':
        help(stdout, 0);
    default:
        help(stderr, 2);
    }
}

static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
    struct bench b = {
        .mode = find_mode("up"),
        .source = {.server = parse_server("127.0.0.1:3478"), .secret = "bench"},
        .load = {.n = 64, .size = 160, .burst = 1, .rate = 20000},
        .seconds = 5,
        .warm = 256,
        .cpu = -1,
        .floor_cpu = -1,
    };
    for (int o; (o = getopt(argc, argv, "s:W:P:m:n:w:u:r:b:l:t:c:f:h")) != -1;)
        set_option(&b, o, optarg);
    if (optind != argc)
        help(stderr, 2);
    raise_descriptors();
    if (b.cpu >= 0)
        proc_pin(0, b.cpu);
    b.load.clients = calloc((size_t)(b.load.n + b.warm), sizeof *b.load.clients);
    if (!b.load.clients)
        die("no memory");
    b.mode->run(&b, b.mode);
    free(b.load.clients);
    return 0;
}
