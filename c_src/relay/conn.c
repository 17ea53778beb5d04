#include "relay/conn.h"

#include "core/stun_wire.h"
#include "core/turn_frame.h"
#include "relay/now.h"
#include "relay/owner.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL /* SIGPIPE is ignored anyway */
#define MSG_NOSIGNAL 0
#endif

static void on_poll(uv_poll_t *poll, int status, int events);

/* streams_flush() will see to it. */
static void mark_dirty(struct conn *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    c->next_dirty = c->s->dirty;
    c->s->dirty = c;
}

void conn_doom(struct conn *c, enum turn_counter why)
{
    if (c->doomed)
        return;
    c->doomed = true;
    turn_count(c->s->counters, why, 1);
    mark_dirty(c);
}

/* The client is gone, which is nobody's fault. */
static void hang_up(struct conn *c)
{
    c->doomed = true;
    mark_dirty(c);
}

/* ---- out ---- */

static void want(struct conn *c, bool blocked)
{
    if (c->blocked == blocked)
        return;
    c->blocked = blocked;
    uv_poll_start(&c->poll, UV_READABLE | (blocked ? UV_WRITABLE : 0), on_poll);
}

/* Hands bytes to the kernel; how many it took. */
static size_t write_some(struct conn *c, struct span bytes)
{
    ssize_t n = send(c->fd, bytes.data, bytes.len, MSG_NOSIGNAL);

    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        hang_up(c);
    return 0;
}

static void write_queue(struct conn *c, struct queue *q)
{
    while (queue_len(q)) {
        size_t n = write_some(c, queue_bytes(q));
        if (n == 0)
            break;
        queue_drop(q, &c->s->large, n);
    }
}

void conn_flush(struct conn *c)
{
    write_queue(c, &c->frames);
    if (!c->doomed)
        want(c, queue_len(&c->frames) > 0);
}

/* ChannelData on streams is padded to four bytes (RFC 8656 §12.5); STUN messages already are. */
static size_t padding(struct span frame)
{
    return stun_padded(frame.len) - frame.len;
}

static bool queue_frame(struct conn *c, struct span frame)
{
    return queue_put(&c->frames, &c->s->large, CONN_QUEUE_MAX, frame, padding(frame));
}

void conn_send(struct conn *c, struct span frame)
{
    if (c->doomed)
        return;
    bool queued = queue_frame(c, frame);
    if (!queued && !c->blocked) {
        /* much has come for it since the last flush: make room now */
        conn_flush(c);
        queued = queue_frame(c, frame);
    }
    if (queued)
        mark_dirty(c);
    else
        turn_count(c->s->counters, TURN_N_DROP_QUEUE, 1);
}

/* ---- in ---- */

static void forget_part(struct conn *c)
{
    queue_drop(&c->part, c->part_large ? &c->s->large : &c->s->small, queue_len(&c->part));
}

/* Keeps the beginning of a frame until the rest comes; it is never longer than a large buffer. */
static void keep_part(struct conn *c, struct span bytes)
{
    if (bytes.len == 0)
        return;
    c->part_large = bytes.len > CONN_FRAME_SMALL;
    if (!queue_put(&c->part, c->part_large ? &c->s->large : &c->s->small, CONN_QUEUE_SIZE, bytes,
                   0))
        conn_doom(c, TURN_N_CONN_REFUSED);
}

/* Only who has an allocation has a use for long frames. */
static bool may_send(struct conn *c, size_t size, struct turn_now now)
{
    return size <= CONN_FRAME_SMALL || turn_server_holds(c->s->server, &c->tuple, now);
}

/*
 * Gives every whole frame to the engine; how many bytes those were. Bytes that cannot start a
 * frame make the connection useless (RFC 8489 §6.2.2).
 */
static size_t take_frames(struct conn *c, uint8_t *data, size_t len, struct turn_now now)
{
    size_t at = 0, size;

    while (!c->doomed) {
        if (turn_frame_size(data + at, len - at, &size) != CT_OK || !may_send(c, size, now)) {
            conn_doom(c, TURN_N_CONN_BROKEN);
            break;
        }
        if (size == 0 || size > len - at)
            break;
        struct turn_packet packet = {.data = data + at, .len = size};
        turn_server_from_client(c->s->server, &c->tuple, &packet, now);
        c->heard_ms = now.ms;
        at += size;
    }
    return at;
}

static void take_input(struct conn *c, size_t len)
{
    uint8_t *data = c->s->input;
    size_t done = take_frames(c, data, len, now_of(c->s->loop));

    /* What goes to peers still lies in this memory. */
    udp_send(c->s->udp);
    if (!c->doomed)
        keep_part(c, span_of(data + done, len - done));
}

/* Puts the kept beginning of a frame where its rest will be read to; how long it is. */
static size_t unpack_part(struct conn *c)
{
    struct wbuf w = wbuf_of(c->s->input, CONN_INPUT);
    struct span part = queue_bytes(&c->part);

    wbuf_bytes(&w, part.data, part.len);
    return w.pos;
}

static void on_readable(struct conn *c)
{
    size_t have = unpack_part(c);
    ssize_t n = recv(c->fd, c->s->input + have, CONN_READ_MAX, 0);

    if (n > 0) {
        forget_part(c);
        take_input(c, have + (size_t)n);
    } else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        hang_up(c);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct conn *c = OWNER_OF(poll, struct conn, poll);

    if (c->doomed)
        return;
    if (status < 0)
        hang_up(c);
    else if (events & UV_WRITABLE)
        conn_flush(c);
    if (!c->doomed && events & UV_READABLE)
        on_readable(c);
}

/* ---- life ---- */

bool conn_open(struct streams *s, int fd, const struct turn_tuple *tuple, const struct addr *source)
{
    uint32_t number = slab_take(&s->conns);

    if (number == SLAB_NONE)
        return false;
    struct conn *c = slab_at(&s->conns, number);
    if (uv_poll_init(s->loop, &c->poll, fd) != 0) {
        slab_give(&s->conns, number);
        return false;
    }
    c->s = s;
    c->open = true;
    c->fd = fd;
    c->source = *source;
    c->tuple = *tuple;
    c->tuple.link = number;
    c->heard_ms = uv_now(s->loop);
    deadline_set(&s->wheel, &c->deadline,
                 c->heard_ms + (uint64_t)s->config->connection_idle * 1000);
    uv_poll_start(&c->poll, UV_READABLE, on_poll);
    return true;
}

static void closed(uv_handle_t *poll)
{
    struct conn *c = OWNER_OF(poll, struct conn, poll);

    slab_give(&c->s->conns, c->tuple.link);
}

void conn_close(struct conn *c)
{
    struct streams *s = c->s;

    c->doomed = true;
    deadline_clear(&s->wheel, &c->deadline);
    if (s->server)
        turn_server_gone(s->server, &c->tuple, now_of(s->loop));
    forget_part(c);
    queue_drop(&c->frames, &s->large, queue_len(&c->frames));
    gate_leave(s->gate, &c->source);
    uv_close((uv_handle_t *)&c->poll, closed);
    close(c->fd);
    c->open = false;
}
