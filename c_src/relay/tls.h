/*
 * TLS 1.2 and 1.3 (RFC 8446) as a server, without sockets: ciphertext goes in and comes out as
 * bytes.
 *
 * A context is a certificate with its key, shared by the sessions of all threads; a session belongs
 * to one thread. What a session has to send it appends to a queue of its owner's.
 */
#ifndef CT_RELAY_TLS_H
#define CT_RELAY_TLS_H

#include "relay/queue.h"

enum {
    TLS_WHY_MAX = 160,
    /* The first byte of a ClientHello's record: no STUN message and no ChannelData starts so. */
    TLS_FIRST_BYTE = 0x16,
    /* What n bytes of data grow by at most when they are sent: a header, IV and tag per record. */
    TLS_RECORD_MAX = 16384,
    TLS_RECORD_OVERHEAD = 64,
};

enum tls_result {
    TLS_DONE,   /* the handshake is over; or there is data */
    TLS_MORE,   /* more ciphertext is needed */
    TLS_CLOSED, /* the other end has said so */
    TLS_FAILED, /* the session is of no more use; an alert may be in the queue */
};

/* Loads what OpenSSL needs files for; once, before files are out of reach. */
void tls_init(void);

struct tls_context;

/*
 * From PEM text: the certificate and the ones that lead to a root, and its key, not encrypted. NULL
 * when they are of no use; `why` is then a sentence that starts with `cert` or `key`.
 */
struct tls_context *tls_context_new(struct span cert, struct span key, char why[TLS_WHY_MAX]);

/* Sessions that use it keep it alive. NULL is fine. */
void tls_context_free(struct tls_context *c);

/* OpenSSL's object of a new DTLS session, for dtls.c. NULL when memory is short. */
struct ssl_st *tls_context_datagram(struct tls_context *c);

struct tls;

/*
 * A session that waits for a ClientHello. `out`, whose buffers come from `pool`, must outlive it.
 * NULL when memory is short.
 */
struct tls *tls_new(struct tls_context *c, struct queue *out, struct pool *pool);
/* Another queue and pool from now on: the session goes on in another thread. */
void tls_move(struct tls *t, struct queue *out, struct pool *pool);
/* NULL is fine. */
void tls_free(struct tls *t);

/* Ciphertext for the next calls, which read all of it; it must stay until they have. */
void tls_feed(struct tls *t, struct span ciphertext);

/* Goes on with the handshake. TLS_DONE when it is over. */
enum tls_result tls_handshake(struct tls *t);

/* Decrypts some data: TLS_DONE and *len bytes, at most cap. */
enum tls_result tls_read(struct tls *t, uint8_t *data, size_t cap, size_t *len);

/* Encrypts all of the data; the queue must have room for it and its overhead. */
bool tls_write(struct tls *t, struct span data);

/* Tells the other end that nothing more comes. */
void tls_close(struct tls *t);

#endif
