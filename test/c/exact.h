/*
 * Bytes in a heap block that ends where they end, so that AddressSanitizer sees the first byte read
 * behind them, also when there are none. `skew` bytes stand before them, so that they lie
 * unaligned.
 */
#ifndef CT_TEST_EXACT_H
#define CT_TEST_EXACT_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct exact {
    uint8_t *data;
    size_t len;
    uint8_t *block;
};

static inline struct exact exact_of(const void *bytes, size_t len, size_t skew)
{
    struct exact e = {.len = len, .block = calloc(1, 8 + skew + len)};
    if (!e.block)
        abort();
    e.data = e.block + 8 + skew;
    if (len)
        memcpy(e.data, bytes, len);
    return e;
}

static inline void exact_free(struct exact *e)
{
    free(e->block);
    *e = (struct exact){0};
}

#endif
