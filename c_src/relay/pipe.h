/*
 * A worker's TCP connections with peers (RFC 6062): listeners on relayed transport addresses, what
 * is accepted and connected there, and the way between a peer and a client's data connection. All
 * functions belong to the loop's thread.
 *
 * What one end sends and the other does not take is kept in one buffer, and until that is empty no
 * more is read from where it came: flow control goes from end to end (§3). Before a connection is
 * joined nothing is read of it; what its peer sends waits in the kernel, as much as the window
 * lets.
 */
#ifndef CT_RELAY_PIPE_H
#define CT_RELAY_PIPE_H

#include "core/turn_server.h"

#include <uv.h>

struct conn;
struct pipes;

/* NULL when memory is short. The loop must outlive it. */
struct pipes *pipes_new(uv_loop_t *loop);

/* Whom to tell; before anything else. */
void pipes_start(struct pipes *p, struct turn_server *server);

/* The effects of turn_io; `client` is the connection of the tuple, which streams_join() gives. */
enum ct_err pipes_listen(struct pipes *p, const struct addr *at, uint32_t alloc,
                         struct turn_acceptor **out);
void pipes_unlisten(struct pipes *p, struct turn_acceptor *acceptor);
enum ct_err pipes_connect(struct pipes *p, struct turn_acceptor *from, const struct addr *to,
                          uint32_t tcp, struct turn_pipe **out);
void pipes_join(struct pipes *p, struct turn_pipe *pipe, struct conn *client);
void pipes_close_one(struct pipes *p, struct turn_pipe *pipe);

/* Closes what one end has left and nothing has moved in for a minute; when to be called next. */
void pipes_expire(struct pipes *p);
uint64_t pipes_deadline(const struct pipes *p);

/* The engine must be gone, and with it all acceptors and pipes. pipes_free() when the loop has run
 * out. */
void pipes_close(struct pipes *p);
void pipes_free(struct pipes *p);

/* ---- what a joined client's connection tells its pipe (conn.c) ---- */

/* It has sent this. */
void pipe_from_client(struct turn_pipe *pipe, struct span bytes);
/* It will send no more. */
void pipe_client_ended(struct turn_pipe *pipe);
/* It takes bytes again, after conn_write_raw() took fewer than it was given. */
void pipe_client_writable(struct turn_pipe *pipe);
/* It is closed. */
void pipe_client_gone(struct turn_pipe *pipe);

#endif
