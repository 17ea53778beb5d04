/* ALTERNATE-SERVER for Allocate requests (RFC 8489 §10, RFC 8656 §7.2). */
#ifndef CT_CORE_TURN_REDIRECT_H
#define CT_CORE_TURN_REDIRECT_H

#include "core/turn_state.h"

/*
 * Answers an authenticated request with 300 and where to go: first an address of the client's own
 * family, then one of the other. False, and nothing sent, when there is none of the client's.
 */
bool turn_redirect(struct turn_server *s, const struct turn_request *r);

#endif
