/* What every fuzz target shares: it ends the program when an invariant does not hold. */
#ifndef CT_TEST_FUZZ_H
#define CT_TEST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                     \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

/* libFuzzer's entry: one input; always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
