#include "relay/worker.h"

#include "relay/control.h"
#include "relay/dtls.h"
#include "relay/event.h"
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/pairs.h"
#include "relay/pipe.h"
#include "relay/stream.h"
#include "relay/udp.h"

#include <stdlib.h>
#include <string.h>

enum {
    RANDOM_POOL = 512,
    LIST_BYTES_MAX = CONTROL_OUT_MAX - 1024
};

/* Random bytes fetched ahead: an allocation takes a few at a time. */
struct random_pool {
    uint8_t bytes[RANDOM_POOL];
    size_t used;
};

struct worker {
    struct turn_io io;
    struct stream_exit exit;
    struct worker_setup setup;
    uv_loop_t loop;
    uv_thread_t thread;
    bool started;
    struct mailbox inbox;
    uv_timer_t timer;
    uint64_t armed; /* when the timer fires */
    uv_check_t check;
    struct crypto *crypto;
    struct udp *udp;
    struct streams *streams;
    struct dtls *dtls;
    struct pipes *pipes;
    struct pairs_end pairs;
    struct turn_server *server;
    struct random_pool pool;
    struct news news;
    struct job *stop; /* answered when all handles are closed */
};

static struct worker *worker_of(struct turn_io *io)
{
    return OWNER_OF(io, struct worker, io);
}

/* ---- the engine's effects ---- */

static uint8_t *io_reserve(struct turn_io *io, size_t size)
{
    return udp_reserve(worker_of(io)->udp, size);
}

/* To another worker. */
static void post_packet(struct worker *w, enum packet_kind kind, unsigned worker,
                        const struct turn_tuple *tuple, const struct turn_out *out)
{
    struct packet *p = packet_new(kind, tuple, out, w->setup.packets);

    if (!p) {
        turn_count(turn_server_counters(w->server), TURN_N_DROP_QUEUE, 1);
        return;
    }
    p->mail.kind = MAIL_PACKET;
    p->worker = worker;
    mailbox_post(w->setup.home, &p->mail);
}

static void io_to_client(struct turn_io *io, const struct turn_tuple *to,
                         const struct turn_out *out)
{
    struct worker *w = worker_of(io);

    if (to->transport == TURN_UDP)
        udp_to_client(w->udp, to, out);
    else if (to->worker != w->setup.index)
        post_packet(w, PACKET_TO_CLIENT, to->worker, to, out);
    else if (to->transport == TURN_DTLS)
        dtls_to_client(w->dtls, to, out);
    else
        streams_to_client(w->streams, to, out);
}

static void io_to_peer(struct turn_io *io, struct turn_relay *from, const struct addr *to,
                       struct span data, unsigned flags)
{
    udp_to_peer(worker_of(io)->udp, from, to, data, flags);
}

static enum ct_err io_relay_open(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_relay **out)
{
    return udp_relay_open(worker_of(io)->udp, at, alloc, out);
}

static void io_relay_close(struct turn_io *io, struct turn_relay *relay)
{
    udp_relay_close(worker_of(io)->udp, relay);
}

/* Without randomness ports and tokens could be guessed: then it is better not to run. */
static void random_or_die(void *out, size_t n)
{
    if (crypto_random(out, n) != CT_OK)
        abort();
}

static void io_random(struct turn_io *io, void *out, size_t n)
{
    struct random_pool *p = &worker_of(io)->pool;

    if (n > sizeof p->bytes) {
        random_or_die(out, n);
        return;
    }
    if (n > sizeof p->bytes - p->used) {
        random_or_die(p->bytes, sizeof p->bytes);
        p->used = 0;
    }
    memcpy(out, p->bytes + p->used, n);
    crypto_wipe(p->bytes + p->used, n);
    p->used += n;
}

static void io_event(struct turn_io *io, const struct turn_event *event)
{
    struct worker *w = worker_of(io);

    news_add(&w->news, event, uv_now(&w->loop));
}

static void io_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple,
                         struct span packet)
{
    const struct turn_out out = {.body = packet};

    post_packet(worker_of(io), PACKET_FROM_CLIENT, worker, tuple, &out);
}

static void io_hand_over_gone(struct turn_io *io, unsigned worker, const struct turn_tuple *tuple)
{
    const struct turn_out nothing = {.pad = 0};

    post_packet(worker_of(io), PACKET_GONE, worker, tuple, &nothing);
}

static void io_pair_over(struct turn_io *io, unsigned worker, const struct turn_pair *pair)
{
    struct worker *w = worker_of(io);

    if (!pairs_put(&w->pairs, worker, pair))
        turn_count(turn_server_counters(w->server), TURN_N_DROP_RING, 1);
}

