#include "core/turn_grants.h"

#include "core/map.h"
#include "core/slab.h"

#include <stdlib.h>

/* A user who is in at least one room. */
struct granted {
    uint64_t user;
    struct turn_rooms rooms;
};

struct turn_grants {
    struct slab users; /* struct granted; as many as grants, if each user is in one room */
    struct map by_user;
    uint32_t count, max;
    uint64_t time;
    bool open;
};

struct turn_grants *turn_grants_new(uint32_t max)
{
    struct turn_grants *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->max = max;
    if (slab_init(&g->users, sizeof(struct granted), max) && map_init(&g->by_user, max))
        return g;
    turn_grants_free(g);
    return NULL;
}

void turn_grants_free(struct turn_grants *g)
{
    if (!g)
        return;
    slab_free(&g->users);
    map_free(&g->by_user);
    free(g);
}

static struct granted *granted_at(const struct turn_grants *g, uint32_t number)
{
    return slab_at(&g->users, number);
}

static uint32_t find(const struct turn_grants *g, uint64_t user)
{
    struct map_iter it;
    for (uint32_t n = map_first(&g->by_user, user, &it); n != MAP_NONE;
         n = map_next(&g->by_user, &it))
        if (granted_at(g, n)->user == user)
            return n;
    return MAP_NONE;
}

/* Where a room is, or TURN_USER_ROOMS_MAX. */
static unsigned place_of(const struct turn_rooms *rooms, uint64_t room)
{
    unsigned i = 0;
    while (i < TURN_USER_ROOMS_MAX && rooms->hash[i] != room)
        i++;
    return i;
}

static uint32_t add_user(struct turn_grants *g, uint64_t user)
{
    uint32_t n = slab_take(&g->users);
    granted_at(g, n)->user = user;
    (void)map_put(&g->by_user, user, n);
    return n;
}

enum ct_err turn_grants_put(struct turn_grants *g, uint64_t user, uint64_t room, bool *fresh)
{
    uint32_t n = find(g, user);
    *fresh = false;
    if (n != MAP_NONE) {
        const struct turn_rooms *rooms = &granted_at(g, n)->rooms;
        if (place_of(rooms, room) < TURN_USER_ROOMS_MAX)
            return CT_OK;
        if (turn_rooms_count(rooms) == TURN_USER_ROOMS_MAX)
            return CT_EFORBIDDEN;
    }
    if (g->count == g->max)
        return CT_ENOSPACE;
    if (n == MAP_NONE)
        n = add_user(g, user);
    struct turn_rooms *rooms = &granted_at(g, n)->rooms;
    rooms->hash[turn_rooms_count(rooms)] = room;
    g->count++;
    *fresh = true;
    return CT_OK;
}

bool turn_grants_take(struct turn_grants *g, uint64_t user, uint64_t room, uint64_t *ended)
{
    uint32_t n = find(g, user);
    *ended = 0;
    if (n == MAP_NONE)
        return false;
    struct turn_rooms *rooms = &granted_at(g, n)->rooms;
    unsigned at = place_of(rooms, room), last = turn_rooms_count(rooms) - 1;
    if (at == TURN_USER_ROOMS_MAX)
        return false;
    rooms->hash[at] = rooms->hash[last];
    rooms->hash[last] = 0;
    g->count--;
    if (last > 0)
        return true;
    *ended = ++g->time;
    (void)map_remove(&g->by_user, user, n);
    slab_give(&g->users, n);
    return true;
}

const struct turn_rooms *turn_grants_of(const struct turn_grants *g, uint64_t user)
{
    uint32_t n = find(g, user);
    return n == MAP_NONE ? NULL : &granted_at(g, n)->rooms;
}

uint64_t turn_grants_time(const struct turn_grants *g)
{
    return g->time;
}

void turn_grants_open(struct turn_grants *g)
{
    g->open = true;
}

bool turn_grants_are_open(const struct turn_grants *g)
{
    return g->open;
}

uint32_t turn_grants_count(const struct turn_grants *g)
{
    return g->count;
}
