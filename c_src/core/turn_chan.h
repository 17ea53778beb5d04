/* Channel bindings: ChannelBind (RFC 8656 §12, §12.2). */
#ifndef CT_CORE_TURN_CHAN_H
#define CT_CORE_TURN_CHAN_H

#include "core/likely.h"
#include "core/turn_state.h"

/* Among all channels, live or not; NULL when there is none. */
struct turn_chan *turn_chan_other_number(const struct turn_server *s, const struct turn_alloc *a,
                                         uint16_t number);
struct turn_chan *turn_chan_other_peer(const struct turn_server *s, const struct turn_alloc *a,
                                       const struct addr *peer);

/*
 * The live binding of a channel number, or of a peer's IP and port; NULL when there is none. Most
 * allocations have no channel but their own one, which is looked at first.
 */
static inline struct turn_chan *turn_chan_by_number(const struct turn_server *s,
                                                    struct turn_alloc *a, uint16_t number,
                                                    struct turn_now now)
{
    struct turn_chan *c =
        likely(a->chan.number == number) ? &a->chan : turn_chan_other_number(s, a, number);
    return likely(c && c->expires_ms > now.ms) ? c : NULL;
}

static inline struct turn_chan *turn_chan_by_peer(const struct turn_server *s, struct turn_alloc *a,
                                                  const struct addr *peer, struct turn_now now)
{
    struct turn_chan *c =
        likely(addr_eq(&a->chan.peer, peer)) ? &a->chan : turn_chan_other_peer(s, a, peer);
    return likely(c && c->expires_ms > now.ms) ? c : NULL;
}

void turn_chan_drop_all(struct turn_server *s, struct turn_alloc *a);
/* Drops the channels that hang on a permission. */
void turn_chan_drop_of(struct turn_server *s, struct turn_alloc *a, uint32_t perm);
/* Drops those whose quarantine is over. */
void turn_chan_sweep(struct turn_server *s, struct turn_alloc *a, struct turn_now now);
/* Whether a channel hangs on the permission. */
bool turn_chan_uses(const struct turn_server *s, const struct turn_alloc *a, uint32_t perm);

/* Handler of an authenticated request. */
void turn_channel_bind(struct turn_server *s, struct turn_request *r);

#endif