static void io_lock(struct turn_io *io)
{
    uv_mutex_lock(worker_of(io)->setup.commons_lock);
}

static void io_unlock(struct turn_io *io)
{
    uv_mutex_unlock(worker_of(io)->setup.commons_lock);
}

static enum ct_err io_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                                 struct turn_acceptor **out)
{
    return pipes_listen(worker_of(io)->pipes, at, alloc, out);
}

static void io_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor)
{
    pipes_unlisten(worker_of(io)->pipes, acceptor);
}

static enum ct_err io_tcp_connect(struct turn_io *io, struct turn_acceptor *from,
                                  const struct addr *to, uint32_t tcp, struct turn_pipe **out)
{
    return pipes_connect(worker_of(io)->pipes, from, to, tcp, out);
}

static void io_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client)
{
    struct worker *w = worker_of(io);

    pipes_join(w->pipes, pipe, streams_join(w->streams, client, pipe));
}

static void io_tcp_close(struct turn_io *io, struct turn_pipe *pipe)
{
    pipes_close_one(worker_of(io)->pipes, pipe);
}

static bool io_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client)
{
    struct worker *w = worker_of(io);

    return worker < w->setup.workers && streams_hand_over(w->streams, worker, client);
}

/* A client's connection leaves for another worker. */
static void send_parcel(struct stream_exit *exit, struct parcel *parcel)
{
    parcel->mail.kind = MAIL_CONNECTION;
    mailbox_post(OWNER_OF(exit, struct worker, exit)->setup.home, &parcel->mail);
}

static const struct turn_io_ops ops = {
    .reserve = io_reserve,
    .to_client = io_to_client,
    .to_peer = io_to_peer,
    .relay_open = io_relay_open,
    .relay_close = io_relay_close,
    .random = io_random,
    .hand_over = io_hand_over,
    .hand_over_gone = io_hand_over_gone,
    .pair_over = io_pair_over,
    .event = io_event,
    .lock = io_lock,
    .unlock = io_unlock,
    .tcp_listen = io_tcp_listen,
    .tcp_unlisten = io_tcp_unlisten,
    .tcp_connect = io_tcp_connect,
    .tcp_join = io_tcp_join,
    .tcp_close = io_tcp_close,
    .tcp_hand_over = io_tcp_hand_over,
};

/* ---- time ---- */

static void on_timer(uv_timer_t *timer);

/* Sees to it that the timer fires at the engine's deadline; one that fires too early does no harm.
 */
static void arm(struct worker *w)
{
    uint64_t now = uv_now(&w->loop);
    const uint64_t deadlines[] = {turn_server_deadline(w->server), streams_deadline(w->streams),
                                  dtls_deadline(w->dtls), pipes_deadline(w->pipes),
                                  news_deadline(&w->news)};
    uint64_t deadline = UINT64_MAX;

    for (size_t i = 0; i < sizeof deadlines / sizeof *deadlines; i++)
        deadline = deadlines[i] < deadline ? deadlines[i] : deadline;
    if (deadline >= w->armed)
        return;
    w->armed = deadline;
    uv_timer_start(&w->timer, on_timer, deadline > now ? deadline - now : 1, 0);
}

/* What one turn of the loop has brought leaves together. */
static void flush(struct worker *w)
{
    streams_flush(w->streams);
    udp_flush(w->udp);
    pairs_flush(&w->pairs);
    arm(w);
}

static void on_timer(uv_timer_t *timer)
{
    struct worker *w = OWNER_OF(timer, struct worker, timer);

    w->armed = UINT64_MAX;
    turn_server_expire(w->server, now_of(&w->loop));
    streams_expire(w->streams);
    dtls_expire(w->dtls);
    pipes_expire(w->pipes);
    if (news_deadline(&w->news) <= uv_now(&w->loop))
        news_post(&w->news);
    flush(w);
}

/* The loop has seen all that was readable. */
static void on_check(uv_check_t *check)
{
    flush(OWNER_OF(check, struct worker, check));
}

/* ---- jobs ---- */

static void job_configure(struct worker *w, struct job *job)
{
    turn_server_configure(w->server, job->request->config);
    streams_configure(w->streams, job->request->streams);
    dtls_configure(w->dtls, job->request->streams);
}

/* That it answers is all there is to it. */
static void job_ping(struct worker *w, struct job *job)
{
    (void)w;
    (void)job;
}

struct lister {
    struct turn_visitor visitor;
    struct job *job;
};

