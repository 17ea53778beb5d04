#include "relay/command.h"

#include "core/turn_commons.h"
#include "crypto/crypto.h"
#include "relay/admission.h"
#include "relay/event.h"
#include "relay/owner.h"

#include <stdio.h>
#include <stdlib.h>

#define REF_MAX (UINT64_C(1) << 60)

/* What a request points to, and what has to be freed with it. */
struct belongings {
    struct relay_config *config; /* of configure: takes the place of the old one at the end */
    uint8_t *text;               /* of kill: the selector's */
    struct admission *admission; /* of admit and withdraw */
};

/* A command that all workers are working on. */
struct command {
    struct job_request request;
    uint64_t ref;
    struct belongings its;
    unsigned left; /* workers that have not answered */
    unsigned jobs_count;
    struct job jobs[];
};

/* ---- replies ---- */

static void reply_init(struct term_out *frame, uint64_t ref)
{
    control_frame_init(frame);
    term_put_tuple(frame, 3);
    term_put_atom(frame, "reply");
    term_put_uint(frame, ref);
}

static void put_pair(struct term_out *out, const char *tag)
{
    term_put_tuple(out, 2);
    term_put_atom(out, tag);
}

static void reply_error(struct daemon *d, uint64_t ref, const char *reason)
{
    struct term_out frame;

    reply_init(&frame, ref);
    put_pair(&frame, "error");
    term_put_atom(&frame, reason);
    control_send(&d->control, &frame);
}

static void reply_config_error(struct daemon *d, uint64_t ref, const char *why)
{
    struct term_out frame;

    reply_init(&frame, ref);
    put_pair(&frame, "error");
    put_pair(&frame, "config");
    term_put_text(&frame, why);
    control_send(&d->control, &frame);
}

/* ---- joining what workers answered ---- */

static void join_ok(struct daemon *d, struct command *c, struct term_out *out)
{
    (void)d;
    (void)c;
    term_put_atom(out, "ok");
}

/* Their hashes hold for one realm. False when libcrypto refuses. */
static bool rehash_users(struct daemon *d, const struct turn_config *next)
{
    struct turn_users *users = turn_commons_users(d->commons);
    struct crypto *crypto;

    if (!users || strcmp(d->config->turn.realm, next->realm) == 0)
        return true;
    crypto = crypto_new();
    if (!crypto)
        return false;
    uv_mutex_lock(&d->commons_lock);
    enum ct_err err = turn_users_rehash(users, crypto, span_str(next->realm));
    uv_mutex_unlock(&d->commons_lock);
    crypto_free(crypto);
    return err == CT_OK;
}

static void join_configure(struct daemon *d, struct command *c, struct term_out *out)
{
    struct relay_config *old = d->config;

    if (!rehash_users(d, &c->its.config->turn))
        daemon_log(d, "error", "usernames could not be hashed for the new realm");
    d->config = c->its.config;
    c->its.config = NULL;
    config_free(old);
    term_put_atom(out, "ok");
}

static void join_kill(struct daemon *d, struct command *c, struct term_out *out)
{
    uint64_t count = 0;

    (void)d;
    for (unsigned i = 0; i < c->jobs_count; i++)
        count += c->jobs[i].count;
    put_pair(out, "ok");
    term_put_uint(out, count);
}

static void put_counters(struct term_out *out, const uint64_t counters[TURN_N_COUNT])
{
    term_put_map(out, TURN_N_COUNT);
    for (size_t i = 0; i < TURN_N_COUNT; i++) {
        term_put_atom(out, turn_counter_name((enum turn_counter)i));
        term_put_uint(out, counters[i]);
    }
}

static void put_workers(struct term_out *out, const struct worker_counted *each, unsigned count)
{
    term_put_list(out, count);
    for (unsigned i = 0; i < count; i++) {
        term_put_map(out, 2);
        term_put_atom(out, "allocations");
        term_put_uint(out, each[i].allocations);
        term_put_atom(out, "counters");
        put_counters(out, each[i].counters);
    }
    term_put_nil(out);
}

static uint32_t count_grants(struct daemon *d)
{
    const struct turn_grants *grants = turn_commons_grants(d->commons);

    if (!grants)
        return 0;
    uv_mutex_lock(&d->commons_lock);
    uint32_t count = turn_grants_count(grants);
    uv_mutex_unlock(&d->commons_lock);
    return count;
}

