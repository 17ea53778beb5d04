#include "relay/daemon.h"

#include "relay/command.h"
#include "relay/event.h"
#include "relay/owner.h"
#include "relay/pairs.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PATIENCE_MS = 1000, /* for our last words to be read */
    LAST_RESORT_S = 5,  /* then SIGALRM ends a process that could not end itself: no orphans */
};

/* ---- the end ---- */

static void close_handles(struct daemon *d)
{
    control_close(&d->control);
    mailbox_close(&d->home);
    uv_close((uv_handle_t *)&d->sigterm, NULL);
    uv_close((uv_handle_t *)&d->sigint, NULL);
    uv_close((uv_handle_t *)&d->patience, NULL);
}

static void on_finished(struct control *c)
{
    close_handles(OWNER_OF(c, struct daemon, control));
}

static void on_impatient(uv_timer_t *timer)
{
    close_handles(OWNER_OF(timer, struct daemon, patience));
}

/* No worker thread runs any more: what they shared can go. */
static void free_workers(struct daemon *d)
{
    for (unsigned i = 0; i < d->worker_count; i++)
        worker_free(d->workers[i]);
    d->worker_count = 0;
    turn_commons_free(d->commons);
    gate_free(d->gate);
    pairs_free(d->pairs);
    config_free(d->config);
    d->commons = NULL;
    d->gate = NULL;
    d->pairs = NULL;
    d->config = NULL;
}

static void finish(struct daemon *d)
{
    free_workers(d);
    uv_timer_start(&d->patience, on_impatient, PATIENCE_MS, 0);
    control_finish(&d->control);
}

void daemon_stop(struct daemon *d, int status)
{
    if (d->stage == STAGE_STOPPING)
        return;
    d->stage = STAGE_STOPPING;
    d->status = status;
    alarm(LAST_RESORT_S);
    control_stop_reading(&d->control);
    d->stop = (struct job_request){.kind = JOB_STOP};
    d->stop_left = d->threads;
    for (unsigned i = 0; i < d->threads; i++) {
        d->stop_jobs[i].request = &d->stop;
        worker_post(d->workers[i], &d->stop_jobs[i]);
    }
    if (d->stop_left == 0)
        finish(d);
}

void daemon_fail(struct daemon *d, const char *reason, struct term_out *detail)
{
    struct term_out frame;

    control_frame_init(&frame);
    term_put_tuple(&frame, 3);
    term_put_atom(&frame, "failed");
    term_put_atom(&frame, reason);
    term_put_terms(&frame, detail, (size_t)detail->x.index);
    term_out_free(detail);
    control_send(&d->control, &frame);
    daemon_stop(d, EXIT_FAILURE);
}

void daemon_fail_text(struct daemon *d, const char *reason, const char *text)
{
    struct term_out detail;

    term_out_init(&detail);
    term_put_text(&detail, text);
    daemon_fail(d, reason, &detail);
}

/* ---- events ---- */

static void send_log(struct daemon *d, struct term_out *frame)
{
    control_frame_end(frame, 0);
    if (!control_send_events(&d->control, frame))
        credit_drop(&d->credit);
}

/* What is told before `ready` and the first credit waits for them: it would be lost every time. */
void daemon_log(struct daemon *d, const char *level, const char *message)
{
    struct term_out frame;

    control_frame_init(&frame);
    event_put_log(&frame, level, message);
    if (d->stage == STAGE_RUNNING && credit_take(&d->credit)) {
        send_log(d, &frame);
    } else if (d->held_count < DAEMON_LOGS_HELD) {
        d->held[d->held_count++] = frame;
    } else {
        term_out_free(&frame);
        credit_drop(&d->credit);
    }
}

void daemon_send_held(struct daemon *d)
{
    unsigned sent = 0;

    if (d->stage != STAGE_RUNNING)
        return;
    while (sent < d->held_count && credit_take(&d->credit))
        send_log(d, &d->held[sent++]);
    d->held_count -= sent;
    memmove(d->held, d->held + sent, d->held_count * sizeof *d->held);
}

