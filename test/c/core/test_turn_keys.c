/* Kept keys: the table itself, and that an engine decides with them as it would without. */
#include "core/turn_keys.h"
#include "core/turn_state.h"
#include "engine.h"

static struct engine e;

/* ---- the table ---- */

static struct turn_keys keys;

static void open_table(struct crypto *c, uint32_t allocations)
{
    struct turn_config config;
    turn_config_defaults(&config);
    config.max_allocations = allocations;
    config.secrets[0] = (struct turn_secret){.bytes = "north", .len = 5};
    config.secret_count = 1;
    keys = (struct turn_keys){.seed = {{0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9}}};
    CHECK(turn_keys_init(&keys, c, &config));
}

static struct turn_key_owner owner_of(const char *username)
{
    return (struct turn_key_owner){span_str(username), STUN_PASSWORD_MD5};
}

static struct stun_key key_of(unsigned n)
{
    struct stun_key key = {.len = CRYPTO_MD5_SIZE};
    memcpy(key.bytes, &n, sizeof n);
    return key;
}

static void keep(const char *username, unsigned n, size_t secret)
{
    struct turn_key_owner owner = owner_of(username);
    struct stun_key key = key_of(n);
    struct crypto_mac mac = {.hash = CRYPTO_SHA1, .ready = true, .of.key = {(uint8_t)n}};
    turn_keys_keep(&keys, &owner, &key, &mac, secret);
}

/* Whether this very key is kept for the user. */
static bool kept(const char *username, unsigned n, size_t secret)
{
    struct turn_key_owner owner = owner_of(username);
    struct stun_key want = key_of(n);
    const struct turn_kept *k = turn_keys_find(&keys, &owner);
    return k && k->secret == secret && k->key_len == want.len &&
           memcmp(k->key, want.bytes, want.len) == 0 && k->mac.ready &&
           k->mac.of.key[0] == (uint8_t)n;
}

static void test_whose_key(void)
{
    struct crypto *c = crypto_new();
    open_table(c, 100);
    CHECK(!kept("1:a", 1, 0));
    keep("1:a", 1, 0);
    keep("1:b", 2, 1);
    CHECK(kept("1:a", 1, 0) && kept("1:b", 2, 1));
    keep("1:a", 3, 1); /* of another secret */
    CHECK(kept("1:a", 3, 1) && kept("1:b", 2, 1));
    struct turn_key_owner other = {span_str("1:a"), STUN_PASSWORD_SHA256};
    CHECK(!turn_keys_find(&keys, &other));
    struct turn_key_owner shorter = owner_of("1:"), longer = owner_of("1:ab");
    CHECK(!turn_keys_find(&keys, &shorter));
    CHECK(!turn_keys_find(&keys, &longer));
    turn_keys_free(&keys);
    crypto_free(c);
}

static void test_lengths(void)
{
    struct crypto *c = crypto_new();
    char name[TURN_KEPT_NAME + 2];
    open_table(c, 100);
    memset(name, 'x', sizeof name);
    name[TURN_KEPT_NAME + 1] = 0;
    keep(name, 1, 0);
    CHECK(!kept(name, 1, 0) && !keys.any);
    name[TURN_KEPT_NAME] = 0;
    keep(name, 2, 0);
    CHECK(kept(name, 2, 0));
    keep("", 3, 0);
    CHECK(!kept("", 3, 0));
    struct turn_key_owner owner = owner_of("1:a");
    struct stun_key longest = {.len = CRYPTO_SHA256_SIZE}, none = {.len = 0};
    struct crypto_mac mac = {.hash = CRYPTO_SHA256, .ready = true};
    memset(longest.bytes, 7, CRYPTO_SHA256_SIZE);
    turn_keys_keep(&keys, &owner, &none, &mac, 0);
    CHECK(!turn_keys_find(&keys, &owner));
    turn_keys_keep(&keys, &owner, &longest, &mac, 7);
    const struct turn_kept *got = turn_keys_find(&keys, &owner);
    CHECK(got);
    if (got) {
        CHECK_EQ(got->secret, 7);
        CHECK_EQ(got->mac.hash, CRYPTO_SHA256);
        CHECK_EQ(got->key_len, CRYPTO_SHA256_SIZE);
        CHECK_BYTES(got->key, longest.bytes, CRYPTO_SHA256_SIZE);
    }
    turn_keys_free(&keys);
    crypto_free(c);
}