static void put_stats(struct daemon *d, struct term_out *out)
{
    struct worker_counted sum = {0}, each[WORKERS_MAX];

    for (unsigned i = 0; i < d->worker_count; i++) {
        worker_counted(d->workers[i], &each[i]);
        sum.allocations += each[i].allocations;
        for (size_t n = 0; n < TURN_N_COUNT; n++)
            sum.counters[n] += each[i].counters[n];
    }
    put_pair(out, "ok");
    term_put_map(out, 6);
    term_put_atom(out, "allocations");
    term_put_uint(out, sum.allocations);
    term_put_atom(out, "grants");
    term_put_uint(out, count_grants(d));
    term_put_atom(out, "uptime_ms");
    term_put_uint(out, uv_now(&d->loop) - d->ready_ms);
    term_put_atom(out, "counters");
    put_counters(out, sum.counters);
    term_put_atom(out, "workers");
    put_workers(out, each, d->worker_count);
    term_put_atom(out, "events_dropped");
    term_put_uint(out, atomic_load_explicit(&d->credit.dropped, memory_order_relaxed));
}

/* How many bytes the first n of a worker's allocations take. */
static size_t bytes_of(const struct job *job, uint64_t n)
{
    struct term_in in = {.data = job->terms.x.buff};

    for (uint64_t i = 0; i < n; i++)
        term_skip(&in);
    return (size_t)in.at;
}

/* At most `limit` allocations, and no more than a frame holds. */
static void join_list(struct daemon *d, struct command *c, struct term_out *out)
{
    uint64_t left = c->request.limit, count = 0, take[WORKERS_MAX];
    size_t room = CONTROL_OUT_MAX - 1024, bytes[WORKERS_MAX];

    (void)d;
    for (unsigned i = 0; i < c->jobs_count; i++) {
        take[i] = c->jobs[i].count < left ? c->jobs[i].count : left;
        bytes[i] = bytes_of(&c->jobs[i], take[i]);
        while (bytes[i] > room)
            bytes[i] = bytes_of(&c->jobs[i], take[i] /= 2);
        left -= take[i];
        room -= bytes[i];
        count += take[i];
    }
    put_pair(out, "ok");
    if (count)
        term_put_list(out, (size_t)count);
    for (unsigned i = 0; i < c->jobs_count; i++)
        term_put_terms(out, &c->jobs[i].terms, bytes[i]);
    term_put_nil(out);
}

/* Of admit those that were refused; of withdraw there is nothing to say. */
static void join_admission(struct daemon *d, struct command *c, struct term_out *out)
{
    const struct admission *a = c->its.admission;

    (void)d;
    if (!c->request.admission.admits) {
        term_put_atom(out, "ok");
        return;
    }
    put_pair(out, "ok");
    if (a->refused_count)
        term_put_list(out, a->refused_count);
    term_put_terms(out, &a->refused, (size_t)a->refused.x.index);
    term_put_nil(out);
}

static void (*const joins[JOB_KINDS])(struct daemon *d, struct command *c, struct term_out *out) = {
    [JOB_CONFIGURE] = join_configure, [JOB_PING] = join_ok,  [JOB_LIST] = join_list,
    [JOB_KILL] = join_kill,           [JOB_DRAIN] = join_ok, [JOB_ADMISSION] = join_admission,
};

static void belongings_free(struct belongings *b)
{
    config_free(b->config);
    free(b->text);
    admission_free(b->admission);
}

static void command_free(struct command *c)
{
    for (unsigned i = 0; i < c->jobs_count; i++)
        term_out_free(&c->jobs[i].terms);
    belongings_free(&c->its);
    free(c);
}

static void command_done(struct daemon *d, struct command *c)
{
    struct term_out frame;

    reply_init(&frame, c->ref);
    joins[c->request.kind](d, c, &frame);
    if (!control_send(&d->control, &frame))
        reply_error(d, c->ref, "no_memory");
    command_free(c);
}

void command_answered(struct daemon *d, struct job *job)
{
    /* The request is the command's own; only its members are const to workers. */
    struct command *c = OWNER_OF(job->request, struct command, request);

    if (--c->left == 0)
        command_done(d, c);
}

