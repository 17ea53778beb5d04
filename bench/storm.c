/*
 * An allocation storm: -n clients at any time, each on its own way through challenge, Allocate and
 * release, and then another one on a new 5-tuple in its place.
 */
#define _GNU_SOURCE
#include "bench.h"
#include "hist.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum {
    EVENTS = 256,
    RESEND_MS = 300,
    LOOK_MS = 50, /* how often it is looked for requests without an answer */
    LAST_MS = 5000
};

enum step {
    IDLE,
    CHALLENGE,
    ALLOCATE,
    RELEASE
};

/* One client on its way. */
struct walk {
    enum step step;
    uint64_t started_ns, sent_ns;
    uint8_t request[MESSAGE_MAX];
    size_t len;
};

struct storm {
    struct bench *b;
    int epoll, under_way, next_id;
    bool ending; /* nobody new sets out */
    struct walk *walks;
    uint64_t cycles, refused, resent;
    struct hist allocated; /* from the first request to the relayed address */
};

static void transmit(struct storm *s, int i)
{
    struct walk *w = &s->walks[i];
    w->sent_ns = now_ns();
    /* what cannot be sent is sent again later, as what is lost */
    (void)!send(s->b->load.clients[i].fd, w->request, w->len, 0);
}

static void ask(struct storm *s, int i, enum step step)
{
    struct walk *w = &s->walks[i];
    struct request r = {.method = step == RELEASE ? MESSAGE_REFRESH : MESSAGE_ALLOCATE};
    w->step = step;
    w->len = message_request(w->request, &r, &s->b->load.clients[i].credentials, now_ns());
    transmit(s, i);
}

static void set_out(struct storm *s, int i)
{
    struct client *c = &s->b->load.clients[i];
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = (uint64_t)i};
    client_open(c, &s->b->source, s->next_id++);
    if (epoll_ctl(s->epoll, EPOLL_CTL_ADD, c->fd, &e))
        die("epoll_ctl: %s", strerror(errno));
    s->walks[i].started_ns = now_ns();
    s->under_way++;
    ask(s, i, CHALLENGE);
}

static void arrive(struct storm *s, int i)
{
    client_close(&s->b->load.clients[i]);
    s->walks[i].step = IDLE;
    s->under_way--;
    s->cycles++;
    if (!s->ending)
        set_out(s, i);
}

/* A challenge is expected once; any other refusal is counted, and tried again with what it says. */
static void go_on(struct storm *s, int i, struct span reply)
{
    struct walk *w = &s->walks[i];
    struct credentials *c = &s->b->load.clients[i].credentials;
    bool ok = message_error(reply) == 0;
    if (!ok)
        credentials_learn(c, reply, s->b->source.secret);
    s->refused += !ok && w->step != CHALLENGE;
    if (!ok)
        ask(s, i, w->step == CHALLENGE ? ALLOCATE : w->step);
    else if (w->step == RELEASE)
        arrive(s, i);
    else {
        hist_add(&s->allocated, now_ns() - w->started_ns);
        ask(s, i, RELEASE);
    }
}

static void receive(struct storm *s, int i)
{
    uint8_t bytes[MESSAGE_MAX];
    ssize_t len = recv(s->b->load.clients[i].fd, bytes, sizeof bytes, MSG_DONTWAIT);
    struct span reply = span_of(bytes, len > 0 ? (size_t)len : 0);
    if (s->walks[i].step != IDLE && message_answers(reply, s->walks[i].request))
        go_on(s, i, reply);
}

static void resend(struct storm *s)
{
    uint64_t due = now_ns() - RESEND_MS * 1000000ull;
    for (int i = 0; i < s->b->load.n; i++) {
        if (s->walks[i].step == IDLE || s->walks[i].sent_ns > due)
            continue;
        s->resent++;
        transmit(s, i);
    }
}

static void rage(struct storm *s, uint64_t end)
{
    struct epoll_event events[EVENTS];
    uint64_t look = now_ns() + LOOK_MS * 1000000ull;
    for (uint64_t now; (now = now_ns()) < end && s->under_way > 0;) {
        int n = epoll_wait(s->epoll, events, EVENTS, LOOK_MS);
        for (int i = 0; i < n; i++)
            receive(s, (int)events[i].data.u64);
        if (now < look)
            continue;
        resend(s);
        look = now + LOOK_MS * 1000000ull;
    }
}

static void print(const struct storm *s, uint64_t cycles, double seconds, double cpu_ns)
{
    printf("{\"mode\":\"%s\",\"clients\":%d,\"cycles_per_s\":%.0f,\"server_cpu_us_per_cycle\":%.1f"
           ",\"refused\":%" PRIu64 ",\"resent\":%" PRIu64 ",\"unfinished\":%d"
           ",\"p50_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"server_cpu_pct\":%.1f}\n",
           s->b->mode->name, s->b->load.n, (double)cycles / seconds, cpu_ns / (double)cycles / 1e3,
           s->refused, s->resent, s->under_way, hist_quantile(&s->allocated, 0.5),
           hist_quantile(&s->allocated, 0.99), hist_quantile(&s->allocated, 0.999),
           cpu_ns / seconds / 1e7);
}

void storm_run(struct bench *b)
{
    struct storm *s = calloc(1, sizeof *s);
    if (!s || !(s->walks = calloc((size_t)b->load.n, sizeof *s->walks)))
        die("no memory");
    s->b = b;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < b->load.n; i++)
        set_out(s, i);
    rage(s, now_ns() + 500000000u);
    s->allocated = (struct hist){0};
    uint64_t cpu = procs_cpu_ns(&b->server), start = now_ns(), before = s->cycles;
    rage(s, start + (uint64_t)b->seconds * 1000000000u);
    uint64_t cycles = s->cycles - before, used = procs_cpu_ns(&b->server) - cpu;
    double seconds = (double)(now_ns() - start) * 1e-9;
    s->ending = true;
    rage(s, now_ns() + LAST_MS * 1000000ull);
    if (cycles == 0)
        die("nobody got through");
    print(s, cycles, seconds, (double)used);
    free(s->walks);
    free(s);
}