static void list_one(struct turn_visitor *visitor, const struct turn_alloc_info *info)
{
    struct job *job = OWNER_OF(visitor, struct lister, visitor)->job;

    if (job->count >= job->request->limit || job->terms.x.index > LIST_BYTES_MAX)
        return;
    event_put_alloc(&job->terms, info, job->worker);
    job->count++;
}

static void job_list(struct worker *w, struct job *job)
{
    struct lister lister = {.visitor = {.visit = list_one}, .job = job};

    turn_server_list(w->server, &lister.visitor, now_of(&w->loop));
}

static void job_kill(struct worker *w, struct job *job)
{
    const struct job_request *r = job->request;

    if (!r->kill.one_worker || r->kill.worker == w->setup.index)
        job->count = turn_server_kill(w->server, &r->kill.which, now_of(&w->loop));
}

static void job_drain(struct worker *w, struct job *job)
{
    turn_server_drain(w->server, job->request->drain);
}

static void job_admission(struct worker *w, struct job *job)
{
    const struct job_request *r = job->request;

    turn_server_admission(w->server, r->admission.changes, r->admission.count, now_of(&w->loop));
}

/* Closes every handle, which ends the loop. */
static void close_all(struct worker *w)
{
    if (w->started)
        flush(w); /* what waits to be sent may lie in a ring */
    pairs_stop(&w->pairs);
    turn_server_free(w->server, now_of(&w->loop));
    w->server = NULL;
    dtls_free(w->dtls);
    w->dtls = NULL;
    if (w->streams)
        streams_close(w->streams);
    if (w->pipes)
        pipes_close(w->pipes);
    if (w->udp)
        udp_close(w->udp);
    uv_close((uv_handle_t *)&w->timer, NULL);
    uv_close((uv_handle_t *)&w->check, NULL);
    mailbox_close(&w->inbox);
}

static void job_stop(struct worker *w, struct job *job)
{
    w->stop = job;
    close_all(w);
}

static void (*const jobs[JOB_KINDS])(struct worker *w, struct job *job) = {
    [JOB_CONFIGURE] = job_configure, [JOB_PING] = job_ping,   [JOB_LIST] = job_list,
    [JOB_KILL] = job_kill,           [JOB_DRAIN] = job_drain, [JOB_STOP] = job_stop,
    [JOB_ADMISSION] = job_admission,
};

/* What happened before the answer is told before it. */
static void job_done(struct worker *w, struct job *job)
{
    news_post(&w->news);
    job->mail.kind = MAIL_JOB_DONE;
    mailbox_post(w->setup.home, &job->mail);
}

/* ---- what comes from other workers ---- */

static void packet_from_client(struct worker *w, struct packet *p)
{
    struct turn_packet packet = {.data = p->bytes, .len = p->len};

    turn_server_handed(w->server, &p->tuple, &packet, now_of(&w->loop));
    udp_flush(w->udp); /* what is to be sent may lie in it */
}

static void packet_to_client(struct worker *w, struct packet *p)
{
    const struct turn_out out = {.head = span_of(p->bytes, p->len)};

    io_to_client(&w->io, &p->tuple, &out); /* a connection, which copies it */
}

static void packet_gone(struct worker *w, struct packet *p)
{
    turn_server_handed_gone(w->server, &p->tuple, now_of(&w->loop));
}

static void (*const packets[PACKET_KINDS])(struct worker *w, struct packet *p) = {
    [PACKET_FROM_CLIENT] = packet_from_client,
    [PACKET_TO_CLIENT] = packet_to_client,
    [PACKET_GONE] = packet_gone,
};

static void take_packet(struct worker *w, struct packet *p)
{
    packets[p->kind](w, p);
    packet_free(p);
}

/* ---- the inbox ---- */

static void deliver(struct mailbox *box, struct mail *mail)
{
    struct worker *w = OWNER_OF(box, struct worker, inbox);
    if (mail->kind == MAIL_CONNECTION) {
        streams_adopt(w->streams, OWNER_OF(mail, struct parcel, mail));
        return;
    }
    if (mail->kind == MAIL_PACKET) {
        take_packet(w, OWNER_OF(mail, struct packet, mail));
        return;
    }
    struct job *job = OWNER_OF(mail, struct job, mail);

    job->worker = w->setup.index;
    jobs[job->request->kind](w, job);
    if (job != w->stop)
        job_done(w, job);
}

void worker_post(struct worker *w, struct job *job)
{
    job->mail.kind = MAIL_JOB_DONE;
    mailbox_post(&w->inbox, &job->mail);
}

void worker_post_packet(struct worker *w, struct packet *packet)
{
    mailbox_post(&w->inbox, &packet->mail);
}

