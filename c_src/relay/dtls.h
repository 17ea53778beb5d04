/*
 * DTLS 1.2 (RFC 6347) over a worker's UDP listeners: what comes to such a listener is decrypted
 * before the engine sees it, and what leaves is encrypted. All functions belong to the loop's
 * thread.
 *
 * Nothing is kept of a client before it has shown that it gets what is sent to its address: until
 * it comes with a cookie it is only sent that cookie (RFC 6347 §4.2.1).
 */
#ifndef CT_RELAY_DTLS_H
#define CT_RELAY_DTLS_H

#include "core/turn_server.h"
#include "crypto/crypto.h"
#include "relay/stream.h"
#include "relay/udp.h"

#include <uv.h>

struct dtls;

struct dtls_setup {
    uv_loop_t *loop;
    const struct stream_config *config; /* limits and certificate, as for connections */
    struct gate *gate;
    struct udp *udp;
    struct crypto *crypto; /* of the same thread */
    uint8_t worker;        /* turn_tuple.worker of its sessions */
};

/* What a context for DTLS has and one for TLS has not. */
struct ssl_ctx_st;
void dtls_context_init(struct ssl_ctx_st *context);

/* NULL when memory or randomness is missing. */
struct dtls *dtls_new(const struct dtls_setup *setup);

/* Where a UDP listener takes its datagrams to. */
struct udp_input *dtls_input(struct dtls *d);

void dtls_start(struct dtls *d, struct turn_server *server);

/* The effect of turn_io: encrypts and sends one message, or counts it as dropped; as for streams.
 */
void dtls_to_client(struct dtls *d, const struct turn_tuple *to, const struct turn_out *out);

/* Handshakes that wait are continued, sessions that were silent too long end; when next. */
void dtls_expire(struct dtls *d);
uint64_t dtls_deadline(const struct dtls *d);

/* A new certificate is for new sessions. */
void dtls_configure(struct dtls *d, const struct stream_config *config);

/* The engine must be gone. NULL is fine. */
void dtls_free(struct dtls *d);

#endif
