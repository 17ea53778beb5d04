/* From a configuration to a running relay, step by step; the first step that fails says why. */
#include "relay/daemon.h"

#include "crypto/crypto.h"
#include "relay/pairs.h"
#include "relay/sandbox.h"
#include "relay/sock.h"
#include "relay/udp.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* "eaddrinuse" for EADDRINUSE. */
static void put_errno(struct term_out *out, int err)
{
    char name[32];

    uv_err_name_r(uv_translate_sys_error(err), name, sizeof name);
    for (char *p = name; *p; p++)
        *p = (char)tolower((unsigned char)*p);
    term_put_atom(out, name);
}

static void fail_errno(struct daemon *d, const char *reason, const char *subject, int err)
{
    struct term_out detail;

    term_out_init(&detail);
    term_put_tuple(&detail, 2);
    term_put_text(&detail, subject);
    put_errno(&detail, err);
    daemon_fail(d, reason, &detail);
}

static bool fail_system(struct daemon *d, const char *text)
{
    daemon_fail_text(d, "system", text);
    return false;
}

enum {
    LISTENER_TEXT_MAX = ADDR_TEXT_MAX + 8
};

static void listener_text(const struct relay_listener *l, char out[LISTENER_TEXT_MAX])
{
    char text[ADDR_TEXT_MAX];

    addr_format(&l->at, text);
    snprintf(out, LISTENER_TEXT_MAX, "%s:%s", config_scheme(l->transport), text);
}

/* ---- steps: each returns false when it has failed the daemon ---- */

static bool load_tls(struct daemon *d)
{
    (void)d;
    tls_init();
    return true;
}

static bool limit_workers(struct daemon *d)
{
    if (d->config->workers == 1 || sock_can_share())
        return true;
    daemon_log(d, "warning",
               "workers: 1, as this system does not spread a port's datagrams over sockets");
    d->config->workers = 1;
    return true;
}

static bool is_datagram(enum turn_transport transport)
{
    return transport == TURN_UDP || transport == TURN_DTLS;
}

static bool has_streams(const struct relay_config *c)
{
    for (uint32_t i = 0; i < c->listen_count; i++)
        if (!is_datagram(c->listen[i].transport))
            return true;
    return false;
}

static void lower(struct daemon *d, const char *key, uint32_t *limit, rlim_t room, rlim_t files)
{
    char text[160];

    if (room >= *limit)
        return;
    snprintf(text, sizeof text,
             "%s: %llu instead of %u, as RLIMIT_NOFILE allows %llu file descriptors", key,
             (unsigned long long)room, *limit, (unsigned long long)files);
    *limit = (uint32_t)room;
    daemon_log(d, "warning", text);
}

/*
 * Each allocation takes a descriptor, but for switch mode; a reserved port, a moment of a second
 * one. A client that comes over TCP takes another, so that connections get at most half of what
 * there is, and TCP connections with peers a quarter of the rest.
 */
static bool limit_descriptors(struct daemon *d)
{
    struct relay_config *c = d->config;
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY)
        return true;
    /* the channel, stdio, the main loop; then a loop, a spare and the listeners of each worker */
    uint32_t alternates =
        c->alternate.family == ADDR_NONE ? 0 : UDP_SOCKETS_MAX - UDP_LISTENERS_MAX;
    rlim_t ours = 32 + c->workers * (9 + c->listen_count + alternates);
    rlim_t room = files.rlim_cur > ours ? files.rlim_cur - ours : 0;
    if (room < 2)
        return fail_system(d, "RLIMIT_NOFILE allows too few file descriptors for one allocation");
    if (has_streams(c)) {
        lower(d, "max_connections", &c->stream.max_connections, room / 2, files.rlim_cur);
        room -= c->stream.max_connections;
        if (c->turn.tcp_allocations) {
            lower(d, "max_tcp_peers", &c->turn.max_tcp_peers, room / 4 ? room / 4 : 1,
                  files.rlim_cur);
            room -= room > c->turn.max_tcp_peers ? c->turn.max_tcp_peers : 0;
        }
    }
    if (!c->turn.switched)
        lower(d, "max_allocations", &c->turn.max_allocations, room, files.rlim_cur);
    return true;
}