/* Takes over what belongs to it. NULL when memory is short: that has been answered then. */
static struct command *command_new(struct daemon *d, uint64_t ref,
                                   const struct job_request *request, struct belongings its)
{
    struct command *c = calloc(1, sizeof *c + d->worker_count * sizeof c->jobs[0]);

    if (!c) {
        belongings_free(&its);
        reply_error(d, ref, "no_memory");
        return NULL;
    }
    c->request = *request;
    c->ref = ref;
    c->its = its;
    c->left = c->jobs_count = d->worker_count;
    for (unsigned i = 0; i < c->jobs_count; i++) {
        c->jobs[i].request = &c->request;
        if (request->kind == JOB_LIST)
            term_out_init(&c->jobs[i].terms);
    }
    return c;
}

static void command_post(struct daemon *d, struct command *c)
{
    for (unsigned i = 0; i < d->worker_count; i++)
        worker_post(d->workers[i], &c->jobs[i]);
}

/* Gives the request to every worker; takes over what belongs to it. */
static void ask_workers(struct daemon *d, uint64_t ref, const struct job_request *request,
                        struct belongings its)
{
    struct command *c = command_new(d, ref, request, its);

    if (c)
        command_post(d, c);
}

/* ---- frames: each reads the rest of its tuple; false when that has another shape ---- */

static bool frame_hello(struct daemon *d, struct term_in *in)
{
    char why[96];
    uint64_t version;

    if (!term_uint(in, UINT32_MAX, &version))
        return false;
    d->stage = STAGE_CONFIGURE;
    if (version != DAEMON_PROTOCOL) {
        snprintf(why, sizeof why, "protocol version %u came: this relay speaks %d",
                 (unsigned)version, DAEMON_PROTOCOL);
        daemon_fail_text(d, "protocol", why);
    }
    return true;
}

static void configure_again(struct daemon *d, uint64_t ref, struct relay_config *next)
{
    const struct job_request request = {
        .kind = JOB_CONFIGURE, .config = &next->turn, .streams = &next->stream};
    char why[CONFIG_WHY_MAX];

    if (!config_may_follow(d->config, next, why)) {
        reply_config_error(d, ref, why);
        config_free(next);
        return;
    }
    next->turn.discovery = d->config->turn.discovery;
    next->turn.max_allocations = d->config->turn.max_allocations;
    next->stream.max_connections = d->config->stream.max_connections;
    memcpy(next->turn.nonce_key, d->config->turn.nonce_key, sizeof next->turn.nonce_key);
    ask_workers(d, ref, &request, (struct belongings){.config = next});
}

static bool frame_configure(struct daemon *d, struct term_in *in)
{
    char why[CONFIG_WHY_MAX];
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    bool first = d->stage == STAGE_CONFIGURE;
    struct relay_config *config = config_read(in, why);
    if (!config && first) {
        daemon_fail_text(d, "config", why);
    } else if (!config) {
        reply_config_error(d, ref, why);
    } else if (first) {
        d->config = config;
        daemon_start(d);
    } else {
        configure_again(d, ref, config);
    }
    return true;
}

/* No worker is asked: one that is busy, or stuck, keeps nobody from looking. */
static bool frame_stats(struct daemon *d, struct term_in *in)
{
    struct term_out frame;
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    reply_init(&frame, ref);
    put_stats(d, &frame);
    control_send(&d->control, &frame);
    return true;
}

static bool frame_ping(struct daemon *d, struct term_in *in)
{
    const struct job_request request = {.kind = JOB_PING};
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    ask_workers(d, ref, &request, (struct belongings){.text = NULL});
    return true;
}

static bool frame_list(struct daemon *d, struct term_in *in)
{
    struct job_request request = {.kind = JOB_LIST};
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref) || !term_uint(in, REF_MAX, &request.limit))
        return false;
    ask_workers(d, ref, &request, (struct belongings){.text = NULL});
    return true;
}

/* An id that nobody has, of whatever form, selects nothing: number 0 is never given. */
static void select_id(struct job_request *r, struct span text)
{
    unsigned worker;
    uint64_t id;

    r->kill.one_worker = true;
    r->kill.worker = UINT_MAX;
    if (event_parse_id(text, &worker, &id) && id != 0) {
        r->kill.worker = worker;
        r->kill.which.id = id;
    }
}

static void select_username(struct job_request *r, struct span text)
{
    r->kill.which.username = text;
}

