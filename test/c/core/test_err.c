#include "check.h"
#include "core/err.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const enum ct_err all[] = {
#define VALUE(sym, val, name) sym,
    CT_ERRS(VALUE)
#undef VALUE
};

/* Erlang sees the names as atoms: lower case, and no two alike. */
static void test_names(void)
{
    CHECK_STR(ct_err_name(CT_OK), "ok");
    CHECK_STR(ct_err_name(CT_ESHORT), "truncated");
    CHECK_STR(ct_err_name(CT_EINUSE), "eaddrinuse");
    for (size_t i = 0; i < COUNT(all); i++) {
        const char *name = ct_err_name(all[i]);
        CHECK(*name != '\0' && strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name));
        for (size_t k = 0; k < i; k++)
            CHECK(strcmp(name, ct_err_name(all[k])) != 0);
    }
}

static void test_success_is_zero_and_failure_negative(void)
{
    CHECK_EQ(CT_OK, 0);
    for (size_t i = 1; i < COUNT(all); i++)
        CHECK_EQ(all[i], -(int)i);
}

static void test_a_number_that_is_no_error_has_a_name(void)
{
    CHECK(ct_err_name((enum ct_err) - 1000) != NULL);
    CHECK(ct_err_name((enum ct_err)1) != NULL);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_names),
        CHECK_TEST(test_success_is_zero_and_failure_negative),
        CHECK_TEST(test_a_number_that_is_no_error_has_a_name),
    };
    return CHECK_RUN(tests);
}
