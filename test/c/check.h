/*
 * The whole test framework: a table of named functions, checks that say where and what, TAP out.
 *
 *     static void test_parses(void) { CHECK(parse("1") == 1); }
 *     int main(void) { const struct check_test tests[] = {CHECK_TEST(test_parses)}; return
 * CHECK_RUN(tests); }
 */
#ifndef CT_TEST_CHECK_H
#define CT_TEST_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct check_test {
    const char *name;
    void (*run)(void);
};

/* How many checks have failed in the test that is running, in its helpers too. */
extern unsigned check_failures;

#define CHECK_TEST(f) \
    {                 \
#f, f         \
    }
#define CHECK_RUN(tests) check_run(tests, sizeof(tests) / sizeof *(tests))

static inline void check_failed(const char *file, int line, const char *what)
{
    check_failures++;
    printf("# %s:%d: %s\n", file, line, what);
}

#define CHECK(condition)                                  \
    do {                                                  \
        if (!(condition))                                 \
            check_failed(__FILE__, __LINE__, #condition); \
    } while (0)

#define CHECK_EQ(got, want)                                                   \
    do {                                                                      \
        intmax_t got_ = (intmax_t)(got), want_ = (intmax_t)(want);            \
        if (got_ != want_) {                                                  \
            check_failed(__FILE__, __LINE__, #got " == " #want);              \
            printf("#   got %" PRIdMAX ", want %" PRIdMAX "\n", got_, want_); \
        }                                                                     \
    } while (0)

#define CHECK_STR(got, want)                                      \
    do {                                                          \
        const char *got_ = (got), *want_ = (want);                \
        if (strcmp(got_, want_) != 0) {                           \
            check_failed(__FILE__, __LINE__, #got " == " #want);  \
            printf("#   got \"%s\", want \"%s\"\n", got_, want_); \
        }                                                         \
    } while (0)

#define CHECK_BYTES(got, want, n) CHECK(memcmp(got, want, n) == 0)

static inline int check_run(const struct check_test *tests, size_t n)
{
    size_t failed = 0;
    for (size_t i = 0; i < n; i++) {
        check_failures = 0;
        tests[i].run();
        printf("%s %zu - %s\n", check_failures ? "not ok" : "ok", i + 1, tests[i].name);
        failed += check_failures != 0;
    }
    printf("%zu passed, %zu failed\n", n - failed, failed);
    return failed ? 1 : 0;
}

#endif
