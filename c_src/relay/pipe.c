#include "relay/pipe.h"

#include "relay/conn.h"
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/pipe_state.h"
#include "relay/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ACCEPT_BURST = 16, /* peers of one relayed address per turn of the loop */
};

/* ---- coming and going ---- */

static struct turn_pipe *make(struct pipes *p, int fd)
{
    struct turn_pipe *pipe = calloc(1, sizeof *pipe);

    if (!pipe || uv_poll_init(p->loop, &pipe->poll, fd) != 0) {
        free(pipe);
        return NULL;
    }
    pipe->p = p;
    pipe->fd = fd;
    return pipe;
}

static void pipe_closed(uv_handle_t *poll)
{
    free(OWNER_OF(poll, struct turn_pipe, poll));
}

void pipe_end(struct turn_pipe *pipe)
{
    struct conn *client = pipe->client;

    pipe->client = NULL;
    pipe->closed = true;
    if (client)
        conn_release(client);
    deadline_clear(&pipe->p->wheel, &pipe->deadline);
    queue_drop(&pipe->up, &pipe->p->buffers, queue_len(&pipe->up));
    queue_drop(&pipe->down, &pipe->p->buffers, queue_len(&pipe->down));
    uv_close((uv_handle_t *)&pipe->poll, pipe_closed);
    close(pipe->fd);
}

void pipes_close_one(struct pipes *p, struct turn_pipe *pipe)
{
    (void)p;
    pipe_end(pipe);
}

/* ---- peers that connect ---- */

static void admit(struct turn_acceptor *a, int fd, const struct addr *peer)
{
    struct pipes *p = a->p;
    struct turn_pipe *pipe = make(p, fd);

    if (!pipe) {
        close(fd);
        return;
    }
    pipe->tcp = turn_server_accepted(p->server, a->alloc, peer, pipe, now_of(p->loop));
    if (pipe->tcp == TURN_TCP_NONE)
        pipe_end(pipe);
}

/* Of whatever stays open anyway: a copy of a listening socket would go on listening. */
static void take_spare(struct pipes *p)
{
    p->spare_fd = dup(uv_backend_fd(p->loop));
}

/* As for clients (stream.c): without a descriptor a peer cannot even be refused. */
static void refuse_with_spare(struct turn_acceptor *a)
{
    struct addr peer;
    int fd;

    close(a->p->spare_fd);
    if (sock_accept(a->fd, &peer, &fd) == 0)
        close(fd);
    take_spare(a->p);
    turn_count(a->p->counters, TURN_N_TCP_REFUSED, 1);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct turn_acceptor *a = OWNER_OF(poll, struct turn_acceptor, poll);
    struct addr peer;
    int fd;

    (void)events;
    if (status < 0) {
        sock_clear_error(a->fd);
        uv_poll_start(poll, UV_READABLE, on_acceptable);
        return;
    }
    for (int i = 0; i < ACCEPT_BURST; i++) {
        int err = sock_accept(a->fd, &peer, &fd);
        if (err == EMFILE || err == ENFILE)
            refuse_with_spare(a);
        if (err)
            return;
        admit(a, fd, &peer);
    }
}

enum ct_err pipes_listen(struct pipes *p, const struct addr *at, uint32_t alloc,
                         struct turn_acceptor **out)
{
    struct addr bound = *at;
    int fd;
    int err = sock_open_acceptor(&bound, SOCK_FIRST, &fd);

    if (err)
        return err == EADDRINUSE ? CT_EINUSE : CT_ESYS;
    sock_be_patient(fd);
    struct turn_acceptor *a = calloc(1, sizeof *a);
    if (!a || uv_poll_init(p->loop, &a->poll, fd) != 0) {
        free(a);
        close(fd);
        return CT_ESYS;
    }
    a->p = p;
    a->at = *at;
    a->alloc = alloc;
    a->fd = fd;
    if (p->spare_fd < 0)
        take_spare(p);
    uv_poll_start(&a->poll, UV_READABLE, on_acceptable);
    *out = a;
    return CT_OK;
}

static void acceptor_closed(uv_handle_t *poll)
{
    free(OWNER_OF(poll, struct turn_acceptor, poll));
}

void pipes_unlisten(struct pipes *p, struct turn_acceptor *acceptor)
{
    (void)p;
    uv_close((uv_handle_t *)&acceptor->poll, acceptor_closed);
    close(acceptor->fd);
}

/* ---- peers that are connected to ---- */

static void on_connected(uv_poll_t *poll, int status, int events)
{
    struct turn_pipe *pipe = OWNER_OF(poll, struct turn_pipe, poll);
    struct pipes *p = pipe->p;
    bool connected = sock_error(pipe->fd) == 0;

    (void)status; /* the socket knows better */
    (void)events;
    uv_poll_stop(&pipe->poll);
    if (!connected)
        pipe_end(pipe);
    turn_server_connected(p->server, pipe->tcp, connected, now_of(p->loop));
}

static bool is_exhaustion(int err)
{
    return err == EMFILE || err == ENFILE || err == ENOMEM || err == ENOBUFS;
}

enum ct_err pipes_connect(struct pipes *p, struct turn_acceptor *from, const struct addr *to,
                          uint32_t tcp, struct turn_pipe **out)
{
    int fd;
    int err = sock_connect(&from->at, to, &fd);

    if (err)
        return is_exhaustion(err) ? CT_ENOSPACE : CT_ESYS;
    sock_be_patient(fd);
    struct turn_pipe *pipe = make(p, fd);
    if (!pipe) {
        close(fd);
        return CT_ENOSPACE;
    }
    pipe->tcp = tcp;
    uv_poll_start(&pipe->poll, UV_WRITABLE, on_connected);
    *out = pipe;
    return CT_OK;
}

/* ---- time and life ---- */

void pipes_expire(struct pipes *p)
{
    uint64_t now = uv_now(p->loop);

    for (struct deadline *d; (d = deadline_due(&p->wheel, now));) {
        struct turn_pipe *pipe = OWNER_OF(d, struct turn_pipe, deadline);
        if (pipe->moved_ms + PIPE_HALF_MS > now)
            deadline_set(&p->wheel, d, pipe->moved_ms + PIPE_HALF_MS);
        else
            pump_cut(pipe);
    }
}

uint64_t pipes_deadline(const struct pipes *p)
{
    return deadline_next(&p->wheel);
}

struct pipes *pipes_new(uv_loop_t *loop)
{
    struct pipes *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->loop = loop;
    p->spare_fd = -1;
    p->input = malloc(PIPE_READ_MAX);
    pool_init(&p->buffers, PIPE_QUEUE_SIZE, PIPE_BUFFERS);
    deadline_init(&p->wheel, uv_now(loop));
    if (!p->input) {
        pipes_free(p);
        return NULL;
    }
    return p;
}

void pipes_start(struct pipes *p, struct turn_server *server)
{
    p->server = server;
    p->counters = turn_server_counters(server);
}

void pipes_close(struct pipes *p)
{
    if (p->spare_fd >= 0)
        close(p->spare_fd);
    p->spare_fd = -1;
}

void pipes_free(struct pipes *p)
{
    if (!p)
        return;
    pool_free(&p->buffers);
    free(p->input);
    free(p);
}