static void select_user(struct job_request *r, struct span text)
{
    r->kill.which.user = text;
}

static const struct {
    const char *name;
    void (*select)(struct job_request *r, struct span text);
} selectors[] = {{"id", select_id}, {"username", select_username}, {"user", select_user}};

/* The text is copied, as workers read it when the frame is gone. False when memory is short. */
static bool select_by(struct job_request *r, size_t which, struct span text, uint8_t **copy)
{
    *copy = malloc(text.len + 1); /* never NULL for being empty: NULL selects everything */
    if (!*copy)
        return false;
    memcpy(*copy, text.data, text.len);
    selectors[which].select(r, span_of(*copy, text.len));
    return true;
}

/* The selector's place in the table, behind its end for `all`; false for another shape. */
static bool read_selector(struct term_in *in, size_t *which, struct span *text)
{
    const size_t n = sizeof selectors / sizeof *selectors;
    char name[TERM_ATOM_MAX];

    *which = n;
    if (term_atom(in, name))
        return strcmp(name, "all") == 0;
    if (term_tuple(in) != 2 || !term_atom(in, name) || !term_binary(in, text))
        return false;
    for (*which = 0; *which < n; ++*which)
        if (strcmp(selectors[*which].name, name) == 0)
            return true;
    return false;
}

static bool frame_kill(struct daemon *d, struct term_in *in)
{
    struct job_request request = {.kind = JOB_KILL};
    struct belongings its = {.text = NULL};
    struct span text = {.data = NULL};
    size_t which;
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref) || !read_selector(in, &which, &text))
        return false;
    if (text.data && !select_by(&request, which, text, &its.text))
        reply_error(d, ref, "no_memory");
    else
        ask_workers(d, ref, &request, its);
    return true;
}

static bool frame_drain(struct daemon *d, struct term_in *in)
{
    struct job_request request = {.kind = JOB_DRAIN};
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref) || !term_bool(in, &request.drain))
        return false;
    ask_workers(d, ref, &request, (struct belongings){.text = NULL});
    return true;
}

static void reply_ok(struct daemon *d, uint64_t ref)
{
    struct term_out frame;

    reply_init(&frame, ref);
    term_put_atom(&frame, "ok");
    control_send(&d->control, &frame);
}

/* The next n binaries; false when one is no username. */
static bool put_users(struct daemon *d, struct crypto *crypto, struct term_in *in, int n)
{
    struct turn_users *users = turn_commons_users(d->commons);
    struct span realm = span_str(d->config->turn.realm);
    struct span name;

    for (int i = 0; i < n; i++) {
        if (!term_binary(in, &name) || name.len == 0 || name.len > STUN_USERNAME_MAX)
            return false;
        uv_mutex_lock(&d->commons_lock);
        if (users)
            (void)turn_users_put(users, crypto, realm, name);
        uv_mutex_unlock(&d->commons_lock);
    }
    return true;
}

static bool frame_users(struct daemon *d, struct term_in *in)
{
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    int n = term_list(in);
    if (n < 0)
        return false;
    struct crypto *crypto = crypto_new();
    bool ok = crypto && put_users(d, crypto, in, n);
    if (!crypto)
        reply_error(d, ref, "no_memory");
    else if (ok)
        reply_ok(d, ref);
    bool shaped = ok || !crypto;
    crypto_free(crypto);
    return shaped;
}

/* ---- admission ---- */

typedef bool read_grants(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                         struct term_in *in, size_t n);

/* Workers are asked only when there are allocations that a change is about. */
static bool change_grants(struct daemon *d, struct command *c, struct term_in *in, int n,
                          read_grants *read)
{
    struct admission *a = c->its.admission;

    if (!read(a, d->commons, &d->commons_lock, in, (size_t)n)) {
        command_free(c);
        return false;
    }
    c->request.admission.changes = a->changes;
    c->request.admission.count = a->count;
    if (a->count)
        command_post(d, c);
    else
        command_done(d, c);
    return true;
}

/* All memory is had before the first change: none is left undone. */
static bool frame_grants(struct daemon *d, struct term_in *in, bool admits, read_grants *read)
{
    struct job_request request = {.kind = JOB_ADMISSION, .admission = {.admits = admits}};
    struct belongings its = {.text = NULL};
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    int n = term_list(in);
    if (n < 0)
        return false;
    if (!turn_commons_grants(d->commons)) {
        reply_error(d, ref, "admission_off");
        return true;
    }
    its.admission = admission_new((size_t)n);
    if (!its.admission) {
        reply_error(d, ref, "no_memory");
        return true;
    }
    struct command *c = command_new(d, ref, &request, its);
    return !c || change_grants(d, c, in, n, read);
}

