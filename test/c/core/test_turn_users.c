/* Usernames by their hash. */
#include "check.h"
#include "core/stun_auth.h"
#include "core/turn_users.h"

static size_t look(const struct turn_users *u, struct crypto *c, const char *name,
                   const char *realm, uint8_t out[STUN_USERNAME_MAX])
{
    uint8_t hash[TURN_USERHASH_SIZE];
    CHECK_EQ(stun_userhash(c, span_str(name), span_str(realm), hash), CT_OK);
    return turn_users_find(u, hash, out);
}

/* The newest `capacity` names are known, each once. */
static void test_bounded(void)
{
    enum {
        CAPACITY = 100
    };
    struct crypto *c = crypto_new();
    struct turn_users *u = turn_users_new(CAPACITY);
    uint8_t out[STUN_USERNAME_MAX];
    char name[32];
    CHECK(c && u);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%d:user", i);
        CHECK_EQ(turn_users_put(u, c, span_str("r"), span_str(name)), CT_OK);
        CHECK_EQ(turn_users_put(u, c, span_str("r"), span_str(name)), CT_OK);
        CHECK_EQ(turn_users_count(u), i < CAPACITY ? i + 1 : CAPACITY);
    }
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "%d:user", i);
        size_t len = look(u, c, name, "r", out);
        CHECK_EQ(len, i < 1000 - CAPACITY ? 0 : strlen(name));
        if (len)
            CHECK_BYTES(out, name, len);
    }
    turn_users_free(u);
    crypto_free(c);
}

static void test_rehash(void)
{
    struct crypto *c = crypto_new();
    struct turn_users *u = turn_users_new(3);
    uint8_t out[STUN_USERNAME_MAX];
    CHECK_EQ(turn_users_put(u, c, span_str("old"), span_str("1:a")), CT_OK);
    CHECK_EQ(turn_users_put(u, c, span_str("old"), span_str("1:b")), CT_OK);
    CHECK_EQ(turn_users_rehash(u, c, span_str("new")), CT_OK);
    CHECK_EQ(look(u, c, "1:a", "old", out), 0);
    CHECK_EQ(look(u, c, "1:a", "new", out), 3);
    CHECK_EQ(look(u, c, "1:b", "new", out), 3);
    turn_users_free(u);
    crypto_free(c);
}

static void test_lengths(void)
{
    struct crypto *c = crypto_new();
    struct turn_users *u = turn_users_new(2);
    uint8_t out[STUN_USERNAME_MAX];
    char longest[STUN_USERNAME_MAX + 2];
    memset(longest, 'u', sizeof longest);
    longest[STUN_USERNAME_MAX + 1] = 0;
    CHECK_EQ(turn_users_put(u, c, span_str("r"), span_str("")), CT_EVALUE);
    CHECK_EQ(turn_users_put(u, c, span_str("r"), span_str(longest)), CT_EVALUE);
    longest[STUN_USERNAME_MAX] = 0;
    CHECK_EQ(turn_users_put(u, c, span_str("r"), span_str(longest)), CT_OK);
    CHECK_EQ(look(u, c, longest, "r", out), STUN_USERNAME_MAX);
    turn_users_free(u);
    turn_users_free(NULL);
    crypto_free(c);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_bounded),
        CHECK_TEST(test_rehash),
        CHECK_TEST(test_lengths),
    };
    return CHECK_RUN(tests);
}
