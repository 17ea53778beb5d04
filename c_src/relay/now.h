/* The time that a worker gives its engine. */
#ifndef CT_RELAY_NOW_H
#define CT_RELAY_NOW_H

#include "core/turn_io.h"

#include <time.h>
#include <uv.h>

/*
 * libuv reads the monotonic clock once per turn of the loop, right after it waited; time() costs
 * no system call.
 */
static inline struct turn_now now_of(const uv_loop_t *loop)
{
    return (struct turn_now){.ms = uv_now(loop), .unix_s = (uint64_t)time(NULL)};
}

#endif
