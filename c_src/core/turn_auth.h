/*
 * The long-term credential mechanism as a TURN server checks it (RFC 8489 §9.2.4) for time-limited
 * credentials (draft-uberti-rtcweb-turn-rest), and the stateless nonce.
 */
#ifndef CT_CORE_TURN_AUTH_H
#define CT_CORE_TURN_AUTH_H

#include "core/turn_state.h"

enum {
    TURN_NONCE_LEN = 9 + 4 + 8 + 24
};

/*
 * Fills r->auth and returns true when the request's credentials hold. Otherwise it has been
 * answered (400, 401 or 438, by the RFC's order of checks) or, when the source has been refused
 * too often, dropped.
 */
bool turn_auth_check(struct turn_server *s, struct turn_request *r);

/*
 * A nonce for this client: "obMatJos2", four characters of feature bits (RFC 8489 §9.2), the
 * second it was made, and an HMAC over all that and the client's transport address.
 */
void turn_nonce_make(struct turn_server *s, const struct turn_tuple *tuple, struct turn_now now,
                     char out[TURN_NONCE_LEN]);

/* Made by us for this client, with these feature bits, no longer ago than the configured lifetime.
 */
bool turn_nonce_fresh(struct turn_server *s, const struct turn_tuple *tuple, struct span nonce,
                      struct turn_now now);

#endif
