#include "relay/stream.h"

#include "crypto/crypto.h"
#include "relay/conn.h"
#include "relay/now.h"
#include "relay/owner.h"
#include "relay/pipe.h"
#include "relay/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    ACCEPT_BURST = 32,   /* connections of one listener per turn of the loop */
    LARGE_BUFFERS = 1024 /* at once: 72 MiB, for clients that do not read and long frames */
};

/* ---- accepting ---- */

static void refuse(struct streams *s, int fd)
{
    close(fd);
    turn_count(s->counters, TURN_N_CONN_REFUSED, 1);
}

static bool is_proxy(const struct stream_config *config, const struct addr *client)
{
    for (uint32_t i = 0; i < config->proxy_count; i++)
        if (addr_prefix_has(&config->proxies[i], client))
            return true;
    return false;
}

static void admit(struct conn_listener *l, int fd, const struct addr *client)
{
    struct streams *s = l->s;
    const struct addr nobody = {.family = ADDR_NONE};
    const struct addr *source = is_proxy(s->config, client) ? &nobody : client;
    struct turn_tuple tuple = {
        .client = *client, .server = l->at, .transport = (uint8_t)l->transport};

    if (!gate_enter(s->gate, source, s->config->source_connections)) {
        refuse(s, fd);
        return;
    }
    if (sock_local(fd, &tuple.server) != 0 || !conn_open(s, fd, &tuple, source)) {
        gate_leave(s->gate, source);
        refuse(s, fd);
        return;
    }
    turn_count(s->counters, TURN_N_CONNECTIONS, 1);
}

/*
 * Without a descriptor for it a connection cannot even be refused, and would be reported again and
 * again: a spare one is given up for that moment.
 */
static void refuse_with_spare(struct conn_listener *l)
{
    struct addr client;
    int fd;

    close(l->s->spare_fd);
    if (sock_accept(l->fd, &client, &fd) == 0)
        refuse(l->s, fd);
    l->s->spare_fd = dup(l->fd);
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct conn_listener *l = OWNER_OF(poll, struct conn_listener, poll);
    struct addr client;
    int fd, err = 0;

    (void)events;
    if (status < 0) {
        sock_clear_error(l->fd);
        uv_poll_start(poll, UV_READABLE, on_acceptable);
        return;
    }
    for (int i = 0; i < ACCEPT_BURST; i++) {
        err = sock_accept(l->fd, &client, &fd);
        if (err == EMFILE || err == ENFILE)
            refuse_with_spare(l);
        if (err)
            return;
        admit(l, fd, &client);
    }
}

/* ---- what the worker asks ---- */

void streams_to_client(struct streams *s, const struct turn_tuple *to, const struct turn_out *frame)
{
    struct conn *c = slab_at(&s->conns, to->link);

    if (c->open && memcmp(&c->tuple, to, sizeof *to) == 0)
        conn_send(c, frame);
    else
        turn_count(s->counters, TURN_N_DROP_QUEUE, 1);
}

struct conn *streams_join(struct streams *s, const struct turn_tuple *client,
                          struct turn_pipe *pipe)
{
    struct conn *c = slab_at(&s->conns, client->link);

    c->pipe = pipe;
    sock_be_patient(c->fd);
    return c;
}

bool streams_hand_over(struct streams *s, unsigned worker, const struct turn_tuple *client)
{
    struct conn *c = slab_at(&s->conns, client->link);

    if (!s->exit || c->handed || c->doomed)
        return false;
    c->moving = true;
    c->move_to = worker;
    return true;
}

void streams_adopt(struct streams *s, struct parcel *parcel)
{
    if (s->server && conn_adopt(s, parcel))
        return;
    if (s->server)
        turn_count(s->counters, TURN_N_CONN_REFUSED, 1);
    parcel_free(parcel);
}

void streams_flush(struct streams *s)
{
    for (struct conn *c; (c = s->dirty);) {
        conn_flush(c);
        /* only now: what flushing finds out must not put it on the list again */
        s->dirty = c->next_dirty;
        c->dirty = false;
        if (c->doomed)
            conn_close(c);
        else if (c->parcel)
            conn_leave(c);
        else if (c->pipe && !c->blocked)
            pipe_client_writable(c->pipe);
    }
}

