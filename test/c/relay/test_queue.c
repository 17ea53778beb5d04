#include "check.h"
#include "relay/queue.h"

enum {
    SIZE = 64
};

static void test_queue_keeps_order(void)
{
    const struct turn_out frame = {.head = span_str("abcd"), .body = span_str("efghij"), .pad = 1};
    struct pool p;
    struct queue q = {.data = NULL};

    pool_init(&p, SIZE, 1);
    CHECK_EQ(queue_len(&q), 0);
    CHECK(queue_bytes(&q).data == NULL);
    for (int round = 0; round < 20; round++) {
        CHECK(queue_put_frame(&q, &p, SIZE, &frame, 2));
        CHECK(queue_put(&q, &p, SIZE, span_str("klm")));
        CHECK_EQ(queue_len(&q), 16 + (round ? 16 : 0));
        if (round)
            queue_drop(&q, &p, 16);
        CHECK_BYTES(queue_bytes(&q).data, "abcdefghij\0\0\0klm", 16);
    }
    queue_drop(&q, &p, 16);
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
    const struct turn_out frame = {.head = span_of(bytes, 4), .body = span_of(bytes, SIZE - 9)};

    pool_init(&p, SIZE, 1);
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, SIZE - 3)));
    CHECK(q.data == NULL);
    CHECK(!queue_put_frame(&q, &p, SIZE - 4, &frame, 2));
    CHECK(!queue_put_frame(&q, &p, SIZE - 4, &frame, SIZE));
    CHECK(queue_put_frame(&q, &p, SIZE - 4, &frame, 1));
    CHECK(!queue_put(&q, &p, SIZE - 4, span_of(bytes, 1)));
    CHECK_EQ(queue_len(&q), SIZE - 4);
    CHECK(!queue_put(&other, &p, SIZE, span_of(bytes, 1)));
    queue_drop(&q, &p, SIZE - 4);
    CHECK(queue_put(&other, &p, SIZE, span_of(bytes, 1)));
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
