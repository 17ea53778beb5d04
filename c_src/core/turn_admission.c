#include "core/turn_admission.h"

#include "core/turn_commons.h"

bool turn_admission_init(struct turn_server *s)
{
    const struct turn_config *c = s->config;
    uint32_t n = c->admission == TURN_ADMISSION_OFF ? 0 : c->max_allocations;
    return slab_init(&s->members, sizeof(struct turn_member), n) && map_init(&s->by_user, n) &&
           slab_init(&s->rooms, sizeof(struct turn_rooms),
                     c->admission == TURN_ADMISSION_ROOM ? n : 0);
}

void turn_admission_free(struct turn_server *s)
{
    slab_free(&s->members);
    slab_free(&s->rooms);
    map_free(&s->by_user);
}

/* ---- letting in ---- */

bool turn_admission_check(const struct turn_server *s, struct turn_entrant *who)
{
    const struct turn_grants *grants = turn_commons_grants(s->commons);
    if (!grants)
        return true;
    const struct turn_rooms *rooms = turn_grants_of(grants, who->user);
    who->refused = !rooms;
    who->early = !turn_grants_are_open(grants);
    who->since = turn_grants_time(grants);
    if (rooms)
        who->rooms = *rooms;
    return rooms != NULL;
}

bool turn_admission_refuse(struct turn_server *s, const struct turn_request *r,
                           const struct turn_entrant *who)
{
    struct turn_event event = {
        .kind = TURN_EV_ADMISSION_REFUSED, .tuple = r->tuple, .username = r->auth.username};
    turn_count(&s->counters, who->early ? TURN_N_DROP_EARLY : TURN_N_REFUSED_ADMISSION, 1);
    if (who->early)
        return false;
    s->io->ops->event(s->io, &event);
    return true;
}

/* ---- a user's allocations: a list of their numbers, whose first is in the map ---- */

static struct turn_member *member_at(const struct turn_server *s, uint32_t alloc)
{
    return slab_at(&s->members, alloc);
}

static uint32_t first_of(const struct turn_server *s, uint64_t user)
{
    struct map_iter it;
    for (uint32_t n = map_first(&s->by_user, user, &it); n != MAP_NONE;
         n = map_next(&s->by_user, &it))
        if (turn_alloc_at(s, n)->user == user)
            return n;
    return SLAB_NONE;
}

static void set_rooms(struct turn_server *s, uint32_t alloc, const struct turn_rooms *rooms)
{
    if (s->config->admission == TURN_ADMISSION_ROOM)
        memcpy(slab_at(&s->rooms, alloc), rooms, sizeof *rooms);
}

void turn_admission_join(struct turn_server *s, const struct turn_alloc *a,
                         const struct turn_entrant *who)
{
    if (s->config->admission == TURN_ADMISSION_OFF)
        return;
    uint32_t n = turn_alloc_number(s, a), first = first_of(s, a->user);
    *member_at(s, n) =
        (struct turn_member){.since = who->since, .next = first, .previous = SLAB_NONE};
    if (first != SLAB_NONE) {
        member_at(s, first)->previous = n;
        (void)map_remove(&s->by_user, a->user, first);
    }
    (void)map_put(&s->by_user, a->user, n);
    set_rooms(s, n, &who->rooms);
}

void turn_admission_leave(struct turn_server *s, const struct turn_alloc *a)
{
    if (s->config->admission == TURN_ADMISSION_OFF)
        return;
    uint32_t n = turn_alloc_number(s, a);
    const struct turn_member *m = member_at(s, n);
    if (m->next != SLAB_NONE)
        member_at(s, m->next)->previous = m->previous;
    if (m->previous != SLAB_NONE) {
        member_at(s, m->previous)->next = m->next;
        return;
    }
    (void)map_remove(&s->by_user, a->user, n);
    if (m->next != SLAB_NONE)
        (void)map_put(&s->by_user, a->user, m->next);
}

/* ---- changes ---- */

/* What was made before the user's last grant was taken back; not what a newer grant allowed. */
static void end_older(struct turn_server *s, const struct turn_grant_change *change,
                      struct turn_now now)
{
    for (uint32_t n = first_of(s, change->user), next; n != SLAB_NONE; n = next) {
        next = member_at(s, n)->next;
        if (member_at(s, n)->since < change->ended)
            turn_alloc_end(s, turn_alloc_at(s, n), TURN_END_WITHDRAWN, now);
    }
}

/* The rooms as they are now, not as they were when this was sent: the newest word counts. */
static void renew_rooms(struct turn_server *s, uint64_t user)
{
    struct turn_rooms rooms = {{0}};
    s->io->ops->lock(s->io);
    const struct turn_rooms *known = turn_grants_of(turn_commons_grants(s->commons), user);
    if (known)
        rooms = *known;
    s->io->ops->unlock(s->io);
    for (uint32_t n = first_of(s, user); n != SLAB_NONE; n = member_at(s, n)->next)
        set_rooms(s, n, &rooms);
}

void turn_server_admission(struct turn_server *s, const struct turn_grant_change *changes,
                           size_t count, struct turn_now now)
{
    for (size_t i = 0; i < count; i++) {
        if (first_of(s, changes[i].user) == SLAB_NONE)
            continue;
        if (changes[i].ended)
            end_older(s, &changes[i], now);
        if (s->config->admission == TURN_ADMISSION_ROOM)
            renew_rooms(s, changes[i].user);
    }
}
