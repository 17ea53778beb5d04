/*
 * Deadlines on one coarse wheel: a second per slot, an hour and more around. Setting, moving and
 * removing one takes constant time. A deadline is embedded in what it ends.
 */
#ifndef CT_CORE_DEADLINE_H
#define CT_CORE_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DEADLINE_SLOTS = 4096,
    DEADLINE_TICK_MS = 1000
};

struct deadline {
    struct deadline *prev, *next; /* NULL when not on a wheel */
    uint64_t at;                  /* monotonic milliseconds */
};

struct deadline_wheel {
    struct deadline slots[DEADLINE_SLOTS]; /* list heads */
    uint64_t tick;                         /* everything due before this tick has been taken */
    uint32_t count;
};

void deadline_init(struct deadline_wheel *w, uint64_t now_ms);

/* Sets or moves a deadline. Beyond the wheel's reach it is looked at again when the wheel is round.
 */
void deadline_set(struct deadline_wheel *w, struct deadline *d, uint64_t at_ms);
/* Takes it off the wheel; nothing happens when it is not on it. */
void deadline_clear(struct deadline_wheel *w, struct deadline *d);

/* One deadline with at <= now_ms, taken off the wheel; NULL when there is none (left). */
struct deadline *deadline_due(struct deadline_wheel *w, uint64_t now_ms);

/* When deadline_due() should next be asked; UINT64_MAX when the wheel is empty. */
uint64_t deadline_next(const struct deadline_wheel *w);

#endif
