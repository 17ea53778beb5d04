/*
 * A worker's UDP sockets: its listeners, and the relayed transport addresses of its engine.
 *
 * Two implementations, of which exactly one is linked: udp_mmsg.c (Linux: batches of datagrams per
 * system call) and udp_uv.c (libuv's own UDP, anywhere). All functions belong to the loop's thread.
 */
#ifndef CT_RELAY_UDP_H
#define CT_RELAY_UDP_H

#include "core/turn_server.h"

#include <uv.h>

enum {
    UDP_LISTENERS_MAX = 16,
    UDP_SOCKETS_MAX = UDP_LISTENERS_MAX + 3 /* with those of RFC 5780 */
};

struct udp;

/* A datagram where it was received: that memory lasts until what is relayed has been sent. */
struct udp_datagram {
    uint8_t *data;
    size_t len;
};

/*
 * Who takes the datagrams of a listener, instead of the engine, and may overwrite them; embedded in
 * its owner.
 */
struct udp_input {
    void (*take)(struct udp_input *input, const struct turn_tuple *tuple,
                 const struct udp_datagram *datagram, struct turn_now now);
};

/* "mmsg" or "uv". */
const char *udp_backend(void);

/* NULL when memory is short. The loop must outlive it. */
struct udp *udp_new(uv_loop_t *loop);

/* Before any socket: what is relayed keeps its DSCP and ECN, where the system tells them. */
void udp_keep_dscp(struct udp *u);

/*
 * DSCP and ECN that this part of the datagram being handled came with; 0 of all other memory, where
 * they are not kept, and where the system does not tell them.
 */
uint8_t udp_tos(const struct udp *u, struct span part);
/* The next thing that the engine handles is this, which came to another worker with that mark. */
void udp_handed(struct udp *u, struct span data, uint8_t tos);

/*
 * Adds a listening socket, bound to `at` (sock_open_listener), which it then owns, also when it
 * fails; its link number is the count of those before it. Its datagrams go to `input`, or to the
 * engine when that is NULL. 0 or a libuv error.
 */
int udp_listen(struct udp *u, int fd, const struct addr *at, struct udp_input *input);

/* How many listening sockets there are: the link number of the next one. */
uint32_t udp_links(const struct udp *u);

/* Starts receiving; datagrams go to the engine. 0 or a libuv error. */
int udp_start(struct udp *u, struct turn_server *server);

/* The effects of turn_io. */
uint8_t *udp_reserve(struct udp *u, size_t size);
void udp_to_client(struct udp *u, const struct turn_tuple *to, const struct turn_out *out);
void udp_to_peer(struct udp *u, struct turn_relay *from, const struct addr *to, struct span data,
                 unsigned flags);
enum ct_err udp_relay_open(struct udp *u, const struct addr *at, uint32_t alloc,
                           struct turn_relay **out);
void udp_relay_close(struct udp *u, struct turn_relay *relay);

/* The same as udp_to_client() for bytes that do not last; at most 64 KiB. */
void udp_send_copy(struct udp *u, const struct turn_tuple *to, struct span data);

/*
 * Sends what the effects queued: to be called before memory is used again that they were given, but
 * for what the datagrams came in.
 */
void udp_send(struct udp *u);

/* Sends what the effects queued. To be called before the loop waits. */
void udp_flush(struct udp *u);

/* Closes the listeners; the engine must be gone. udp_free() when the loop has run out. */
void udp_close(struct udp *u);
void udp_free(struct udp *u);

#endif
