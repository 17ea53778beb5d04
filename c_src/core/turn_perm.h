/* Permissions: CreatePermission (RFC 8656 §9, §10.2) and who may be a peer at all. */
#ifndef CT_CORE_TURN_PERM_H
#define CT_CORE_TURN_PERM_H

#include "core/turn_state.h"

/* The live permission for the peer's IP; SLAB_NONE when there is none. */
uint32_t turn_perm_find(const struct turn_server *s, const struct turn_alloc *a,
                        const struct addr *peer, struct turn_now now);

/* Whether there is room for one more (expired ones are swept first). */
bool turn_perm_room(struct turn_server *s, struct turn_alloc *a, size_t more, struct turn_now now);

/* Installs or refreshes; SLAB_NONE when there is no room. */
uint32_t turn_perm_install(struct turn_server *s, struct turn_alloc *a, const struct addr *peer,
                           struct turn_now now);

void turn_perm_drop_all(struct turn_server *s, struct turn_alloc *a);
/* Those to peers of one family, with their channels. */
void turn_perm_drop_family(struct turn_server *s, struct turn_alloc *a, uint8_t family);

/* Ends permissions, the channels that hang on them and TCP connections that the policy now refuses.
 */
void turn_perm_enforce(struct turn_server *s, struct turn_alloc *a);

/*
 * Whether this peer may be reached from the allocation: 0, 443 for a family that it does not relay,
 * 403 by policy, or in switch mode and with admission by room because it is none of our own IPs. A
 * peer that is refused is told as an event.
 */
enum stun_error turn_peer_check(struct turn_server *s, const struct turn_request *r,
                                const struct addr *peer);
/* The same, and of our own IPs only ports that an allocation is bound to (403). */
enum stun_error turn_peer_port_check(struct turn_server *s, const struct turn_request *r,
                                     const struct addr *peer);

/* The same for TCP: only ports that TCP is relayed on, and not the relayed address itself. */
enum stun_error turn_peer_tcp_check(struct turn_server *s, const struct turn_request *r,
                                    const struct addr *peer);

/* Whether this is one of our relay IPs, by what clients are told or by where we bind. */
bool turn_own_ip(const struct turn_server *s, const struct addr *peer);

/* The port of ours that the peer is, and the allocation bound to it; false when there is none. */
bool turn_own_bound(const struct turn_server *s, const struct addr *peer, struct turn_port *port,
                    struct turn_owner *owner);

/* Handler of an authenticated request. */
void turn_create_permission(struct turn_server *s, struct turn_request *r);

#endif
