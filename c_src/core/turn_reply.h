/* Responses: written into memory of the worker's, finished the same way everywhere. */
#ifndef CT_CORE_TURN_REPLY_H
#define CT_CORE_TURN_REPLY_H

#include "core/turn_state.h"

/* What a request may have that others may not: comprehension-required attributes. */
enum {
    TURN_SERVES_DISCOVERY = 1, /* those of RFC 5780 */
    TURN_SERVES_TOKENS = 2,    /* ACCESS-TOKEN, RFC 7635 */
    TURN_SERVES_NO_CHANGE = 4, /* CHANGE-REQUEST that asks for no change, RFC 3489 */
};

/* Starts a response to the request, STUN_SUCCESS or STUN_ERROR. */
struct wbuf turn_reply_begin(struct turn_server *s, const struct turn_request *r,
                             enum stun_class cls);

/*
 * Ends it with SOFTWARE, TRANSACTION_TRANSMIT_COUNTER when the request had one, integrity when
 * r->auth.protect, FINGERPRINT when the request had one.
 */
void turn_reply_send(struct turn_server *s, const struct turn_request *r, struct wbuf *w);

/* Keeps of an authenticated request what its answer takes, until it can be given. */
void turn_reply_defer(struct turn_deferred *d, const struct turn_request *r);

/* A deferred request when its time has come. It refers to itself: not to be copied. */
struct turn_resumed {
    struct turn_request request; /* for the functions of this file */
    struct stun_msg msg;
    uint8_t bytes[STUN_HEADER_SIZE + 16]; /* TRANSACTION_TRANSMIT_COUNTER and FINGERPRINT */
};

/*
 * `to` must outlive it. It has the key: turn_reply_end(), which wipes it, and the key in `d` too,
 * when the answer is sent.
 */
void turn_reply_resume(struct turn_resumed *r, const struct turn_deferred *d,
                       const struct turn_tuple *to);
void turn_reply_end(struct turn_resumed *r, struct turn_deferred *d);

/* A success response without attributes of its own. */
void turn_reply_ok(struct turn_server *s, const struct turn_request *r);

/* An error response without attributes of its own, and its count. */
void turn_reply_error(struct turn_server *s, const struct turn_request *r, enum stun_error code);

/* 420 with every comprehension-required attribute that we do not serve (RFC 8489 §6.3.1). */
void turn_reply_unknown(struct turn_server *s, const struct turn_request *r, unsigned serves);

/* How many comprehension-required attributes the message has that we do not serve. */
size_t turn_unserved(const struct stun_msg *m, unsigned serves);

#endif
