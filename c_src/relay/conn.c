#include "relay/conn.h"

#include "core/proxy_header.h"
#include "core/stun_wire.h"
#include "core/turn_frame.h"
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/pipe.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL /* SIGPIPE is ignored anyway */
#define MSG_NOSIGNAL 0
#endif

static void on_poll(uv_poll_t *poll, int status, int events);

/* streams_flush() will see to it. */
static void mark_dirty(struct conn *c)
{
    if (c->dirty || !c->open)
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

static void watch(struct conn *c)
{
    int events = (c->deaf ? 0 : UV_READABLE) | (c->blocked ? UV_WRITABLE : 0);

    if (c->events == events)
        return;
    c->events = events;
    if (events)
        uv_poll_start(&c->poll, events, on_poll);
    else
        uv_poll_stop(&c->poll);
}

static void want(struct conn *c, bool blocked)
{
    c->blocked = blocked;
    watch(c);
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

static size_t encrypted_size(size_t n)
{
    return n + (n / TLS_RECORD_MAX + 1) * TLS_RECORD_OVERHEAD;
}

/*
 * Encrypts what waits, as much as fits. A frame is a record, or several when it is long: there are
 * clients that take what one read gives for one message (turnutils_uclient does).
 */
static void encrypt(struct conn *c)
{
    struct span rest;
    size_t size;

    while ((rest = queue_bytes(&c->frames)).len && !c->doomed) {
        if (turn_frame_size(rest.data, rest.len, &size) != CT_OK || size == 0 || size > rest.len ||
            encrypted_size(size) > CONN_WIRE_MAX - queue_len(&c->wire))
            return;
        if (!tls_write(c->tls, span_of(rest.data, size)))
            conn_doom(c, TURN_N_CONN_BROKEN);
        queue_drop(&c->frames, &c->s->large, size);
    }
}

/* Frames are encrypted only once everything before them has been sent: there they can be dropped.
 */
static void flush_tls(struct conn *c)
{
    do {
        write_queue(c, &c->wire);
        if (queue_len(&c->wire) || c->phase != CONN_OPEN)
            return;
        encrypt(c);
    } while (queue_len(&c->wire));
}

void conn_flush(struct conn *c)
{
    if (c->tls)
        flush_tls(c);
    else
        write_queue(c, &c->frames);
    if (!c->doomed)
        want(c, queue_len(&c->frames) + queue_len(&c->wire) > 0);
}

/* ChannelData on streams is padded to four bytes (RFC 8656 §12.5); STUN messages already are. */
static size_t padding(const struct turn_out *frame)
{
    size_t len = turn_out_len(frame);

    return stun_padded(len) - len;
}

/* A response's first byte has the upper bit of the class (RFC 8489 §5). */
static bool is_reply(const struct turn_out *frame)
{
    return frame->head.len > 0 && frame->head.data[0] == 1;
}

static bool queue_frame(struct conn *c, const struct turn_out *frame)
{
    size_t most = is_reply(frame) ? CONN_REPLIES_MAX : CONN_QUEUE_MAX;

    return queue_put_frame(&c->frames, &c->s->large, most, frame, padding(frame));
}

void conn_send(struct conn *c, const struct turn_out *frame)
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
    if (!queue_put(&c->part, c->part_large ? &c->s->large : &c->s->small, CONN_QUEUE_SIZE, bytes))
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

    while (!c->doomed && !c->pipe) {
        if (turn_frame_size(data + at, len - at, &size) != CT_OK || !may_send(c, size, now)) {
            conn_doom(c, TURN_N_CONN_BROKEN);
            break;
        }
        if (size == 0 || size > len - at)
            break;
        struct turn_packet packet = {.data = data + at, .len = size};
        turn_server_from_client(c->s->server, &c->tuple, &packet, now);
        if (c->moving)
            break;
        c->heard_ms = now.ms;
        at += size;
    }
    return at;
}

/* Packs what the other worker is to get, the request first; until it goes nothing more is read. */
static void pack(struct conn *c, struct span rest)
{
    conn_deafen(c, true);
    c->parcel = parcel_new(rest);
    if (c->parcel)
        mark_dirty(c);
    else
        conn_doom(c, TURN_N_CONN_REFUSED);
}

static void take_input(struct conn *c, size_t len)
{
    uint8_t *data = c->s->input;
    size_t done = c->pipe ? 0 : take_frames(c, data, len, now_of(c->s->loop));
    struct span rest = span_of(data + done, len - done);

    /* What goes to peers still lies in this memory. */
    udp_send(c->s->udp);
    if (c->doomed)
        return;
    if (c->moving)
        pack(c, rest);
    else if (c->pipe)
        pipe_from_client(c->pipe, rest);
    else
        keep_part(c, rest);
}

/* Puts the kept beginning of a frame where its rest will be read to; how long it is. */
static size_t unpack_part(struct conn *c)
{
    struct wbuf w = wbuf_of(c->s->input, CONN_INPUT);
    struct span part = queue_bytes(&c->part);

    wbuf_bytes(&w, part.data, part.len);
    return w.pos;
}

/* ---- TLS ---- */

/* What a handshake costs is limited per source. */
static void start_tls(struct conn *c)
{
    const struct stream_config *config = c->s->config;
    const struct ratelimit_rule rule = {config->handshake_rate, config->handshake_burst};
    uint64_t now = uv_now(c->s->loop);

    if (config->tls && (!rule.rate || ratelimit_take(&c->s->handshakes, &rule, &c->source, now)))
        c->tls = tls_new(config->tls, &c->wire, &c->s->large);
    if (!c->tls)
        conn_doom(c, TURN_N_CONN_REFUSED);
    c->phase = CONN_HANDSHAKE;
    c->tuple.transport = TURN_TLS;
}

static void shake_hands(struct conn *c)
{
    enum tls_result r = tls_handshake(c->tls);

    if (r == TLS_DONE) {
        c->phase = CONN_OPEN;
        turn_count(c->s->counters, TURN_N_HANDSHAKES, 1);
    } else if (r != TLS_MORE) {
        conn_doom(c, TURN_N_CONN_BROKEN);
    }
}

/* Appends data to the input until there is no more, or no room for it. */
static enum tls_result decrypt(struct conn *c, size_t *have)
{
    enum tls_result r = TLS_DONE;

    while (r == TLS_DONE && *have < CONN_INPUT) {
        size_t n = 0;
        r = tls_read(c->tls, c->s->input + *have, CONN_INPUT - *have, &n);
        *have += n;
    }
    return r;
}

/* It sends no more. Of a data connection that is one half only. */
static void client_ended(struct conn *c)
{
    if (!c->pipe) {
        hang_up(c);
        return;
    }
    conn_deafen(c, true);
    pipe_client_ended(c->pipe);
}

static void take_data(struct conn *c)
{
    enum tls_result r = TLS_DONE;

    while (r == TLS_DONE && !c->doomed && !c->moving) {
        size_t have = unpack_part(c);
        r = decrypt(c, &have);
        forget_part(c);
        take_input(c, have);
    }
    if (c->moving) /* whose next worker asks again */
        return;
    if (r == TLS_CLOSED)
        client_ended(c);
    else if (r == TLS_FAILED)
        conn_doom(c, TURN_N_CONN_BROKEN);
}

static void take_ciphertext(struct conn *c, struct span bytes)
{
    tls_feed(c->tls, bytes);
    if (c->phase == CONN_HANDSHAKE)
        shake_hands(c);
    if (c->phase == CONN_OPEN)
        take_data(c);
    /* the session may have something to say on its own */
    if (queue_len(&c->wire))
        mark_dirty(c);
}

/* ---- what is read ---- */

/* The first byte has come: which of the two it is. */
static void tell_apart(struct conn *c, uint8_t first)
{
    if (first == TLS_FIRST_BYTE && c->s->config->tls)
        start_tls(c);
    else
        c->phase = CONN_OPEN;
}

/* From now on it counts as whose it is, for the limits per source too. */
static void adopt_header(struct conn *c, const struct proxy_header *h)
{
    if (h->known) {
        c->tuple.client = h->client;
        c->tuple.server = h->server;
    }
    if (!gate_enter(c->s->gate, &c->tuple.client, c->s->config->source_connections)) {
        conn_doom(c, TURN_N_CONN_REFUSED);
        return;
    }
    gate_leave(c->s->gate, &c->source);
    c->source = c->tuple.client;
    c->phase = CONN_FIRST;
    if (c->tuple.transport == TURN_TLS)
        start_tls(c);
}

/* Takes the PROXY header off the front; what is left then, 0 also while it is not whole. */
static size_t take_header(struct conn *c, uint8_t *data, size_t len)
{
    struct proxy_header h;
    enum ct_err err = proxy_header_decode(data, len, &h);

    if (err == CT_ESHORT) {
        keep_part(c, span_of(data, len));
        return 0;
    }
    if (err != CT_OK) {
        conn_doom(c, TURN_N_CONN_BROKEN);
        return 0;
    }
    adopt_header(c, &h);
    memmove(data, data + h.size, len - h.size);
    return len - h.size;
}

static void take_bytes(struct conn *c, uint8_t *data, size_t len)
{
    if (c->phase == CONN_PROXY)
        len = take_header(c, data, len);
    if (len == 0)
        return;
    if (c->phase == CONN_FIRST)
        tell_apart(c, data[0]);
    if (c->doomed)
        return;
    if (c->tls)
        take_ciphertext(c, span_of(data, len));
    else
        take_input(c, len);
}

/* TLS keeps the beginnings of its records itself, and decrypts to where frames are read. */
static void on_readable(struct conn *c)
{
    size_t have = c->tls ? 0 : unpack_part(c);
    uint8_t *data = c->tls ? c->s->cipher : c->s->input;
    ssize_t n = recv(c->fd, data + have, c->pipe ? CONN_RAW_READ : CONN_READ_MAX, 0);

    if (n > 0) {
        if (!c->tls)
            forget_part(c);
        take_bytes(c, data, have + (size_t)n);
    } else if (n == 0) {
        client_ended(c);
    } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
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
    if (!c->doomed && c->pipe && events & UV_WRITABLE && !c->blocked)
        pipe_client_writable(c->pipe);
    if (!c->doomed && !c->deaf && events & UV_READABLE)
        on_readable(c);
}

/* ---- life ---- */

uint64_t conn_deadline(const struct conn *c)
{
    uint64_t idle_ms = (uint64_t)c->s->config->connection_idle * 1000;

    if (c->phase != CONN_OPEN && idle_ms > CONN_HANDSHAKE_MS)
        idle_ms = CONN_HANDSHAKE_MS;
    return c->heard_ms + idle_ms;
}

/* A connection that is watched; NULL when there is no room. */
static struct conn *make(struct streams *s, int fd, const struct turn_tuple *tuple,
                         const struct addr *source)
{
    uint32_t number = slab_take(&s->conns);

    if (number == SLAB_NONE)
        return NULL;
    struct conn *c = slab_at(&s->conns, number);
    if (uv_poll_init(s->loop, &c->poll, fd) != 0) {
        slab_give(&s->conns, number);
        return NULL;
    }
    c->s = s;
    c->open = true;
    c->fd = fd;
    c->source = *source;
    c->tuple = *tuple;
    c->tuple.link = number;
    c->tuple.worker = s->worker;
    c->heard_ms = uv_now(s->loop);
    return c;
}

bool conn_open(struct streams *s, int fd, const struct turn_tuple *tuple, const struct addr *source)
{
    struct conn *c = make(s, fd, tuple, source);

    if (!c)
        return false;
    c->phase = source->family == ADDR_NONE ? CONN_PROXY : CONN_FIRST;
    deadline_set(&s->wheel, &c->deadline, conn_deadline(c));
    if (c->phase == CONN_FIRST && tuple->transport == TURN_TLS)
        start_tls(c);
    watch(c);
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

    c->open = false;
    c->doomed = true;
    deadline_clear(&s->wheel, &c->deadline);
    if (s->server)
        turn_server_gone(s->server, &c->tuple, now_of(s->loop));
    if (c->pipe)
        pipe_client_gone(c->pipe);
    c->pipe = NULL;
    parcel_free(c->parcel);
    if (c->tls) {
        tls_close(c->tls);
        write_queue(c, &c->wire);
    }
    tls_free(c->tls);
    forget_part(c);
    queue_drop(&c->frames, &s->large, queue_len(&c->frames));
    queue_drop(&c->wire, &s->large, queue_len(&c->wire));
    gate_leave(s->gate, &c->source);
    uv_close((uv_handle_t *)&c->poll, closed);
    close(c->fd);
}

/* ---- to another worker ---- */

/* What has not yet been sent goes along. */
static bool pack_output(struct conn *c, struct parcel *p)
{
    struct span frames = queue_bytes(&c->frames), wire = queue_bytes(&c->wire);

    p->frames = frames.len;
    p->wire = wire.len;
    if (frames.len + wire.len == 0)
        return true;
    p->out = malloc(frames.len + wire.len);
    if (!p->out)
        return false;
    struct wbuf w = wbuf_of(p->out, frames.len + wire.len);
    wbuf_bytes(&w, frames.data, frames.len);
    wbuf_bytes(&w, wire.data, wire.len);
    return true;
}

void conn_leave(struct conn *c)
{
    struct streams *s = c->s;
    struct parcel *p = c->parcel;

    if (!pack_output(c, p)) {
        conn_doom(c, TURN_N_CONN_REFUSED);
        return;
    }
    p->worker = c->move_to;
    p->gate = s->gate;
    p->source = c->source;
    p->tuple = c->tuple;
    p->fd = c->fd;
    p->tls = c->tls;
    if (p->tls)
        tls_move(p->tls, NULL, NULL);
    c->open = false;
    c->doomed = true;
    c->parcel = NULL;
    c->tls = NULL;
    deadline_clear(&s->wheel, &c->deadline);
    queue_drop(&c->frames, &s->large, queue_len(&c->frames));
    queue_drop(&c->wire, &s->large, queue_len(&c->wire));
    uv_close((uv_handle_t *)&c->poll, closed);
    s->exit->send(s->exit, p);
}

/* What it brought, and then what may be known of its end. */
static void unpack(struct conn *c, const struct parcel *p)
{
    struct wbuf w = wbuf_of(c->s->input, CONN_INPUT);

    if (c->tls)
        tls_move(c->tls, &c->wire, &c->s->large);
    if ((p->frames &&
         !queue_put(&c->frames, &c->s->large, CONN_QUEUE_SIZE, span_of(p->out, p->frames))) ||
        (p->wire && !queue_put(&c->wire, &c->s->large, CONN_QUEUE_SIZE,
                               span_of(p->out + p->frames, p->wire)))) {
        conn_doom(c, TURN_N_CONN_REFUSED);
        return;
    }
    wbuf_bytes(&w, p->in, p->len);
    take_input(c, w.pos);
    if (c->tls && !c->doomed)
        take_ciphertext(c, span_of(NULL, 0));
    mark_dirty(c);
}

bool conn_adopt(struct streams *s, struct parcel *parcel)
{
    struct conn *c = make(s, parcel->fd, &parcel->tuple, &parcel->source);

    if (!c)
        return false;
    c->phase = CONN_OPEN;
    c->handed = true;
    c->tls = parcel->tls;
    deadline_set(&s->wheel, &c->deadline, conn_deadline(c));
    watch(c);
    unpack(c, parcel);
    parcel->tls = NULL;
    parcel->fd = -1;
    parcel_free(parcel);
    return true;
}

/* ---- data connections ---- */

void conn_deafen(struct conn *c, bool deaf)
{
    c->deaf = deaf;
    if (!c->doomed)
        watch(c);
}

void conn_release(struct conn *c)
{
    c->pipe = NULL;
    hang_up(c);
}

/* Whether everything before has been written; else it is told when more can be. */
static bool is_clear(struct conn *c)
{
    if (queue_len(&c->frames) + queue_len(&c->wire) == 0)
        return true;
    conn_flush(c);
    return queue_len(&c->frames) + queue_len(&c->wire) == 0;
}

static size_t write_tls(struct conn *c, struct span bytes)
{
    size_t n = bytes.len < CONN_RAW_READ ? bytes.len : CONN_RAW_READ;

    if (!tls_write(c->tls, span_of(bytes.data, n))) {
        conn_doom(c, TURN_N_CONN_BROKEN);
        return bytes.len;
    }
    conn_flush(c);
    return n;
}

size_t conn_write_raw(struct conn *c, struct span bytes)
{
    if (c->doomed)
        return bytes.len;
    if (!is_clear(c))
        return 0;
    if (c->tls)
        return write_tls(c, bytes);
    size_t n = write_some(c, bytes);
    if (c->doomed)
        return bytes.len;
    want(c, n < bytes.len);
    return n;
}

bool conn_end_raw(struct conn *c)
{
    if (c->doomed || c->shut)
        return true;
    if (!is_clear(c))
        return false;
    if (c->tls && !c->ending)
        tls_close(c->tls);
    c->ending = true;
    if (!is_clear(c))
        return false;
    c->shut = true;
    shutdown(c->fd, SHUT_WR);
    return true;
}
