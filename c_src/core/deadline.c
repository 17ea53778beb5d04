#include "core/deadline.h"

#include <stddef.h>

/* A deadline falls into the tick that ends at or after it: when that tick is over, it is due. */
static uint64_t tick_of(uint64_t at_ms)
{
    return (at_ms + DEADLINE_TICK_MS - 1) / DEADLINE_TICK_MS;
}

void deadline_init(struct deadline_wheel *w, uint64_t now_ms)
{
    for (unsigned i = 0; i < DEADLINE_SLOTS; i++)
        w->slots[i] = (struct deadline){.prev = &w->slots[i], .next = &w->slots[i]};
    w->tick = now_ms / DEADLINE_TICK_MS;
    w->count = 0;
}

void deadline_set(struct deadline_wheel *w, struct deadline *d, uint64_t at_ms)
{
    deadline_clear(w, d);
    d->at = at_ms;
    uint64_t tick = tick_of(at_ms);
    if (tick < w->tick)
        tick = w->tick;
    struct deadline *head = &w->slots[tick % DEADLINE_SLOTS];
    d->prev = head->prev;
    d->next = head;
    head->prev->next = d;
    head->prev = d;
    w->count++;
}

void deadline_clear(struct deadline_wheel *w, struct deadline *d)
{
    if (!d->next)
        return;
    d->prev->next = d->next;
    d->next->prev = d->prev;
    d->prev = d->next = NULL;
    w->count--;
}

struct deadline *deadline_due(struct deadline_wheel *w, uint64_t now_ms)
{
    uint64_t now_tick = now_ms / DEADLINE_TICK_MS;
    /* A long sleep: one turn of the wheel sees every slot. */
    if (now_tick > w->tick + DEADLINE_SLOTS)
        w->tick = now_tick - DEADLINE_SLOTS;
    for (;; w->tick++) {
        struct deadline *head = &w->slots[w->tick % DEADLINE_SLOTS];
        for (struct deadline *d = head->next; d != head; d = d->next) {
            if (d->at > now_ms)
                continue;
            deadline_clear(w, d);
            return d;
        }
        if (w->tick >= now_tick)
            return NULL;
    }
}

uint64_t deadline_next(const struct deadline_wheel *w)
{
    return w->count ? (w->tick + 1) * DEADLINE_TICK_MS : UINT64_MAX;
}
