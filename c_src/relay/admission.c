#include "relay/admission.h"

#include "core/stun_wire.h"

#include <stdlib.h>

struct pair {
    struct span user, room; /* views of the frame */
};

struct admission *admission_new(size_t n)
{
    struct admission *a = malloc(sizeof *a + n * sizeof a->changes[0]);

    if (!a)
        return NULL;
    *a = (struct admission){.count = 0};
    term_out_init(&a->refused);
    return a;
}

void admission_free(struct admission *a)
{
    if (!a)
        return;
    term_out_free(&a->refused);
    free(a);
}

static bool read_pair(struct term_in *in, struct pair *out)
{
    return term_tuple(in) == 2 && term_binary(in, &out->user) && term_binary(in, &out->room) &&
           out->user.len > 0 && out->user.len <= STUN_USERNAME_MAX && out->room.len > 0 &&
           out->room.len <= TURN_ROOM_MAX;
}

static void put_refused(struct admission *a, const struct pair *pair, enum ct_err why)
{
    term_put_tuple(&a->refused, 3);
    term_put_binary(&a->refused, pair->user);
    term_put_binary(&a->refused, pair->room);
    term_put_atom(&a->refused, why == CT_EFORBIDDEN ? "too_many_rooms" : "too_many_grants");
    a->refused_count++;
}

static void admit(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                  const struct pair *pair)
{
    uint64_t user = turn_commons_user(commons, pair->user.data, pair->user.len);
    uint64_t room = turn_commons_room(commons, pair->room.data, pair->room.len);
    bool fresh, busy;

    uv_mutex_lock(lock);
    enum ct_err err = turn_grants_put(turn_commons_grants(commons), user, room, &fresh);
    busy = fresh && turn_commons_busy(commons, user);
    uv_mutex_unlock(lock);
    if (err != CT_OK)
        put_refused(a, pair, err);
    if (busy)
        a->changes[a->count++] = (struct turn_grant_change){.user = user};
}

static void withdraw(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                     const struct pair *pair)
{
    uint64_t user = turn_commons_user(commons, pair->user.data, pair->user.len);
    uint64_t room = turn_commons_room(commons, pair->room.data, pair->room.len);
    uint64_t ended;

    uv_mutex_lock(lock);
    bool busy = turn_grants_take(turn_commons_grants(commons), user, room, &ended) &&
                turn_commons_busy(commons, user);
    uv_mutex_unlock(lock);
    if (busy)
        a->changes[a->count++] = (struct turn_grant_change){.user = user, .ended = ended};
}

bool admission_admit(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                     struct term_in *in, size_t n)
{
    struct pair pair;

    for (size_t i = 0; i < n; i++) {
        if (!read_pair(in, &pair))
            return false;
        admit(a, commons, lock, &pair);
    }
    return true;
}

bool admission_withdraw(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                        struct term_in *in, size_t n)
{
    struct pair pair;

    for (size_t i = 0; i < n; i++) {
        if (!read_pair(in, &pair))
            return false;
        withdraw(a, commons, lock, &pair);
    }
    return true;
}