void worker_post_parcel(struct worker *w, struct parcel *parcel)
{
    mailbox_post(&w->inbox, &parcel->mail);
}

/* ---- life ---- */

static bool build_engine(struct worker *w)
{
    w->crypto = crypto_new();
    w->udp = udp_new(&w->loop);
    if (!w->crypto || !w->udp ||
        pairs_open(&w->pairs, w->setup.pairs, w->setup.index, &w->loop) != 0)
        return false;
    if (w->setup.config->keep_dscp)
        udp_keep_dscp(w->udp);
    const struct streams_setup streams = {.loop = &w->loop,
                                          .config = w->setup.streams,
                                          .gate = w->setup.gate,
                                          .udp = w->udp,
                                          .worker = (uint8_t)w->setup.index,
                                          .exit = &w->exit};
    w->pipes = pipes_new(&w->loop);
    w->streams = streams_new(&streams);
    const struct dtls_setup dtls = {.loop = &w->loop,
                                    .config = w->setup.streams,
                                    .gate = w->setup.gate,
                                    .udp = w->udp,
                                    .crypto = w->crypto,
                                    .worker = (uint8_t)w->setup.index};
    w->dtls = dtls_new(&dtls);
    if (!w->streams || !w->dtls || !w->pipes)
        return false;
    struct turn_server_setup setup = {.config = w->setup.config,
                                      .commons = w->setup.commons,
                                      .crypto = w->crypto,
                                      .io = &w->io,
                                      .worker = (uint16_t)w->setup.index};
    w->server = turn_server_new(&setup, now_of(&w->loop));
    pairs_start(&w->pairs, w->server);
    return w->server != NULL;
}

static void free_engine(struct worker *w)
{
    streams_free(w->streams);
    pipes_free(w->pipes);
    udp_free(w->udp);
    crypto_free(w->crypto);
    crypto_wipe(&w->pool, sizeof w->pool);
    free(w);
}

struct worker *worker_new(const struct worker_setup *setup)
{
    struct worker *w = calloc(1, sizeof *w);

    if (!w)
        return NULL;
    w->io.ops = &ops;
    w->exit.send = send_parcel;
    w->setup = *setup;
    w->news = (struct news){
        .to = setup->home, .credit = setup->credit, .worker = setup->index, .kind = MAIL_NEWS};
    w->armed = UINT64_MAX;
    w->pool.used = sizeof w->pool.bytes;
    if (uv_loop_init(&w->loop) != 0) {
        free(w);
        return NULL;
    }
    if (mailbox_init(&w->inbox, &w->loop, deliver) != 0) {
        uv_loop_close(&w->loop);
        free(w);
        return NULL;
    }
    uv_timer_init(&w->loop, &w->timer);
    uv_check_init(&w->loop, &w->check);
    if (!build_engine(w)) {
        worker_free(w);
        return NULL;
    }
    return w;
}

int worker_listen(struct worker *w, int fd, const struct addr *at, enum turn_transport transport)
{
    if (transport == TURN_UDP)
        return udp_listen(w->udp, fd, at, NULL);
    if (transport == TURN_DTLS)
        return udp_listen(w->udp, fd, at, dtls_input(w->dtls));
    return streams_listen(w->streams, fd, at, transport);
}

void worker_counted(const struct worker *w, struct worker_counted *out)
{
    const struct turn_counters *c = turn_server_counters(w->server);

    out->allocations = turn_server_allocations(w->server);
    for (size_t i = 0; i < TURN_N_COUNT; i++)
        out->counters[i] = atomic_load_explicit(&c->n[i], memory_order_relaxed);
}

uint32_t worker_links(const struct worker *w)
{
    return udp_links(w->udp);
}

static void run(void *arg)
{
    struct worker *w = arg;

    uv_run(&w->loop, UV_RUN_DEFAULT);
    job_done(w, w->stop);
}

int worker_start(struct worker *w)
{
    uv_check_start(&w->check, on_check);
    arm(w);
    dtls_start(w->dtls, w->server);
    pipes_start(w->pipes, w->server);
    int err = udp_start(w->udp, w->server);
    if (!err)
        err = streams_start(w->streams, w->server);
    if (!err)
        err = uv_thread_create(&w->thread, run, w);
    w->started = !err;
    return err;
}

void worker_free(struct worker *w)
{
    if (!w)
        return;
    if (w->started)
        uv_thread_join(&w->thread);
    else
        close_all(w);
    pairs_close(&w->pairs);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    uv_loop_close(&w->loop);
    mailbox_free(&w->inbox);
    free_engine(w);
}