static void drop_held(struct daemon *d)
{
    while (d->held_count)
        term_out_free(&d->held[--d->held_count]);
}

/* ---- what comes in ---- */

static void on_frame(struct control *c, struct term_in *term)
{
    command_handle(OWNER_OF(c, struct daemon, control), term);
}

static void on_broken(struct control *c, const char *why)
{
    daemon_fail_text(OWNER_OF(c, struct daemon, control), "protocol", why);
}

static void on_gone(struct control *c)
{
    daemon_stop(OWNER_OF(c, struct daemon, control), EXIT_SUCCESS);
}

static const struct control_ops control_ops = {
    .frame = on_frame, .broken = on_broken, .gone = on_gone, .finished = on_finished};

static void on_job_done(struct daemon *d, struct job *job)
{
    if (job->request != &d->stop)
        command_answered(d, job);
    else if (--d->stop_left == 0)
        finish(d);
}

static void on_news(struct daemon *d, struct news_sheet *sheet)
{
    if (!control_send_events(&d->control, &sheet->frames))
        for (unsigned i = 0; i < sheet->count; i++)
            credit_drop(&d->credit);
    news_sheet_free(sheet);
}

/* From one worker to another; while stopping, the other may be gone. */
static void on_packet(struct daemon *d, struct packet *packet)
{
    if (d->stage == STAGE_RUNNING && packet->worker < d->worker_count)
        worker_post_packet(d->workers[packet->worker], packet);
    else
        packet_free(packet);
}

/* The same with a client's connection. */
static void on_parcel(struct daemon *d, struct parcel *parcel)
{
    if (d->stage == STAGE_RUNNING && parcel->worker < d->worker_count)
        worker_post_parcel(d->workers[parcel->worker], parcel);
    else
        parcel_free(parcel);
}

static void on_mail(struct mailbox *box, struct mail *mail)
{
    struct daemon *d = OWNER_OF(box, struct daemon, home);

    if (mail->kind == MAIL_PACKET)
        on_packet(d, OWNER_OF(mail, struct packet, mail));
    else if (mail->kind == MAIL_CONNECTION)
        on_parcel(d, OWNER_OF(mail, struct parcel, mail));
    else if (mail->kind == MAIL_NEWS)
        on_news(d, OWNER_OF(mail, struct news_sheet, mail));
    else
        on_job_done(d, OWNER_OF(mail, struct job, mail));
}

static void on_sigterm(uv_signal_t *signal, int signum)
{
    (void)signum;
    daemon_stop(OWNER_OF(signal, struct daemon, sigterm), EXIT_SUCCESS);
}

static void on_sigint(uv_signal_t *signal, int signum)
{
    (void)signum;
    daemon_stop(OWNER_OF(signal, struct daemon, sigint), EXIT_SUCCESS);
}

/* ---- the beginning ---- */

static int init(struct daemon *d)
{
    int err = uv_loop_init(&d->loop);

    if (!err)
        err = uv_mutex_init(&d->commons_lock);
    if (!err)
        err = mailbox_init(&d->home, &d->loop, on_mail);
    if (err)
        return err;
    uv_timer_init(&d->loop, &d->patience);
    uv_signal_init(&d->loop, &d->sigterm);
    uv_signal_init(&d->loop, &d->sigint);
    err = uv_signal_start(&d->sigterm, on_sigterm, SIGTERM);
    if (!err)
        err = uv_signal_start(&d->sigint, on_sigint, SIGINT);
    if (!err)
        err = control_open(&d->control, &d->loop, &control_ops);
    return err;
}

int daemon_run(void)
{
    struct daemon *d = calloc(1, sizeof *d);

    if (!d || init(d) != 0) {
        free(d);
        return EXIT_FAILURE;
    }
    uv_run(&d->loop, UV_RUN_DEFAULT);
    drop_held(d);
    uv_loop_close(&d->loop);
    mailbox_free(&d->home);
    uv_mutex_destroy(&d->commons_lock);
    int status = d->status;
    free(d);
    return status;
}
