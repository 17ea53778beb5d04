/*
 * The relay's engine without a relay: its effects are counted and forgotten, its clock stands still
 * unless it is moved. And clients whose requests are ready before the time is taken.
 */
#ifndef BENCH_WORLD_H
#define BENCH_WORLD_H

#include "message.h"

#include "core/turn_commons.h"
#include "core/turn_server.h"

struct world;

/* A client, or a user: with an allocation if world_allocate() was the last. */
struct caller {
    struct turn_tuple tuple;
    struct credentials credentials;
    uint8_t allocate[384], release[384]; /* signed requests */
    size_t allocate_len, release_len;
    uint32_t transactions; /* of Allocate, so far */
    struct sockaddr_in relayed;
    uint32_t alloc; /* the engine's number of the allocation */
};

/* An engine with room for that many allocations. Dies when memory is short. */
struct world *world_new(uint32_t allocations);
void world_free(struct world *w);

/* Gets caller number i a challenge and signs its requests. Dies of an unexpected answer. */
void world_meet(struct world *w, struct caller *c, uint32_t i);
/* Signs another Allocate: a copy of one that was released is refused (RFC 8489 §6.3.1). */
void world_come_again(struct caller *c);

/* A whole Allocate, whose answer is read; and a channel to a peer. Each dies when refused. */
void world_allocate(struct world *w, struct caller *c);
void world_bind(struct world *w, struct caller *c, uint16_t channel,
                const struct sockaddr_in *peer);

/* What costs are measured of: bytes in, effects out, nothing else. */
void world_send(struct world *w, const struct turn_tuple *from, const uint8_t *bytes, size_t len);

/* The engine and its time, to be called without a detour, as a worker calls it. */
struct turn_server *world_server(const struct world *w);
struct turn_now world_now(const struct world *w);

/* The peer that all callers may have, as the engine and as a request names it. */
struct addr world_peer(void);
struct sockaddr_in world_peer_name(void);

void world_pass(struct world *w, uint64_t ms);

/* Effects since the beginning. */
uint64_t world_to_clients(const struct world *w);
uint64_t world_to_peers(const struct world *w);
uint64_t world_counter(const struct world *w, enum turn_counter which);

#endif
