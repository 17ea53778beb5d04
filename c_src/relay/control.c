#include "relay/control.h"

#include "crypto/crypto.h"
#include "relay/owner.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LENGTH_SIZE = 4
};

/* A frame on its way out, with the memory it is written from. */
struct outgoing {
    uv_write_t write;
    struct control *control;
    struct term_out frame;
};

/* ---- reading ---- */

static void finish_if_written(struct control *c)
{
    if (c->finishing && (c->lost || (c->queued == 0 && c->discard == 0))) {
        c->finishing = false;
        c->ops->finished(c);
    }
}

/* Frames bring secrets: nothing of them is left behind. */
static void drop_body(struct control *c)
{
    if (c->body)
        crypto_wipe(c->body, c->body_len);
    free(c->body);
    c->body = NULL;
    c->body_have = c->head_have = 0;
}

static void broken(struct control *c, const char *why)
{
    control_stop_reading(c);
    c->ops->broken(c, why);
}

static void lose(struct control *c)
{
    if (c->lost)
        return;
    c->lost = true;
    c->discard = 0;
    control_stop_reading(c);
    c->ops->gone(c);
}

/* The length is there: makes room for the body. */
static void begin_body(struct control *c)
{
    struct rbuf r = rbuf_of(c->head, sizeof c->head);
    char why[96];

    c->body_len = rbuf_u32(&r);
    if (c->body_len > CONTROL_IN_MAX) {
        snprintf(why, sizeof why, "a frame of %zu bytes came: at most %d are accepted", c->body_len,
                 CONTROL_IN_MAX);
        c->discard = c->body_len;
        broken(c, why);
        return;
    }
    c->body = malloc(c->body_len ? c->body_len : 1);
    if (!c->body)
        broken(c, "no memory for a frame");
}

static void end_body(struct control *c)
{
    struct term_in term;

    if (term_in_init(&term, c->body, c->body_len))
        c->ops->frame(c, &term);
    else
        broken(c, "a frame came that is not one external term of the known kinds");
    drop_body(c);
}

/* Reads go straight to where the bytes belong: the rest of the length, or of the body. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct control *c = OWNER_OF(handle, struct control, in);

    (void)suggested;
    if (c->discard)
        *buf = uv_buf_init(c->scrap, sizeof c->scrap);
    else if (c->body)
        *buf = uv_buf_init((char *)c->body + c->body_have, (unsigned)(c->body_len - c->body_have));
    else
        *buf = uv_buf_init((char *)c->head + c->head_have, (unsigned)(LENGTH_SIZE - c->head_have));
}

/*
 * The BEAM loses what it has not read of us when it is refused what it writes: so a frame that is
 * too long is taken in all the same.
 */
static void discard(struct control *c, size_t n)
{
    c->discard -= n < c->discard ? n : c->discard;
    if (c->discard)
        return;
    control_stop_reading(c);
    finish_if_written(c);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct control *c = OWNER_OF(stream, struct control, in);

    (void)buf;
    if (n < 0) {
        lose(c);
        finish_if_written(c);
        return;
    }
    if (c->discard) {
        discard(c, (size_t)n);
        return;
    }
    if (c->body)
        c->body_have += (size_t)n;
    else
        c->head_have += (size_t)n;
    if (!c->body && c->head_have == LENGTH_SIZE)
        begin_body(c);
    if (c->body && c->body_have == c->body_len)
        end_body(c);
}

void control_stop_reading(struct control *c)
{
    if (!c->discard)
        uv_read_stop((uv_stream_t *)&c->in);
}

int control_open(struct control *c, uv_loop_t *loop, const struct control_ops *ops)
{
    *c = (struct control){.ops = ops};
    int err = uv_pipe_init(loop, &c->in, 0);
    if (!err)
        err = uv_pipe_init(loop, &c->out, 0);
    if (!err)
        err = uv_pipe_open(&c->in, CONTROL_IN_FD);
    if (!err)
        err = uv_pipe_open(&c->out, CONTROL_OUT_FD);
    if (!err)
        err = uv_read_start((uv_stream_t *)&c->in, on_alloc, on_read);
    return err;
}

/* ---- writing ---- */

int control_frame_begin(struct term_out *out)
{
    static const char length[LENGTH_SIZE];
    int start = out->x.index;

    out->failed = out->failed || ei_x_append_buf(&out->x, length, sizeof length) != 0 ||
                  ei_x_encode_version(&out->x) != 0;
    return start;
}

void control_frame_end(struct term_out *out, int start)
{
    if (out->failed)
        return;
    struct wbuf w = wbuf_of(out->x.buff + start, LENGTH_SIZE);
    wbuf_u32(&w, (uint32_t)(out->x.index - start - LENGTH_SIZE));
}

void control_frame_init(struct term_out *frame)
{
    term_out_init(frame);
    control_frame_begin(frame);
}

static void on_written(uv_write_t *write, int status)
{
    struct outgoing *o = OWNER_OF(write, struct outgoing, write);
    struct control *c = o->control;

    c->queued -= (size_t)o->frame.x.index;
    term_out_free(&o->frame);
    free(o);
    if (status == UV_ECANCELED) /* closed by ourselves */
        return;
    if (status < 0)
        lose(c);
    finish_if_written(c);
}

static struct outgoing *pack(struct control *c, struct term_out *frame)
{
    struct outgoing *o =
        frame->failed || frame->x.index - LENGTH_SIZE > CONTROL_OUT_MAX ? NULL : malloc(sizeof *o);

    if (!o)
        return NULL;
    *o = (struct outgoing){.control = c, .frame = *frame};
    *frame = (struct term_out){.failed = true};
    return o;
}

/* Whole frames, one or several. */
static bool send_frames(struct control *c, struct term_out *frame)
{
    struct outgoing *o = c->lost ? NULL : pack(c, frame);

    if (!o) {
        term_out_free(frame);
        return false;
    }
    uv_buf_t buf = uv_buf_init(o->frame.x.buff, (unsigned)o->frame.x.index);
    c->queued += (size_t)o->frame.x.index;
    if (uv_write(&o->write, (uv_stream_t *)&c->out, &buf, 1, on_written) == 0)
        return true;
    c->queued -= (size_t)o->frame.x.index;
    term_out_free(&o->frame);
    free(o);
    return false;
}

bool control_send(struct control *c, struct term_out *frame)
{
    control_frame_end(frame, 0);
    return send_frames(c, frame);
}

bool control_send_events(struct control *c, struct term_out *frames)
{
    if (c->queued <= CONTROL_EVENTS_QUEUED)
        return send_frames(c, frames);
    term_out_free(frames);
    return false;
}

void control_finish(struct control *c)
{
    c->finishing = true;
    finish_if_written(c);
}

void control_close(struct control *c)
{
    drop_body(c);
    uv_close((uv_handle_t *)&c->in, NULL);
    uv_close((uv_handle_t *)&c->out, NULL);
}
