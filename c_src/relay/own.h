/* The relay's own IPs, which are no peers by default (RFC 8656 §21.1.4). */
#ifndef CT_RELAY_OWN_H
#define CT_RELAY_OWN_H

#include "relay/config.h"

/*
 * Notes in config->turn.own where the relay listens and what it relays by. Of a wildcard listener
 * that is every address of this host that there is now; TURN_OWN_MAX at most in all.
 */
void own_note(struct relay_config *config);

#endif
