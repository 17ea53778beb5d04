#include "check.h"
#include "relay/queue.h"

enum {
    SIZE = 64
};

static void test_queue_keeps_order(void)
{
    struct pool p;
    struct queue q = {.data = NULL};

    pool_init(&p, SIZE, 1);
    CHECK_EQ(queue_len(&q), 0);
    CHECK(queue_bytes(&q).data == NULL);
    for (int round = 0; round < 20; round++) {
        CHECK(queue_put(&q, &p, SIZE, span_str("abcdefghij"), 2));
        CHECK(queue_put(&q, &p, SIZE, span_str("klm"), 0));
        CHECK_EQ(queue_len(&q), 15 + (round ? 15 : 0));
        if (round)
            queue_drop(&q, &p, 15);
        CHECK_BYTES(queue_bytes(&q).data, "abcdefghij\0\0klm", 15);
    }
    queue_drop(&q, &p, 15);
    CHECK(q.data == NULL);
    CHECK_EQ(p.out, 0);
    pool_free(&p);
}

/* All or nothing: a frame is never cut. */
static void test_queue_is_bounded(void)
{
    struct pool p;
    struct queue q = {.data = NULL}, other = {.data = NULL};
    uint8_t bytes[SIZE] = {0};

    pool_init(&p, SIZE, 1);
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, SIZE - 3), 0));
    CHECK(q.data == NULL);
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, SIZE - 5), 2));
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, 1), SIZE));
    CHECK(queue_put(&q, &p, SIZE - 4, span_of(bytes, SIZE - 5), 1));
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, 1), 0));
    CHECK_EQ(queue_len(&q), SIZE - 4);
    CHECK(!queue_put(&other, &p, SIZE, span_of(bytes, 1), 0));
    queue_drop(&q, &p, SIZE - 4);
    CHECK(queue_put(&other, &p, SIZE, span_of(bytes, 1), 0));
    queue_drop(&other, &p, 1);
    pool_free(&p);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_queue_keeps_order),
        CHECK_TEST(test_queue_is_bounded),
    };
    return CHECK_RUN(tests);
}
