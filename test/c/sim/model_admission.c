/* Grants as the model sees them: a table of yes and no, and whose allocations are to end. */
#include "model.h"

size_t model_user(struct span username)
{
    return username.len ? (size_t)(username.data[username.len - 1] - '0') % MODEL_USERS : 0;
}

static unsigned rooms_of(const struct model *m, size_t user)
{
    unsigned n = 0;
    for (size_t room = 0; room < MODEL_ROOMS; room++)
        n += m->grants[user][room];
    return n;
}

static uint32_t grants_of_all(const struct model *m)
{
    uint32_t n = 0;
    for (size_t user = 0; user < MODEL_USERS; user++)
        n += rooms_of(m, user);
    return n;
}

bool model_granted(const struct model *m, size_t user)
{
    return m->rules.admission == TURN_ADMISSION_OFF || rooms_of(m, user) > 0;
}

static bool is_users(const struct model_alloc *a, size_t user)
{
    return a->client.family != ADDR_NONE && model_user(span_str(a->username)) == user;
}

bool model_user_lives(const struct model *m, size_t user)
{
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        if (is_users(&m->allocs[i], user) && model_live(m, &m->allocs[i]))
            return true;
    return false;
}

enum ct_err model_admit(struct model *m, size_t user, size_t room, bool *fresh)
{
    *fresh = false;
    if (m->grants[user][room])
        return CT_OK;
    if (rooms_of(m, user) == 8)
        return CT_EFORBIDDEN;
    if (grants_of_all(m) == m->rules.max_grants)
        return CT_ENOSPACE;
    *fresh = m->grants[user][room] = true;
    return CT_OK;
}

bool model_withdraw(struct model *m, size_t user, size_t room, bool *last)
{
    bool was = m->grants[user][room];
    m->grants[user][room] = false;
    *last = was && rooms_of(m, user) == 0;
    if (!*last)
        return was;
    m->withdrawals++;
    for (size_t i = 0; i < MODEL_ALLOCS; i++)
        if (is_users(&m->allocs[i], user) && !m->allocs[i].doomed_by)
            m->allocs[i].doomed_by = m->withdrawals;
    return true;
}

void model_told(struct model *m, size_t user, uint32_t withdrawal)
{
    for (size_t i = 0; i < MODEL_ALLOCS; i++) {
        struct model_alloc *a = &m->allocs[i];
        if (!is_users(a, user))
            continue;
        memcpy(a->rooms, m->grants[user], sizeof a->rooms);
        if (!a->doomed_by || a->doomed_by > withdrawal)
            continue;
        m->counts[TURN_N_WITHDRAWN] += model_live(m, a);
        *a = (struct model_alloc){.has_token = false};
    }
}

bool model_meet(const struct model_alloc *a, const struct model_alloc *b)
{
    for (size_t room = 0; room < MODEL_ROOMS; room++)
        if (a->rooms[room] && b->rooms[room])
            return true;
    return false;
}
