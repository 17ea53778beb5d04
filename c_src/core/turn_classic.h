/*
 * Messages without the magic cookie: those of RFC 3489, "classic STUN", whose transaction id fills
 * the cookie's place too.
 */
#ifndef CT_CORE_TURN_CLASSIC_H
#define CT_CORE_TURN_CLASSIC_H

#include "core/turn_state.h"

/*
 * Over UDP, where the configuration has classic_stun, a Binding request is answered (RFC 5389
 * §12.2); over DTLS every request is, with 500 (RFC 8489 §11). False, and nothing sent, for
 * everything else: TURN has no such mode (RFC 8656 §5).
 */
bool turn_classic(struct turn_server *s, const struct turn_tuple *tuple,
                  const struct turn_packet *packet, struct turn_now now);

#endif