/* Later, when it has an allocation or something to say; else now. */
static void look_at(struct conn *c, struct turn_now now)
{
    if (c->pipe || turn_server_holds(c->s->server, &c->tuple, now))
        c->heard_ms = now.ms;
    if (conn_deadline(c) <= now.ms)
        conn_doom(c, TURN_N_CONN_IDLE);
    else
        deadline_set(&c->s->wheel, &c->deadline, conn_deadline(c));
}

void streams_expire(struct streams *s)
{
    struct turn_now now = now_of(s->loop);

    for (struct deadline *d; (d = deadline_due(&s->wheel, now.ms));)
        look_at(OWNER_OF(d, struct conn, deadline), now);
}

uint64_t streams_deadline(const struct streams *s)
{
    return deadline_next(&s->wheel);
}

void streams_configure(struct streams *s, const struct stream_config *config)
{
    s->config = config;
}

/* ---- life ---- */

static void listener_closed(uv_handle_t *poll)
{
    free(OWNER_OF(poll, struct conn_listener, poll));
}

int streams_listen(struct streams *s, int fd, const struct addr *at, enum turn_transport transport)
{
    struct conn_listener *l = s->listener_count < CONN_LISTENERS_MAX ? calloc(1, sizeof *l) : NULL;
    int err = l ? uv_poll_init(s->loop, &l->poll, fd) : UV_ENOMEM;

    if (err) {
        free(l);
        close(fd);
        return err;
    }
    l->s = s;
    l->at = *at;
    l->transport = transport;
    l->fd = fd;
    s->listeners[s->listener_count++] = l;
    if (s->spare_fd < 0)
        s->spare_fd = dup(fd);
    return 0;
}

int streams_start(struct streams *s, struct turn_server *server)
{
    int err = 0;

    s->server = server;
    s->counters = turn_server_counters(server);
    for (uint32_t i = 0; i < s->listener_count && !err; i++)
        err = uv_poll_start(&s->listeners[i]->poll, UV_READABLE, on_acceptable);
    return err;
}

struct streams *streams_new(const struct streams_setup *setup)
{
    struct streams *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->loop = setup->loop;
    s->config = setup->config;
    s->gate = setup->gate;
    s->udp = setup->udp;
    s->worker = setup->worker;
    s->exit = setup->exit;
    s->spare_fd = -1;
    pool_init(&s->small, CONN_FRAME_SMALL, UINT32_MAX);
    pool_init(&s->large, CONN_QUEUE_SIZE, LARGE_BUFFERS);
    deadline_init(&s->wheel, uv_now(setup->loop));
    s->input = malloc(CONN_INPUT);
    s->cipher = malloc(CONN_READ_MAX);
    if (!slab_init(&s->conns, sizeof(struct conn), s->config->max_connections) || !s->input ||
        !s->cipher || crypto_random(&s->handshakes.seed, sizeof s->handshakes.seed) != CT_OK) {
        streams_free(s);
        return NULL;
    }
    return s;
}

static void close_listeners(struct streams *s)
{
    for (uint32_t i = 0; i < s->listener_count; i++) {
        uv_close((uv_handle_t *)&s->listeners[i]->poll, listener_closed);
        close(s->listeners[i]->fd);
    }
    s->listener_count = 0;
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    s->spare_fd = -1;
}

void streams_close(struct streams *s)
{
    s->server = NULL;
    s->dirty = NULL;
    for (uint32_t i = 0; i < s->conns.fresh; i++) {
        struct conn *c = slab_at(&s->conns, i);
        if (c->open)
            conn_close(c);
    }
    close_listeners(s);
}

void streams_free(struct streams *s)
{
    if (!s)
        return;
    slab_free(&s->conns);
    pool_free(&s->small);
    pool_free(&s->large);
    free(s->input);
    free(s->cipher);
    free(s);
}