/* Full: newcomers take others' places, nobody gets another's key, and the newest is always there.
 */
static void test_full(void)
{
    enum {
        ROOM = 64
    };
    struct crypto *c = crypto_new();
    char name[32];
    unsigned left = 0;
    open_table(c, ROOM);
    for (unsigned i = 0; i < 20 * ROOM; i++) {
        snprintf(name, sizeof name, "%u:user", i);
        keep(name, i, 0);
        CHECK(kept(name, i, 0));
    }
    for (unsigned i = 0; i < 20 * ROOM; i++) {
        snprintf(name, sizeof name, "%u:user", i);
        struct turn_key_owner owner = owner_of(name);
        if (!turn_keys_find(&keys, &owner))
            continue;
        CHECK(kept(name, i, 0));
        left++;
    }
    CHECK_EQ(left, 2 * ROOM);
    turn_keys_free(&keys);
    crypto_free(c);
}

static void test_room_follows_the_configuration(void)
{
    static const struct {
        uint32_t allocations, room;
    } cases[] = {{1, 4}, {2, 4}, {3, 8}, {1000, 2048}, {1000000, TURN_KEPT_MAX}, {0, 4}};
    struct crypto *c = crypto_new();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        open_table(c, cases[i].allocations);
        CHECK_EQ((keys.mask + 1) * TURN_KEPT_WAYS, cases[i].room);
        turn_keys_free(&keys);
    }
    CHECK_EQ(sizeof(struct turn_kept), 192);
    crypto_free(c);
}

/* What is forgotten is gone from memory. */
static void test_configure_wipes(void)
{
    struct crypto *c = crypto_new();
    struct turn_config config;
    uint8_t mac[CRYPTO_MAX_SIZE], want[CRYPTO_MAX_SIZE];
    struct span text = span_str("text");
    open_table(c, 100);
    keep("1:a", 1, 0);
    turn_config_defaults(&config);
    config.secrets[0] = (struct turn_secret){.bytes = "south", .len = 5};
    config.secrets[1] = (struct turn_secret){.bytes = "gone", .len = 4};
    config.secret_count = 1;
    memset(config.nonce_key, 3, sizeof config.nonce_key);
    CHECK(turn_keys_configure(&keys, c, &config));
    CHECK(!kept("1:a", 1, 0));
    const uint8_t *bytes = (const uint8_t *)keys.kept;
    size_t size = (keys.mask + 1) * TURN_KEPT_WAYS * sizeof *keys.kept, set = 0;
    for (size_t i = 0; i < size; i++)
        set += bytes[i] != 0;
    CHECK_EQ(set, 0);
    CHECK_EQ(crypto_mac_run(c, &keys.secrets[0], &text, 1, mac), CT_OK);
    CHECK_EQ(crypto_hmac(c, CRYPTO_SHA1, span_str("south"), &text, 1, want), CT_OK);
    CHECK_BYTES(mac, want, CRYPTO_SHA1_SIZE);
    CHECK_EQ(crypto_mac_run(c, &keys.nonce, &text, 1, mac), CT_OK);
    CHECK_EQ(crypto_hmac(c, CRYPTO_SHA256, span_of(config.nonce_key, 32), &text, 1, want), CT_OK);
    CHECK_BYTES(mac, want, CRYPTO_SHA256_SIZE);
    CHECK_EQ(crypto_mac_run(c, &keys.secrets[1], &text, 1, mac), CT_ECRYPTO); /* not counted */
    turn_keys_free(&keys);
    turn_keys_free(&keys);
    crypto_free(c);
}

/* ---- the engine's decisions ---- */

