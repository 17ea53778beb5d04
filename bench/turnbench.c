/*
 * turnbench: a load generator for TURN servers over UDP, and the raw-socket floor to hold them
 * against. It prints one line of JSON: `turnbench -h` says how to call it, bench/README.md what
 * the figures mean.
 */
#define _GNU_SOURCE
#include "bench.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    CLIENTS_MAX = 250000,
    DESCRIPTORS = 600000
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
    "  -g            a burst leaves in one piece, by UDP_SEGMENT (GSO)\n"
    "  -G            clients and peers receive with UDP_GRO\n"
    "  -H            all clients share one socket, each with an address of its own, and all peers\n"
    "                another: the generator has less to do for each packet\n"
    "  -I            with -H: packets are put onto the loopback device by a packet socket, which\n"
    "                costs still less; wants root and net.ipv4.conf.lo.route_localnet=1\n"
    "  -l BYTES      payload, 16 to 1400 (160)\n"
    "  -t SECONDS    to measure, after half a second to warm up (5)\n"
    "  -j N          threads that send and receive, 1 to 16 (1)\n"
    "  -c CPU,...    keep the generator on that CPU, or its threads on these in turn\n"
    "  -f CPU        keep the floor's forwarder on that CPU\n"
    "modes:\n";

/* ---- clients ---- */

void bench_open(struct bench *b, int i)
{
    struct client *c = &b->load.clients[i];
    if (b->load.hub)
        client_open_shared(b->load.clients, &b->source, i);
    else
        client_open(c, &b->source, i);
    client_allocate(c, &b->source);
    if (!b->mode->with_peers)
        return;
    if (b->load.hub && i > 0)
        client_share_peer(c, b->load.clients);
    else
        client_open_peer(c, &b->source);
    client_bind(c, &b->source, &c->peer_addr);
}

void bench_open_all(struct bench *b)
{
    uint64_t start = now_ns();
    if (b->mode->paired && b->load.n % 2)
        die("%s wants an even number of clients", b->mode->name);
    for (int i = 0; i < b->load.n; i++)
        bench_open(b, i);
    for (int i = 0; b->mode->paired && i < b->load.n; i++)
        client_bind(&b->load.clients[i], &b->source, &b->load.clients[i ^ 1].relay);
    b->setup_s = (double)(now_ns() - start) * 1e-9;
}

void bench_close_all(struct bench *b)
{
    for (int i = 0; i < b->load.n; i++)
        client_release(&b->load.clients[i], &b->source);
    for (int i = 0; i < b->load.n; i++)
        client_close(&b->load.clients[i]);
}

/* ---- the command line ---- */

