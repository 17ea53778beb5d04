/*
 * The commands `admit` and `withdraw`: lists of grants, read from a frame and put into the table
 * that the workers share. On the main thread.
 */
#ifndef CT_RELAY_ADMISSION_H
#define CT_RELAY_ADMISSION_H

#include "core/turn_commons.h"
#include "relay/term.h"

#include <uv.h>

/* What a list has changed, and what of it could not be done. */
struct admission {
    struct term_out refused; /* {User, Room, Reason} of each pair that was not granted */
    size_t refused_count;
    size_t count; /* of changes: users whose allocations workers have to look at */
    struct turn_grant_change changes[];
};

/* For a list of n pairs; NULL when memory is short. */
struct admission *admission_new(size_t n);
/* NULL is fine. */
void admission_free(struct admission *a);

/*
 * Admit or withdraw the next n elements, pairs {User, Room}. False when one is no such pair: those
 * before it have been dealt with. The lock is held for one pair at a time, so that no worker waits
 * for a list.
 */
bool admission_admit(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                     struct term_in *in, size_t n);
bool admission_withdraw(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                        struct term_in *in, size_t n);

#endif