static bool make_nonce_key(struct daemon *d)
{
    struct turn_config *c = &d->config->turn;

    return crypto_random(c->nonce_key, sizeof c->nonce_key) == CT_OK ||
           fail_system(d, "the system gives no random numbers");
}

static bool try_relay_ips(struct daemon *d)
{
    const struct turn_config *c = &d->config->turn;
    char text[ADDR_TEXT_MAX];

    for (unsigned i = 0; !c->switched && i < c->relay_count; i++) {
        int err = sock_try_ip(&c->relays[i].bind);
        if (!err)
            continue;
        addr_format_ip(&c->relays[i].bind, text);
        fail_errno(d, "relay_ip", text, err);
        return false;
    }
    return true;
}

static bool build_workers(struct daemon *d)
{
    d->commons = turn_commons_new(&d->config->turn);
    if (!d->commons)
        return fail_system(d, "no memory for the tables of relayed ports");
    d->gate = gate_new(d->config->stream.max_connections);
    if (!d->gate)
        return fail_system(d, "no memory for the table of connections");
    credit_grant(&d->packets, PACKETS_MAX);
    d->pairs = pairs_new(d->config->workers);
    if (!d->pairs)
        return fail_system(d, "no memory for the ways between workers");
    for (unsigned i = 0; i < d->config->workers; i++) {
        const struct worker_setup setup = {.index = i,
                                           .workers = d->config->workers,
                                           .config = &d->config->turn,
                                           .streams = &d->config->stream,
                                           .gate = d->gate,
                                           .pairs = d->pairs,
                                           .commons = d->commons,
                                           .commons_lock = &d->commons_lock,
                                           .credit = &d->credit,
                                           .packets = &d->packets,
                                           .home = &d->home};
        d->workers[i] = worker_new(&setup);
        if (!d->workers[i])
            return fail_system(d, "a worker lacks memory, file descriptors or OpenSSL's MD5");
        d->worker_count++;
    }
    return true;
}

/* One socket per worker for this address; config->listen gets the real port. */
static bool bind_listener(struct daemon *d, struct relay_listener *l)
{
    char text[LISTENER_TEXT_MAX];
    int fd, err = 0;

    listener_text(l, text);
    for (unsigned i = 0; i < d->worker_count && !err; i++) {
        enum sock_place place = d->worker_count == 1 ? SOCK_ALONE
                                : i == 0             ? SOCK_FIRST
                                                     : SOCK_FURTHER;
        err = is_datagram(l->transport) ? sock_open_listener(&l->at, place, &fd)
                                        : sock_open_acceptor(&l->at, place, &fd);
        if (!err)
            err = -worker_listen(d->workers[i], fd, &l->at, l->transport);
    }
    if (err)
        fail_errno(d, "listen", text, err);
    return !err;
}

static bool bind_listeners(struct daemon *d)
{
    for (unsigned i = 0; i < d->config->listen_count; i++)
        if (!bind_listener(d, &d->config->listen[i]))
            return false;
    return true;
}

/* The link number of a UDP listener: DTLS has sockets of that kind too, TCP and TLS have others. */
static uint32_t link_of(const struct relay_config *c, uint32_t listener)
{
    uint32_t link = 0;

    for (uint32_t i = 0; i < listener; i++)
        link += is_datagram(c->listen[i].transport);
    return link;
}

/*
 * The other three sockets of RFC 5780, for every worker at the same link number. The one that
 * differs in both IP and port comes first, as it has the port to choose where the configuration
 * left it open.
 */
