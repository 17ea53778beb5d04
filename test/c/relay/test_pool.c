#include "check.h"
#include "relay/pool.h"

enum {
    SIZE = 64,
    MANY = 100
};

static void test_takes_and_gives(void)
{
    struct pool p;
    uint8_t *all[MANY];

    pool_init(&p, SIZE, MANY);
    for (int i = 0; i < MANY; i++) {
        all[i] = pool_take(&p);
        CHECK(all[i] != NULL);
        memset(all[i], i, SIZE);
    }
    CHECK(pool_take(&p) == NULL);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(all[i][SIZE - 1], i);
        pool_give(&p, all[i]);
    }
    CHECK_EQ(p.out, 0);
    CHECK(p.kept_count < MANY);
    pool_give(&p, NULL);
    pool_free(&p);
}

/* The buffer that is still in the cache comes first. */
static void test_gives_the_last_one_again(void)
{
    struct pool p;

    pool_init(&p, SIZE, 2);
    uint8_t *a = pool_take(&p), *b = pool_take(&p);
    pool_give(&p, a);
    pool_give(&p, b);
    CHECK(pool_take(&p) == b);
    CHECK(pool_take(&p) == a);
    pool_give(&p, a);
    pool_give(&p, b);
    pool_free(&p);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_takes_and_gives),
        CHECK_TEST(test_gives_the_last_one_again),
    };
    return CHECK_RUN(tests);
}
