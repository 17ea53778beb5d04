/* Rings: by one thread, and by two that check each byte. */
#include "check.h"
#include "relay/ring.h"
#include "rng.h"

#include <uv.h>

static bool put(struct ring *r, uint8_t fill, size_t len)
{
    uint8_t *to = ring_put(r, len);
    if (to)
        memset(to, fill, len);
    return to != NULL;
}

static bool takes(struct ring *r, uint8_t fill, size_t len)
{
    struct span s = ring_take(r);
    bool right = s.data && s.len == len;
    for (size_t i = 0; right && i < len; i++)
        right = s.data[i] == fill;
    return right;
}

/* Nothing is seen before it is published, and then all of it in order. */
static void test_publish(void)
{
    struct ring *r = ring_new(1024);
    CHECK(!ring_publish(r));
    CHECK(put(r, 1, 100) && put(r, 2, 0) && put(r, 3, 17));
    CHECK(!ring_take(r).data);
    CHECK(ring_publish(r) && !ring_publish(r));
    CHECK(put(r, 4, 5));
    CHECK(takes(r, 1, 100) && takes(r, 2, 0) && takes(r, 3, 17));
    CHECK(!ring_take(r).data);
    CHECK(ring_publish(r) && takes(r, 4, 5) && !ring_take(r).data);
    ring_free(r);
    ring_free(NULL);
}

/* A full ring takes no more until what was taken is released, and loses nothing. */
static void test_full(void)
{
    struct ring *r = ring_new(1024);
    unsigned n = 0;
    CHECK(!ring_put(r, 1024) && !ring_put(r, 2000) && !ring_put(r, SIZE_MAX));
    while (put(r, (uint8_t)n, 48))
        n++;
    CHECK_EQ(n, 16);
    CHECK(ring_publish(r));
    for (unsigned i = 0; i < n; i++)
        CHECK(takes(r, (uint8_t)i, 48));
    CHECK(!put(r, 1, 0));
    ring_release(r);
    CHECK(put(r, 1, 1008) && !put(r, 1, 0));
    CHECK(ring_publish(r) && takes(r, 1, 1008));
    ring_release(r);
    ring_free(r);
}

/* Records lie in one piece wherever in the ring they begin. */
static void test_wrap(void)
{
    struct ring *r = ring_new(1024);
    for (size_t i = 0; i < 5000; i++) {
        size_t len = i * 7 % 400;
        CHECK(put(r, (uint8_t)i, len) && ring_publish(r) && takes(r, (uint8_t)i, len));
        CHECK(!ring_take(r).data);
        ring_release(r);
    }
    ring_free(r);
}

/* ---- two threads ---- */

enum {
    RECORDS = 50000,
    RECORD_MAX = 700,
};

struct flow {
    struct ring *ring;
    _Atomic unsigned wrong, taken;
};

/* Record i: its length and bytes follow from i. */
static size_t length_of(unsigned i)
{
    return sizeof i + i * 131u % (RECORD_MAX - sizeof i);
}

static void take_all(void *arg)
{
    struct flow *f = arg;
    unsigned next = 0;
    while (next < RECORDS) {
        struct span s = ring_take(f->ring);
        if (!s.data) {
            ring_release(f->ring);
            uv_sleep(0);
            continue;
        }
        unsigned i = 0;
        memcpy(&i, s.data, sizeof i);
        bool right = i == next && s.len == length_of(i);
        for (size_t k = sizeof i; right && k < s.len; k++)
            right = s.data[k] == (uint8_t)(i + k);
        f->wrong += !right;
        if (next++ % 5 == 0)
            ring_release(f->ring);
    }
    f->taken = next;
}

static void test_threads(void)
{
    struct flow f = {.ring = ring_new(16384)};
    uv_thread_t thread;
    struct rng rng = rng_of(3);
    CHECK_EQ(uv_thread_create(&thread, take_all, &f), 0);
    for (unsigned i = 0; i < RECORDS; i++) {
        size_t len = length_of(i);
        uint8_t *to;
        while (!(to = ring_put(f.ring, len))) {
            ring_publish(f.ring);
            uv_sleep(0);
        }
        memcpy(to, &i, sizeof i);
        for (size_t k = sizeof i; k < len; k++)
            to[k] = (uint8_t)(i + k);
        if (rng_below(&rng, 8) == 0)
            ring_publish(f.ring);
    }
    ring_publish(f.ring);
    uv_thread_join(&thread);
    CHECK_EQ(f.taken, RECORDS);
    CHECK_EQ(f.wrong, 0);
    ring_free(f.ring);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_publish),
        CHECK_TEST(test_full),
        CHECK_TEST(test_wrap),
        CHECK_TEST(test_threads),
    };
    return CHECK_RUN(tests);
}