static bool frame_admit(struct daemon *d, struct term_in *in)
{
    return frame_grants(d, in, true, admission_admit);
}

static bool frame_withdraw(struct daemon *d, struct term_in *in)
{
    return frame_grants(d, in, false, admission_withdraw);
}

static bool frame_open(struct daemon *d, struct term_in *in)
{
    struct turn_grants *grants = turn_commons_grants(d->commons);
    uint64_t ref;

    if (!term_uint(in, REF_MAX, &ref))
        return false;
    if (!grants) {
        reply_error(d, ref, "admission_off");
        return true;
    }
    uv_mutex_lock(&d->commons_lock);
    turn_grants_open(grants);
    uv_mutex_unlock(&d->commons_lock);
    reply_ok(d, ref);
    return true;
}

static bool frame_credit(struct daemon *d, struct term_in *in)
{
    uint64_t n;

    if (!term_uint(in, CREDIT_MAX, &n))
        return false;
    credit_grant(&d->credit, n);
    daemon_send_held(d);
    return true;
}

#define FROM(stage) (1u << (stage))

static const struct {
    const char *name;
    int arity;
    unsigned stages;
    bool (*handle)(struct daemon *d, struct term_in *in);
    const char *shape;
} frames[] = {
    {"hello", 2, FROM(STAGE_HELLO), frame_hello, "{hello, Version}"},
    {"configure", 3, FROM(STAGE_CONFIGURE) | FROM(STAGE_RUNNING), frame_configure,
     "{configure, Ref, Config}"},
    {"stats", 2, FROM(STAGE_RUNNING), frame_stats, "{stats, Ref}"},
    {"ping", 2, FROM(STAGE_RUNNING), frame_ping, "{ping, Ref}"},
    {"list", 3, FROM(STAGE_RUNNING), frame_list, "{list, Ref, Limit}"},
    {"kill", 3, FROM(STAGE_RUNNING), frame_kill,
     "{kill, Ref, all | {id, Binary} | {username, Binary} | {user, Binary}}"},
    {"drain", 3, FROM(STAGE_RUNNING), frame_drain, "{drain, Ref, Boolean}"},
    {"users", 3, FROM(STAGE_RUNNING), frame_users, "{users, Ref, [Username]}"},
    {"admit", 3, FROM(STAGE_RUNNING), frame_admit, "{admit, Ref, [{User, Room}]}"},
    {"withdraw", 3, FROM(STAGE_RUNNING), frame_withdraw, "{withdraw, Ref, [{User, Room}]}"},
    {"open", 2, FROM(STAGE_RUNNING), frame_open, "{open, Ref}"},
    {"credit", 2, FROM(STAGE_CONFIGURE) | FROM(STAGE_RUNNING), frame_credit, "{credit, N}"},
};

enum {
    FRAMES = sizeof frames / sizeof *frames
};

static void refuse(struct daemon *d, const char *what, const char *why, const char *right)
{
    char text[TERM_SHOW_MAX + 160];

    snprintf(text, sizeof text, "%s: %s%s", what, why, right);
    daemon_fail_text(d, "protocol", text);
}

void command_handle(struct daemon *d, struct term_in *term)
{
    char name[TERM_ATOM_MAX], shown[TERM_SHOW_MAX];
    struct term_in in = *term;
    int arity = term_tuple(&in);

    term_show(arity > 0 ? &in : term, shown);
    if (arity < 1 || !term_atom(&in, name)) {
        refuse(d, shown, "must be ", "a tuple that starts with an atom");
        return;
    }
    for (size_t i = 0; i < FRAMES; i++) {
        if (strcmp(frames[i].name, name) != 0)
            continue;
        if (!(frames[i].stages & FROM(d->stage)))
            refuse(d, frames[i].name, "not at this point of the conversation", "");
        else if (arity != frames[i].arity || !frames[i].handle(d, &in))
            refuse(d, frames[i].name, "must be ", frames[i].shape);
        return;
    }
    refuse(d, shown, "not a command", "");
}