static void begin(void)
{
    engine_init(&e);
    engine_start(&e);
}

/* Allocates and lets go again: what is left is the kept key. */
static int come(const char *address, const char *username, const char *secret)
{
    struct client c = client_with(&e, address, username, secret);
    int code = client_allocate(&c);
    if (code == 0)
        CHECK_EQ(client_refresh(&c, 0), 0);
    return code;
}

/* The secret that the engine has a kept key of for this user; TURN_SECRETS_MAX: none. */
static size_t kept_from(const char *username)
{
    struct turn_key_owner owner = owner_of(username);
    const struct turn_kept *kept = turn_keys_find(&e.server->keys, &owner);
    return kept ? kept->secret : TURN_SECRETS_MAX;
}

static const char alice[] = "1700003600:alice";

static struct turn_config with_secrets(const char *first, const char *second)
{
    struct turn_config config = e.config;
    const char *both[] = {first, second};
    config.secret_count = 0;
    for (size_t i = 0; i < 2 && both[i]; i++) {
        struct turn_secret *secret = &config.secrets[config.secret_count++];
        secret->len = (uint16_t)strlen(both[i]);
        memcpy(secret->bytes, both[i], secret->len);
    }
    return config;
}

/* Only who has shown the password has a key kept, and a wrong one is wrong before and after. */
static void test_wrong_passwords(void)
{
    begin();
    CHECK_EQ(come("203.0.113.7:5000", alice, "wrong"), 401);
    CHECK_STR(e.last_reason, "bad_password");
    CHECK_EQ(kept_from(alice), TURN_SECRETS_MAX);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(come("203.0.113.7:5001", alice, "north"), 0);
        CHECK_EQ(kept_from(alice), 0);
        CHECK_EQ(come("203.0.113.7:5002", alice, "wrong"), 401);
        CHECK_STR(e.last_reason, "bad_password");
    }
    engine_stop(&e);
}

/* The kept key's secret is one of several that may be used. */
static void test_two_secrets(void)
{
    begin();
    struct turn_config both = with_secrets("south", "north");
    turn_server_configure(e.server, &both);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(come("203.0.113.7:5000", alice, "north"), 0);
        CHECK_EQ(kept_from(alice), 1);
        CHECK_EQ(come("203.0.113.7:5001", alice, "south"), 0);
        CHECK_EQ(kept_from(alice), 0);
        CHECK_EQ(come("203.0.113.7:5002", alice, "west"), 401);
    }
    engine_stop(&e);
}

/* A secret's end is the end of what was kept of it; also of one that another took the place of. */
static void test_removed_secret(void)
{
    begin();
    CHECK_EQ(come("203.0.113.7:5000", alice, "north"), 0);
    struct turn_config next = with_secrets("south", NULL);
    turn_server_configure(e.server, &next);
    CHECK_EQ(kept_from(alice), TURN_SECRETS_MAX);
    CHECK_EQ(come("203.0.113.7:5001", alice, "north"), 401);
    CHECK_EQ(come("203.0.113.7:5002", alice, "south"), 0);
    struct turn_config back = with_secrets("north", NULL);
    turn_server_configure(e.server, &back);
    CHECK_EQ(come("203.0.113.7:5003", alice, "south"), 401);
    CHECK_EQ(come("203.0.113.7:5004", alice, "north"), 0);
    engine_stop(&e);
}

static void test_changed_realm(void)
{
    begin();
    CHECK_EQ(come("203.0.113.7:5000", alice, "north"), 0);
    struct turn_config next = e.config;
    snprintf(next.realm, sizeof next.realm, "example.net");
    turn_server_configure(e.server, &next);
    CHECK_EQ(come("203.0.113.7:5001", alice, "north"), 401); /* hashed with the old realm */
    CHECK_STR(e.last_reason, "bad_password");
    e.config = next; /* the client's realm */
    CHECK_EQ(come("203.0.113.7:5002", alice, "north"), 0);
    engine_stop(&e);
}

