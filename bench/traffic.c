/* The modes with packets: through a server, or through a forwarder that knows no TURN. */
#include "bench.h"
#include "floor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double WARM_UP_S = 0.5;

/* What the server's processes, and the threads of its first one, had used before. */
struct usage {
    uint64_t at_ns, own, all, by_process[PROC_MAX];
    struct proc_thread threads[PROC_THREADS_MAX];
    size_t thread_count;
};

static void look(const struct bench *b, struct usage *u)
{
    for (size_t i = 0; i < b->server.n; i++)
        u->by_process[i] = proc_cpu_ns(b->server.pid[i]);
    u->thread_count = b->server.n ? proc_threads(b->server.pid[0], u->threads) : 0;
    u->all = procs_cpu_ns(&b->server);
    u->own = proc_own_cpu_ns();
    u->at_ns = now_ns();
}

/* Nanoseconds per packet, or of the whole time when nothing is counted. */
static void print_by_process(const struct bench *b, const struct usage *from,
                             const struct usage *to, double per)
{
    printf(",\"server_cpu_by_process\":[");
    for (size_t i = 0; i < b->server.n; i++)
        printf("%s%.0f", i ? "," : "",
               per > 0 ? (double)(to->by_process[i] - from->by_process[i]) / per : 0);
    printf("]");
}

static uint64_t used_before(const struct usage *from, int tid)
{
    for (size_t i = 0; i < from->thread_count; i++)
        if (from->threads[i].tid == tid)
            return from->threads[i].ns;
    return 0;
}

/* Threads that did next to nothing are left out: what is left are those that relay. */
static void print_by_thread(const struct usage *from, const struct usage *to)
{
    double wall = (double)(to->at_ns - from->at_ns);
    const char *comma = "";
    printf(",\"server_cpu_pct_by_thread\":[");
    for (size_t i = 0; i < to->thread_count; i++) {
        double used = (double)(to->threads[i].ns - used_before(from, to->threads[i].tid));
        if (used < 0.01 * wall)
            continue;
        printf("%s%.2f", comma, 100 * used / wall);
        comma = ",";
    }
    printf("]");
}

static void print_traffic(const struct bench *b, const struct load_result *r)
{
    printf("{\"mode\":\"%s\",\"clients\":%d,\"size\":%d,\"burst\":%d,\"gso\":%s,\"gro\":%s"
           ",\"hub\":%s,\"inject\":%s,\"threads\":%d,\"asked_pps\":%.0f",
           b->mode->name, b->load.n, b->load.size, b->load.burst, b->load.gso ? "true" : "false",
           b->load.gro ? "true" : "false", b->load.hub ? "true" : "false",
           b->load.inject ? "true" : "false", b->team.threads, b->load.rate);
    printf(",\"sent\":%" PRIu64 ",\"unsent\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"bad\":%" PRIu64
           ",\"loss_pct\":%.3f",
           r->sent, r->unsent, r->delivered, r->bad,
           r->sent ? 100.0 * (1.0 - (double)r->delivered / (double)r->sent) : 0.0);
    printf(",\"pps\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f",
           (double)(r->delivered - r->late) / r->seconds, hist_quantile(&r->latency, 0.5),
           hist_quantile(&r->latency, 0.99), hist_quantile(&r->latency, 0.999));
}

static void print_usage(const struct bench *b, const struct usage *from, const struct usage *to,
                        double delivered)
{
    double wall = (double)(to->at_ns - from->at_ns);
    double used = (double)(to->all - from->all);
    printf(",\"server_cpu_ns_per_pkt\":%.0f", delivered > 0 ? used / delivered : 0.0);
    print_by_process(b, from, to, delivered);
    print_by_thread(from, to);
    printf(",\"server_cpu_pct\":%.1f,\"gen_cpu_pct\":%.1f,\"server_rss_kb\":%" PRIu64
           ",\"setup_s\":%.3f}\n",
           100 * used / wall, 100 * (double)(to->own - from->own) / wall, procs_rss_kb(&b->server),
           b->setup_s);
}

/* Half a second that is not counted, then the measurement. */
static void measure(struct bench *b, struct load_result *r)
{
    struct team *team = team_new(&b->load, &b->team);
    struct usage from, to;
    team_send(team, WARM_UP_S, r);
    look(b, &from);
    team_send(team, b->seconds, r);
    look(b, &to);
    team_free(team);
    print_traffic(b, r);
    print_usage(b, &from, &to, (double)r->delivered);
}

static void send_traffic(struct bench *b)
{
    struct load_result *r = malloc(sizeof *r);
    if (!r)
        die("no memory");
    b->load.server = b->source.server;
    b->load.from_peer = b->mode->from_peer;
    b->load.indication = b->mode->indication;
    b->load.echo = b->mode->echo;
    if (b->load.echo && b->load.gro)
        die("echo does not go with -G");
    measure(b, r);
    if (r->delivered == 0)
        die("nothing arrived");
    free(r);
}

void traffic_run(struct bench *b)
{
    bench_open_all(b);
    send_traffic(b);
    bench_close_all(b);
}

void traffic_floor(struct bench *b)
{
    socklen_t len = sizeof b->source.server;
    int in = client_socket(&b->source.clients, false);
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
    send_traffic(b);
    floor_stop(pid);
}
