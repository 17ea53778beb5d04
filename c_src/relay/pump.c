/* The two ways of a joined pipe: up from the client to the peer, down from the peer to the client.
 */
#include "relay/conn.h"
#include "relay/owner.h"
#include "relay/pipe_state.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL /* SIGPIPE is ignored anyway */
#define MSG_NOSIGNAL 0
#endif

_Static_assert((int)CONN_RAW_MAX <= (int)PIPE_QUEUE_SIZE, "what a client sends at once must fit");
_Static_assert((int)PIPE_READ_MAX <= (int)PIPE_QUEUE_SIZE, "and what a peer does");
/* With TLS a longer piece is taken in part although more could be written: nobody would go on. */
_Static_assert((int)PIPE_READ_MAX <= (int)CONN_RAW_READ, "one piece is written at once");

static void on_peer(uv_poll_t *poll, int status, int events);

static void count_moved(struct turn_pipe *pipe, size_t up, size_t down)
{
    pipe->moved_ms = uv_now(pipe->p->loop);
    turn_server_tcp_moved(pipe->p->server, pipe->tcp, up, down);
}

/* ---- the end ---- */

static void finish(struct turn_pipe *pipe)
{
    pipe_end(pipe);
    turn_server_tcp_gone(pipe->p->server, pipe->tcp);
}

void pump_cut(struct turn_pipe *pipe)
{
    turn_count(pipe->p->counters, TURN_N_TCP_CUT, 1);
    finish(pipe);
}

static void watch(struct turn_pipe *pipe)
{
    int events = 0;

    if (!pipe->down_ended && queue_len(&pipe->down) == 0)
        events |= UV_READABLE;
    if (queue_len(&pipe->up))
        events |= UV_WRITABLE;
    if (events == pipe->events)
        return;
    pipe->events = events;
    if (events)
        uv_poll_start(&pipe->poll, events, on_peer);
    else
        uv_poll_stop(&pipe->poll);
}

/*
 * An end that has closed is told to the other once everything before it is delivered. The sockets
 * stay until both ends have closed: closing one with data not yet read would make the kernel throw
 * away what is still on its way out.
 */
void pump_settle(struct turn_pipe *pipe)
{
    if (pipe->closed)
        return;
    if (pipe->up_ended && !pipe->up_done && queue_len(&pipe->up) == 0) {
        shutdown(pipe->fd, SHUT_WR);
        pipe->up_done = true;
    }
    if (pipe->down_ended && !pipe->down_done && queue_len(&pipe->down) == 0)
        pipe->down_done = conn_end_raw(pipe->client);
    if (pipe->up_ended && pipe->up_done && pipe->down_ended && pipe->down_done) {
        finish(pipe);
        return;
    }
    if ((pipe->up_ended || pipe->up_done || pipe->down_ended || pipe->down_done) &&
        !pipe->deadline.next)
        deadline_set(&pipe->p->wheel, &pipe->deadline, uv_now(pipe->p->loop) + PIPE_HALF_MS);
    watch(pipe);
}

/* ---- up ---- */

/* Nothing more gets to the peer; what the client still sends is read and thrown away. */
static void close_up(struct turn_pipe *pipe)
{
    pipe->up_done = true;
    queue_drop(&pipe->up, &pipe->p->buffers, queue_len(&pipe->up));
    if (pipe->client && !pipe->up_ended)
        conn_deafen(pipe->client, false);
}

/* Hands bytes to the kernel; how many it took. */
static size_t send_up(struct turn_pipe *pipe, struct span bytes)
{
    ssize_t n = send(pipe->fd, bytes.data, bytes.len, MSG_NOSIGNAL);

    if (n >= 0)
        return (size_t)n;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        close_up(pipe);
    return 0;
}

static void flush_up(struct turn_pipe *pipe)
{
    while (queue_len(&pipe->up)) {
        size_t n = send_up(pipe, queue_bytes(&pipe->up));
        if (n == 0)
            break;
        queue_drop(&pipe->up, &pipe->p->buffers, n);
    }
    if (queue_len(&pipe->up) == 0 && pipe->client && !pipe->up_ended)
        conn_deafen(pipe->client, false);
}

void pipe_from_client(struct turn_pipe *pipe, struct span bytes)
{
    if (pipe->up_done || bytes.len == 0)
        return;
    size_t n = queue_len(&pipe->up) ? 0 : send_up(pipe, bytes);
    if (!pipe->up_done) {
        struct span rest = span_of(bytes.data + n, bytes.len - n);
        if (rest.len && !queue_put(&pipe->up, &pipe->p->buffers, PIPE_QUEUE_SIZE, rest)) {
            pump_cut(pipe);
            return;
        }
        count_moved(pipe, bytes.len, 0);
        conn_deafen(pipe->client, rest.len > 0);
    }
    pump_settle(pipe);
}

void pipe_client_ended(struct turn_pipe *pipe)
{
    pipe->up_ended = true;
    pump_settle(pipe);
}

/* ---- down ---- */

static void to_client(struct turn_pipe *pipe, struct span bytes)
{
    count_moved(pipe, 0, bytes.len);
    size_t n = conn_write_raw(pipe->client, bytes);
    struct span rest = span_of(bytes.data + n, bytes.len - n);
    if (rest.len && !queue_put(&pipe->down, &pipe->p->buffers, PIPE_QUEUE_SIZE, rest))
        pump_cut(pipe);
}

static void read_peer(struct turn_pipe *pipe)
{
    ssize_t n = recv(pipe->fd, pipe->p->input, PIPE_READ_MAX, 0);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return;
    if (n > 0 && !pipe->down_done)
        to_client(pipe, span_of(pipe->p->input, (size_t)n));
    if (n > 0)
        return;
    pipe->down_ended = true;
    if (n < 0)
        close_up(pipe);
}

static void on_peer(uv_poll_t *poll, int status, int events)
{
    struct turn_pipe *pipe = OWNER_OF(poll, struct turn_pipe, poll);

    if (status < 0) { /* reset: libuv has stopped to watch; what came before is still there */
        pipe->events = 0;
        close_up(pipe);
        if (queue_len(&pipe->down) == 0)
            read_peer(pipe);
        pump_settle(pipe);
        return;
    }
    if (events & UV_WRITABLE)
        flush_up(pipe);
    if (events & UV_READABLE && !pipe->down_ended && queue_len(&pipe->down) == 0)
        read_peer(pipe);
    pump_settle(pipe);
}

void pipe_client_writable(struct turn_pipe *pipe)
{
    while (queue_len(&pipe->down)) {
        size_t n = conn_write_raw(pipe->client, queue_bytes(&pipe->down));
        if (n == 0)
            break;
        queue_drop(&pipe->down, &pipe->p->buffers, n);
    }
    pump_settle(pipe);
}

void pipe_client_gone(struct turn_pipe *pipe)
{
    pipe->client = NULL;
    queue_drop(&pipe->down, &pipe->p->buffers, queue_len(&pipe->down));
    pipe->up_ended = pipe->down_done = true;
    pump_settle(pipe);
}

void pipes_join(struct pipes *p, struct turn_pipe *pipe, struct conn *client)
{
    pipe->client = client;
    pipe->moved_ms = uv_now(p->loop);
    pump_settle(pipe);
}