static void test_expiry(void)
{
    begin();
    struct client c = client_with(&e, "203.0.113.7:5000", alice, "north");
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(kept_from(alice), 0);
    engine_pass(&e, 3601000);
    CHECK_EQ(come("203.0.113.7:5001", alice, "north"), 401);
    CHECK_STR(e.last_reason, "expired");
    engine_stop(&e);
}

/* The same password makes two keys. */
static void test_algorithms(void)
{
    begin();
    struct client md5 = client_with(&e, "203.0.113.7:5000", alice, "north"), sha256 = md5;
    char password[STUN_REST_PASSWORD_MAX];
    size_t len;
    CHECK_EQ(stun_rest_password(e.crypto, CRYPTO_SHA1, span_str("north"), span_str(alice), password,
                                &len),
             CT_OK);
    struct stun_long_term cred = {span_str(alice), span_str(e.config.realm),
                                  span_of(password, len)};
    CHECK_EQ(stun_key_long_term(e.crypto, STUN_PASSWORD_SHA256, &cred, &sha256.key), CT_OK);
    sha256.integrity = STUN_INTEGRITY_SHA256;
    sha256.algorithms = true;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(client_allocate(&md5), 0);
        CHECK_EQ(client_refresh(&md5, 0), 0);
        CHECK_EQ(client_allocate(&sha256), 0);
        CHECK_EQ(client_refresh(&sha256, 0), 0);
    }
    engine_stop(&e);
}

/*
 * The kept key is ready for one integrity, and requests and their responses come with either: a
 * list of password algorithms asks for SHA-256 in the response to a request with SHA-1.
 */
static void test_either_integrity(void)
{
    begin();
    struct client c = client_with(&e, "203.0.113.7:5000", alice, "north");
    struct client wrong = client_with(&e, "203.0.113.7:5001", alice, "wrong");
    for (unsigned i = 0; i < 32; i++) {
        unsigned bits = i ^ i >> 1; /* each of four after each other one */
        c.integrity = bits & 1 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
        c.algorithms = bits & 2;
        wrong.integrity = c.integrity;
        CHECK_EQ(client_allocate(&c), 0); /* which checks the response's integrity */
        CHECK_EQ(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY_SHA256), (bits & 3) != 0);
        CHECK_EQ(kept_from(alice), 0);
        CHECK_EQ(client_allocate(&wrong), 401);
        c.integrity = bits & 4 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
        CHECK_EQ(client_refresh(&c, 0), 0);
        CHECK_EQ(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY_SHA256), (bits & 6) != 0);
        if (i == 15) { /* kept anew, by the other */
            turn_server_configure(e.server, &e.config);
            CHECK_EQ(kept_from(alice), TURN_SECRETS_MAX);
        }
    }
    engine_stop(&e);
}

/* More users than there is room for, twice over: all are served, with wrong passwords none. */
static void test_more_users_than_room(void)
{
    enum {
        USERS = 40
    };
    engine_init(&e);
    e.config.max_allocations = 2;
    engine_start(&e);
    for (unsigned i = 0; i < 2 * USERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "1700003600:u%u", i % USERS);
        CHECK_EQ(come("203.0.113.7:5000", name, "north"), 0);
        CHECK_EQ(kept_from(name), 0);
        CHECK_EQ(come("203.0.113.7:5001", name, "wrong"), 401);
    }
    CHECK_EQ(e.server->keys.mask, 0);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_whose_key),
        CHECK_TEST(test_lengths),
        CHECK_TEST(test_full),
        CHECK_TEST(test_room_follows_the_configuration),
        CHECK_TEST(test_configure_wipes),
        CHECK_TEST(test_wrong_passwords),
        CHECK_TEST(test_two_secrets),
        CHECK_TEST(test_removed_secret),
        CHECK_TEST(test_changed_realm),
        CHECK_TEST(test_expiry),
        CHECK_TEST(test_algorithms),
        CHECK_TEST(test_either_integrity),
        CHECK_TEST(test_more_users_than_room),
    };
    return CHECK_RUN(tests);
}