static bool bind_alternates(struct daemon *d)
{
    static const unsigned order[] = {TURN_OTHER_IP | TURN_OTHER_PORT, TURN_OTHER_IP,
                                     TURN_OTHER_PORT};
    struct turn_discovery *n = &d->config->turn.discovery;
    int first = config_discovery(d->config);

    if (d->config->alternate.family == ADDR_NONE || first < 0)
        return true;
    n->at[0] = n->at[TURN_OTHER_PORT] = d->config->listen[first].at;
    n->at[TURN_OTHER_IP] = n->at[TURN_OTHER_IP | TURN_OTHER_PORT] = d->config->alternate;
    n->at[TURN_OTHER_IP].port = n->at[0].port;
    n->link[0] = link_of(d->config, (uint32_t)first);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        struct relay_listener l = {.at = n->at[order[i]], .transport = TURN_UDP};
        n->link[order[i]] = worker_links(d->workers[0]);
        if (!bind_listener(d, &l))
            return false;
        n->at[order[i]] = l.at;
        n->at[TURN_OTHER_PORT].port = n->at[TURN_OTHER_IP | TURN_OTHER_PORT].port;
    }
    n->on = true;
    return true;
}

/* Everything is open that needs files; threads come after it, so that it holds for them too. */
static bool give_up_privileges(struct daemon *d)
{
    char summary[SANDBOX_TEXT_MAX];

    sandbox_enter(summary);
    daemon_log(d, "info", summary);
    return true;
}

static bool start_threads(struct daemon *d)
{
    for (; d->threads < d->worker_count; d->threads++)
        if (worker_start(d->workers[d->threads]) != 0)
            return fail_system(d, "a worker's thread could not be started");
    return true;
}

/* ---- ready ---- */

static void put_relays(struct term_out *out, const struct turn_config *c)
{
    char text[ADDR_TEXT_MAX];

    term_put_list(out, c->relay_count);
    for (unsigned i = 0; i < c->relay_count; i++) {
        term_put_tuple(out, 2);
        addr_format_ip(&c->relays[i].bind, text);
        term_put_text(out, text);
        addr_format_ip(&c->relays[i].external, text);
        term_put_text(out, text);
    }
    term_put_nil(out);
}

static void put_listeners(struct term_out *out, const struct relay_config *c)
{
    char text[LISTENER_TEXT_MAX];

    term_put_list(out, c->listen_count);
    for (unsigned i = 0; i < c->listen_count; i++) {
        listener_text(&c->listen[i], text);
        term_put_text(out, text);
    }
    term_put_nil(out);
}

static bool tell_ready(struct daemon *d)
{
    struct term_out frame;

    d->stage = STAGE_RUNNING;
    d->ready_ms = uv_now(&d->loop);
    control_frame_init(&frame);
    term_put_tuple(&frame, 2);
    term_put_atom(&frame, "ready");
    term_put_map(&frame, 7);
    term_put_atom(&frame, "os_pid");
    term_put_uint(&frame, (uint64_t)getpid());
    term_put_atom(&frame, "listen");
    put_listeners(&frame, d->config);
    term_put_atom(&frame, "version");
    term_put_text(&frame, CT_VERSION);
    term_put_atom(&frame, "protocol");
    term_put_uint(&frame, DAEMON_PROTOCOL);
    term_put_atom(&frame, "relays");
    put_relays(&frame, &d->config->turn);
    term_put_atom(&frame, "workers");
    term_put_uint(&frame, d->worker_count);
    term_put_atom(&frame, "udp");
    term_put_atom(&frame, udp_backend());
    control_send(&d->control, &frame);
    daemon_send_held(d);
    return true;
}

static bool (*const steps[])(struct daemon *d) = {
    load_tls,           limit_workers, limit_descriptors, make_nonce_key,
    try_relay_ips,      build_workers, bind_listeners,    bind_alternates,
    give_up_privileges, start_threads, tell_ready,
};

void daemon_start(struct daemon *d)
{
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!steps[i](d))
            return;
}