static const struct mode modes[] = {
    {"up", traffic_run, .with_peers = true,
     .help = "client -> server -> peer: ChannelData in, plain UDP out"},
    {"down", traffic_run, .with_peers = true, .from_peer = true,
     .help = "peer -> server -> client: plain UDP in, ChannelData out"},
    {"echo", traffic_run, .with_peers = true, .echo = true,
     .help = "client -> server -> peer -> server -> client"},
    {"ind", traffic_run, .with_peers = true, .indication = true,
     .help = "as up, with Send indications"},
    {"pair", traffic_run, .paired = true, .help = "client -> server, relay to relay -> client"},
    {"alloc", cycle_run, .help = "release and allocate over and over, one after another"},
    {"storm", storm_run, .help = "the same, -n at once"},
    {"hold", hold_run, .help = "memory against allocations, up to -w and -n of them"},
    {"holdpair", hold_run, .paired = true, .help = "the same, with each other as peers"},
    {"stall", stall_run, .with_peers = true,
     .help = "echo, while the busiest thread of the first process is stopped for -t seconds"},
    {"floor", traffic_floor, .help = "no TURN: up through a bare forwarder of our own"},
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
        fprintf(out, "  %-9s%s\n", modes[i].name, modes[i].help);
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

static void parse_cpus(struct team_setup *team, const char *text)
{
    char part[16];
    for (team->cpu_count = 0; *text && team->cpu_count < TEAM_MAX;) {
        size_t len = strcspn(text, ",");
        snprintf(part, sizeof part, "%.*s", (int)len, text);
        team->cpus[team->cpu_count++] = number('c', part, 0, 1023);
        text += len + (text[len] == ',');
    }
}

static double parse_rate(const char *text)
{
    char *end;
    double rate = strtod(text, &end);
    if (end == text || *end || !(rate >= 0))
        die("-r wants packets per second, not %s", text);
    return rate;
}

/* Options that say what is sent. */
static bool set_load_option(struct load *load, int option, const char *value)
{
    switch (option) {
    case 'n':
        load->n = number('n', value, 1, CLIENTS_MAX);
        return true;
    case 'b':
        load->burst = number('b', value, 1, BATCH_MAX);
        return true;
    case 'l':
        load->size = number('l', value, LOAD_SIZE_MIN, MESSAGE_PAYLOAD_MAX);
        return true;
    case 'r':
        load->rate = parse_rate(value);
        return true;
    case 'g':
        load->gso = true;
        return true;
    case 'G':
        load->gro = true;
        return true;
    case 'H':
        load->hub = true;
        return true;
    case 'I':
        load->inject = true;
        return true;
    default:
        return false;
    }
}

static void set_option(struct bench *b, int option, const char *value)
{
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
    case 'w':
        b->warm = number('w', value, 1, CLIENTS_MAX);
        break;
    case 'u':
        b->source.users = number('u', value, 0, CLIENTS_MAX);
        break;
    case 't':
        b->seconds = number('t', value, 1, 3600);
        break;
    case 'j':
        b->team.threads = number('j', value, 1, TEAM_MAX);
        break;
    case 'c':
        parse_cpus(&b->team, value);
        break;
    case 'f':
        b->floor_cpu = number('f', value, 0, 1023);
        break;
    case 'h':
        help(stdout, 0);
    default:
        help(stderr, 2);
    }
}

/* As many as there may be: up to two sockets a client. */
static void raise_descriptors(void)
{
    struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit))
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void check(const struct bench *b)
{
    if (b->load.gso && (b->load.size + 64) * b->load.burst > BATCH_GSO_BYTES)
        die("-g: a burst has %d bytes at most", BATCH_GSO_BYTES);
    if (b->load.inject && !b->load.hub)
        die("-I goes with -H");
    if (b->load.hub && (b->load.gso || b->load.gro || b->team.threads > 1 ||
                        b->load.n > CLIENT_SHARERS || b->mode->run != traffic_run))
        die("-H goes with packets of at most %d clients, and not with -g, -G or -j",
            CLIENT_SHARERS);
}

int main(int argc, char **argv)
{
    struct bench b = {
        .mode = find_mode("up"),
        .source = {.server = parse_server("127.0.0.1:3478"),
                   .secret = "bench",
                   .clients = {.net = 1},
                   .peers = {.net = 2}},
        .load = {.n = 64, .size = 160, .burst = 1, .rate = 20000},
        .team = {.threads = 1},
        .seconds = 5,
        .warm = 256,
        .floor_cpu = -1,
    };
    for (int o; (o = getopt(argc, argv, "s:W:P:m:n:w:u:r:b:l:t:j:c:f:gGHIh")) != -1;)
        if (!set_load_option(&b.load, o, optarg))
            set_option(&b, o, optarg);
    if (optind != argc)
        help(stderr, 2);
    check(&b);
    b.source.gro = b.load.gro;
    raise_descriptors();
    if (b.team.cpu_count)
        proc_pin(0, b.team.cpus[0]);
    b.load.clients = calloc((size_t)(b.load.n + b.warm), sizeof *b.load.clients);
    if (!b.load.clients)
        die("no memory");
    b.mode->run(&b);
    free(b.load.clients);
    return 0;
}
