/*
 * Any bytes as what the BEAM writes to a running relay, frame by frame: each is followed, or ends
 * the relay with a sentence; none is read past its end, and nothing is left behind.
 *
 * Its one worker is not there (worker.c is not linked): what it is asked is answered here.
 */
#include "exact.h"
#include "fuzz.h"
#include "relay/command.h"
#include "relay/event.h"

#include <unistd.h>

/* ---- the worker ---- */

struct worker {
    struct job *asked;
};

static const struct turn_alloc_info allocation = {
    .id = 17,
    .username = {(const uint8_t *)"1700000000:alice", 16},
    .tuple = &(struct turn_tuple){0}};

/* The user who has an allocation. */
static uint64_t alice(const struct daemon *d)
{
    return turn_commons_user(d->commons, (const uint8_t *)"alice", 5);
}

static void answer(struct daemon *d, struct worker *w)
{
    struct job *job = w->asked;

    w->asked = NULL;
    if (!job)
        return;
    job->count = 1;
    MUST(job->request->kind != JOB_ADMISSION || job->request->admission.count);
    for (size_t i = 0; job->request->kind == JOB_ADMISSION && i < job->request->admission.count;
         i++)
        MUST(job->request->admission.changes[i].user == alice(d));
    if (job->request->kind == JOB_LIST)
        event_put_alloc(&job->terms, &allocation, 0);
    command_answered(d, job);
}

void worker_post(struct worker *w, struct job *job)
{
    MUST(!w->asked);
    w->asked = job;
}

void worker_free(struct worker *w)
{
    MUST(!w->asked);
    free(w);
}

/* What follows is of the start, which is over. */
struct worker *worker_new(const struct worker_setup *setup)
{
    (void)setup;
    return NULL;
}

int worker_listen(struct worker *w, int fd, const struct addr *at, enum turn_transport transport)
{
    (void)w;
    (void)fd;
    (void)at;
    (void)transport;
    return UV_ENOSYS;
}

void worker_counted(const struct worker *w, struct worker_counted *out)
{
    (void)w;
    *out = (struct worker_counted){.allocations = 1};
}

uint32_t worker_links(const struct worker *w)
{
    (void)w;
    return 0;
}

int worker_start(struct worker *w)
{
    (void)w;
    return UV_ENOSYS;
}

void worker_post_packet(struct worker *w, struct packet *packet)
{
    (void)w;
    packet_free(packet);
}

void worker_post_parcel(struct worker *w, struct parcel *parcel)
{
    (void)w;
    parcel_free(parcel);
}

/* ---- the relay ---- */

static void on_finished(struct control *c)
{
    (void)c;
}

static const struct control_ops ops = {.finished = on_finished};

/* A configuration as start.c leaves it, from the bytes that Erlang makes of the smallest map. */
static struct relay_config *smallest_config(void)
{
    static const char listen[] = "udp:127.0.0.1:3478", ip[] = "127.0.0.1";
    struct term_out out;
    struct term_in in;
    char why[CONFIG_WHY_MAX];

    control_frame_init(&out);
    term_put_map(&out, 5);
    term_put_atom(&out, "listen");
    term_put_list(&out, 1);
    term_put_text(&out, listen);
    term_put_nil(&out);
    term_put_atom(&out, "realm");
    term_put_text(&out, "example.org");
    term_put_atom(&out, "secrets");
    term_put_list(&out, 1);
    term_put_text(&out, "0123456789abcdef");
    term_put_nil(&out);
    term_put_atom(&out, "relays");
    term_put_list(&out, 1);
    term_put_tuple(&out, 2);
    term_put_text(&out, ip);
    term_put_text(&out, ip);
    term_put_nil(&out);
    term_put_atom(&out, "userhashes");
    term_put_uint(&out, 16);
    MUST(!out.failed);
    MUST(term_in_init(&in, (const uint8_t *)out.x.buff + 4, (size_t)out.x.index - 4));
    struct relay_config *config = config_read(&in, why);
    MUST(config != NULL);
    term_out_free(&out);
    return config;
}

static void start(struct daemon *d, bool admission)
{
    *d = (struct daemon){.stage = STAGE_RUNNING};
    MUST(uv_loop_init(&d->loop) == 0);
    MUST(uv_mutex_init(&d->commons_lock) == 0);
    uv_timer_init(&d->loop, &d->patience);
    d->control.ops = &ops;
    d->control.lost = true; /* nobody reads what it says */
    d->config = smallest_config();
    d->config->turn.max_allocations = 16;
    d->config->turn.admission = admission ? TURN_ADMISSION_ROOM : TURN_ADMISSION_OFF;
    d->config->turn.max_grants = 12; /* more than a user's, less than two's */
    d->commons = turn_commons_new(&d->config->turn);
    MUST(d->commons && turn_commons_enter(d->commons, alice(d), 0) == CT_OK);
    d->workers[0] = calloc(1, sizeof *d->workers[0]);
    d->worker_count = 1;
    MUST(d->commons && d->workers[0]);
}

static void end(struct daemon *d)
{
    if (d->stage == STAGE_RUNNING)
        daemon_stop(d, EXIT_SUCCESS);
    alarm(0);
    MUST(d->stage == STAGE_STOPPING && !d->config && !d->commons);
    while (d->held_count)
        term_out_free(&d->held[--d->held_count]);
    uv_close((uv_handle_t *)&d->patience, NULL);
    uv_run(&d->loop, UV_RUN_DEFAULT);
    MUST(uv_loop_close(&d->loop) == 0);
    uv_mutex_destroy(&d->commons_lock);
}

/* Follows one frame as control.c hands it over. */
static void follow(struct daemon *d, const uint8_t *data, size_t len)
{
    struct exact e = exact_of(data, len, len % 8);
    struct term_in term;
    char shown[TERM_SHOW_MAX];

    if (term_in_init(&term, e.data, e.len)) {
        term_show(&term, shown);
        MUST(memchr(shown, 0, sizeof shown) != NULL);
        command_handle(d, &term);
        if (d->stage == STAGE_RUNNING)
            answer(d, d->workers[0]);
    } else {
        daemon_fail_text(d, "protocol", "no term");
    }
    exact_free(&e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct daemon *d = malloc(sizeof *d);
    struct rbuf r = rbuf_of(data, size);

    MUST(d != NULL);
    start(d, size % 2);
    while (d->stage == STAGE_RUNNING && rbuf_left(&r) >= 4) {
        size_t len = rbuf_u32(&r);
        len = len < rbuf_left(&r) ? len : rbuf_left(&r);
        const uint8_t *frame = rbuf_take(&r, len);
        follow(d, frame, len);
    }
    end(d);
    free(d);
    return 0;
}
