/* The keys of authorization servers (RFC 7635) as docs/control.md has them. */
#ifndef CT_RELAY_OAUTH_KEYS_H
#define CT_RELAY_OAUTH_KEYS_H

#include "core/turn_config.h"
#include "relay/term.h"

/*
 * Reads the next term, a list of #{kid, key}, each also with not_before and not_after. False when
 * it is something else or longer than TURN_TOKEN_KEYS_MAX; the rest is turn_config_check()'s.
 */
bool oauth_keys_read(struct term_in *in, struct turn_config *config);

#endif
