/* Lists of grants as they come over the control channel. */
#include "check.h"
#include "relay/admission.h"

struct world {
    struct turn_config config;
    struct turn_commons *commons;
    uv_mutex_t lock;
};

static void open_world(struct world *w, uint32_t max_grants)
{
    turn_config_defaults(&w->config);
    w->config.admission = TURN_ADMISSION_ROOM;
    w->config.max_grants = max_grants;
    w->commons = turn_commons_new(&w->config);
    CHECK(w->commons != NULL);
    CHECK_EQ(uv_mutex_init(&w->lock), 0);
}

static void close_world(struct world *w)
{
    turn_commons_free(w->commons);
    uv_mutex_destroy(&w->lock);
}

static uint64_t user_of(const struct world *w, const char *name)
{
    return turn_commons_user(w->commons, (const uint8_t *)name, strlen(name));
}

static const struct turn_rooms *rooms_of(const struct world *w, const char *name)
{
    return turn_grants_of(turn_commons_grants(w->commons), user_of(w, name));
}

struct pair {
    const char *user, *room;
};

/* The list as a frame has it. */
static struct term_out list_of(const struct pair *pairs, size_t n)
{
    struct term_out out;

    term_out_init(&out);
    ei_x_encode_version(&out.x);
    if (n)
        term_put_list(&out, n);
    for (size_t i = 0; i < n; i++) {
        term_put_tuple(&out, 2);
        term_put_text(&out, pairs[i].user);
        term_put_text(&out, pairs[i].room);
    }
    term_put_nil(&out);
    CHECK(!out.failed);
    return out;
}

typedef bool change(struct admission *a, struct turn_commons *commons, uv_mutex_t *lock,
                    struct term_in *in, size_t n);

/* What the list has done; the caller's to free. NULL when it was not taken. */
static struct admission *run(struct world *w, change *f, const struct pair *pairs, size_t n)
{
    struct term_out out = list_of(pairs, n);
    struct term_in in;
    struct admission *a = admission_new(n);

    CHECK(a && term_in_init(&in, (const uint8_t *)out.x.buff, (size_t)out.x.index));
    CHECK_EQ(term_list(&in), n);
    if (!f(a, w->commons, &w->lock, &in, n)) {
        admission_free(a);
        a = NULL;
    }
    term_out_free(&out);
    return a;
}

/* Only of users who have allocations has a worker anything to look at. */
static void test_changes(void)
{
    static const struct pair pairs[] = {
        {"alice", "a"}, {"bob", "a"}, {"alice", "b"}, {"alice", "a"}};
    static const struct pair gone[] = {
        {"alice", "b"}, {"bob", "a"}, {"carol", "a"}, {"alice", "a"}};
    struct world w;

    open_world(&w, 9);
    CHECK_EQ(turn_commons_enter(w.commons, user_of(&w, "alice"), 0), CT_OK);
    struct admission *a = run(&w, admission_admit, pairs, 4);
    CHECK(a && a->count == 2 && a->refused_count == 0);
    for (size_t i = 0; a && i < a->count; i++)
        CHECK(a->changes[i].user == user_of(&w, "alice") && a->changes[i].ended == 0);
    admission_free(a);
    CHECK_EQ(turn_rooms_count(rooms_of(&w, "alice")), 2);
    a = run(&w, admission_withdraw, gone, 4);
    CHECK(a && a->count == 2);
    CHECK(a && a->changes[0].ended == 0 && a->changes[1].ended == 2); /* bob's was the first end */
    admission_free(a);
    CHECK_EQ(turn_grants_count(turn_commons_grants(w.commons)), 0);
    turn_commons_leave(w.commons, user_of(&w, "alice"));
    close_world(&w);
}

/* Each refusal is told with what it was about. */
static void test_refused(void)
{
    struct pair pairs[] = {{"alice", "1"}, {"alice", "2"}, {"alice", "3"},  {"alice", "4"},
                           {"alice", "5"}, {"alice", "6"}, {"alice", "7"},  {"alice", "8"},
                           {"alice", "9"}, {"bob", "x"},   {"carol", "yz"}, {"alice", "8"}};
    struct world w;
    char reason[TERM_ATOM_MAX];
    struct span user, room;

    open_world(&w, 9);
    struct admission *a = run(&w, admission_admit, pairs, 12);
    CHECK(a && a->count == 0 && a->refused_count == 2);
    if (a) {
        struct term_in in = {.data = a->refused.x.buff};
        CHECK(term_tuple(&in) == 3 && term_binary(&in, &user) && term_binary(&in, &room));
        CHECK(span_eq(user, span_str("alice")) && span_eq(room, span_str("9")));
        CHECK(term_atom(&in, reason) && strcmp(reason, "too_many_rooms") == 0);
        CHECK(term_tuple(&in) == 3 && term_binary(&in, &user) && term_binary(&in, &room));
        CHECK(span_eq(user, span_str("carol")) && span_eq(room, span_str("yz")));
        CHECK(term_atom(&in, reason) && strcmp(reason, "too_many_grants") == 0);
        CHECK_EQ(in.at, a->refused.x.index);
    }
    admission_free(a);
    close_world(&w);
}

/* Lengths at their limits; the empty list changes nothing. */
static void test_shapes(void)
{
    static char user[STUN_USERNAME_MAX + 2], room[TURN_ROOM_MAX + 2];
    struct world w;

    open_world(&w, 9);
    memset(user, 'u', STUN_USERNAME_MAX);
    memset(room, 'r', TURN_ROOM_MAX);
    const struct pair longest = {user, room};
    struct admission *a = run(&w, admission_admit, &longest, 1);
    CHECK(a && a->refused_count == 0 && rooms_of(&w, user));
    admission_free(a);
    a = run(&w, admission_withdraw, &longest, 0);
    CHECK(a && a->count == 0);
    admission_free(a);
    const struct pair bad[] = {{"", "r"}, {"u", ""}};
    for (size_t i = 0; i < 2; i++) {
        CHECK(run(&w, admission_admit, &bad[i], 1) == NULL);
        CHECK(run(&w, admission_withdraw, &bad[i], 1) == NULL);
    }
    room[TURN_ROOM_MAX] = 'r';
    CHECK(run(&w, admission_admit, &longest, 1) == NULL);
    room[TURN_ROOM_MAX] = 0;
    user[STUN_USERNAME_MAX] = 'u';
    CHECK(run(&w, admission_withdraw, &longest, 1) == NULL);
    CHECK_EQ(turn_grants_count(turn_commons_grants(w.commons)), 1);
    close_world(&w);
    admission_free(NULL);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_changes),
        CHECK_TEST(test_refused),
        CHECK_TEST(test_shapes),
    };
    return CHECK_RUN(tests);
}
