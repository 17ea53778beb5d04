#include "link.h"

void sim_link_init(struct sim_link *link, uint64_t seed, const struct sim_weather *weather)
{
    /* Nothing of the pool is read before it is written: it is not worth clearing for each seed. */
    memset(link, 0, offsetof(struct sim_link, pool));
    link->rng = rng_of(seed);
    link->weather = *weather;
    for (uint16_t i = 0; i < SIM_FLYING_MAX; i++)
        link->heap[i] = i;
}

static bool earlier(const struct sim_link *link, size_t a, size_t b)
{
    const struct sim_datagram *x = &link->pool[link->heap[a]], *y = &link->pool[link->heap[b]];
    return x->at_ms < y->at_ms || (x->at_ms == y->at_ms && x->order < y->order);
}

static void swap(struct sim_link *link, size_t a, size_t b)
{
    uint16_t place = link->heap[a];
    link->heap[a] = link->heap[b];
    link->heap[b] = place;
}

static void rise(struct sim_link *link, size_t at)
{
    for (; at && earlier(link, at, (at - 1) / 2); at = (at - 1) / 2)
        swap(link, at, (at - 1) / 2);
}

static void sink(struct sim_link *link)
{
    for (size_t at = 0, child; (child = 2 * at + 1) < link->flying; at = child) {
        if (child + 1 < link->flying && earlier(link, child + 1, child))
            child++;
        if (!earlier(link, child, at))
            return;
        swap(link, at, child);
    }
}

static bool chance(struct sim_link *link, unsigned per_mille)
{
    return per_mille && rng_below(&link->rng, 1000) < per_mille;
}

static uint64_t arrival(struct sim_link *link, uint64_t now_ms, enum sim_way way)
{
    const struct sim_weather *w = &link->weather;
    uint64_t at = now_ms + w->delay_min;
    if (w->delay_max > w->delay_min)
        at += rng_below(&link->rng, w->delay_max - w->delay_min + 1);
    if (chance(link, w->overtake))
        return at;
    if (at < link->last_at[way])
        at = link->last_at[way];
    link->last_at[way] = at;
    return at;
}

static void fly(struct sim_link *link, uint64_t at_ms, const struct sim_path *path,
                struct span bytes)
{
    if (link->flying == SIM_FLYING_MAX || bytes.len > SIM_DATAGRAM_MAX) {
        link->overflowed++;
        return;
    }
    struct sim_datagram *d = &link->pool[link->heap[link->flying]];
    d->at_ms = at_ms;
    d->order = link->order++;
    d->path = *path;
    d->len = (uint16_t)bytes.len;
    memcpy(d->bytes, bytes.data, bytes.len);
    rise(link, link->flying++);
}

void sim_link_send(struct sim_link *link, uint64_t now_ms, const struct sim_path *path,
                   struct span bytes)
{
    enum sim_way way = path->way;
    bool wanted = link->lose_next[way] != 0;
    link->sent[way]++;
    link->lose_next[way] -= wanted;
    if (wanted || chance(link, link->weather.loss)) {
        link->lost[way]++;
        return;
    }
    fly(link, arrival(link, now_ms, way), path, bytes);
    if (!chance(link, link->weather.twice))
        return;
    link->doubled[way]++;
    fly(link, arrival(link, now_ms, way), path, bytes);
}

uint64_t sim_link_next(const struct sim_link *link)
{
    return link->flying ? link->pool[link->heap[0]].at_ms : UINT64_MAX;
}

const struct sim_datagram *sim_link_take(struct sim_link *link)
{
    if (!link->flying)
        return NULL;
    swap(link, 0, --link->flying);
    sink(link);
    const struct sim_datagram *d = &link->pool[link->heap[link->flying]];
    link->arrived[d->path.way]++;
    return d;
}
