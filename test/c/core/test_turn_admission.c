/* Admission: who may allocate, whose allocations end, and in rooms who reaches whom. */
#include "engine.h"

#include "core/turn_admission.h"
#include "core/turn_grants.h"
#include "rng.h"

/* Two workers of one relay; most tests have the first alone. */
static struct engine workers[2];
static struct engine *const e = &workers[0], *const f = &workers[1];

/* What an operator may have allowed, ports of ours that are not relayed among them. */
static void allow_ourselves(struct turn_config *config)
{
    struct addr_prefix prefix;
    CHECK_EQ(addr_prefix_parse("192.0.2.0/24", 12, &prefix), CT_OK);
    CHECK_EQ(turn_policy_add(&config->policy, &prefix, TURN_RULE_ALLOW), CT_OK);
}

static void begin(enum turn_admission scope, bool switched)
{
    engine_init(e);
    e->config.admission = (uint8_t)scope;
    e->config.switched = switched;
    e->config.max_grants = 32;
    allow_ourselves(&e->config);
    engine_start(e);
}

static void open_grants(void)
{
    turn_grants_open(turn_commons_grants(e->commons));
}

static uint64_t user_of(const char *user)
{
    return turn_commons_user(e->commons, (const uint8_t *)user, strlen(user));
}

static uint64_t room_of(const char *room)
{
    return turn_commons_room(e->commons, (const uint8_t *)room, strlen(room));
}

/* What the relay does with an `admit`: told to the worker or, for now, not. */
static struct turn_grant_change admit(const char *user, const char *room)
{
    bool fresh;
    CHECK_EQ(turn_grants_put(turn_commons_grants(e->commons), user_of(user), room_of(room), &fresh),
             CT_OK);
    return (struct turn_grant_change){.user = user_of(user)};
}

static struct turn_grant_change withdraw(const char *user, const char *room)
{
    struct turn_grant_change change = {.user = user_of(user)};
    CHECK(turn_grants_take(turn_commons_grants(e->commons), change.user, room_of(room),
                           &change.ended));
    return change;
}

static void tell(struct turn_grant_change change)
{
    turn_server_admission(e->server, &change, 1, e->now);
    if (f->server)
        turn_server_admission(f->server, &change, 1, f->now);
}

/* ---- who may allocate ---- */

static void test_grants_count(void)
{
    begin(TURN_ADMISSION_PRESENCE, false);
    open_grants();
    struct client alice = client_at(e, "203.0.113.7:1", "alice");
    struct client bob = client_at(e, "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&alice), STUN_FORBIDDEN);
    tell(admit("alice", "lobby"));
    CHECK_EQ(client_allocate(&alice), 0);
    CHECK_EQ(client_allocate(&bob), STUN_FORBIDDEN);
    CHECK_EQ(engine_counter(e, TURN_N_REFUSED_ADMISSION), 2);
    CHECK_EQ(engine_counter(e, TURN_N_FORBIDDEN), 2);
    CHECK_EQ(e->not_admitted, 2);
    CHECK(!turn_commons_busy(e->commons, user_of("bob")));
    CHECK(turn_commons_busy(e->commons, user_of("alice")));
    /* wrong credentials are none, granted or not; and the quota is asked later */
    struct client wrong = client_with(e, "203.0.113.7:3", "1700003600:alice", "south");
    CHECK_EQ(client_allocate(&wrong), STUN_UNAUTHENTICATED);
    engine_stop(e);
}

/* Grants first, the quota then. */
static void test_before_the_quota(void)
{
    engine_init(e);
    e->config.admission = TURN_ADMISSION_PRESENCE;
    e->config.user_quota = 1;
    engine_start(e);
    open_grants();
    (void)admit("alice", "lobby");
    struct client one = client_at(e, "203.0.113.7:1", "alice");
    struct client two = client_at(e, "203.0.113.7:2", "alice");
    CHECK_EQ(client_allocate(&one), 0);
    CHECK_EQ(client_allocate(&two), STUN_QUOTA_REACHED);
    struct turn_grant_change gone = withdraw("alice", "lobby");
    CHECK_EQ(client_allocate(&two), STUN_FORBIDDEN);
    tell(gone);
    CHECK_EQ(e->last_end, TURN_END_WITHDRAWN);
    CHECK_EQ(turn_server_allocations(e->server), 0);
    engine_stop(e);
}

/* Before the grants are complete there is no answer, and nothing is told. */
static void test_early(void)
{
    begin(TURN_ADMISSION_PRESENCE, false);
    struct client alice = client_at(e, "203.0.113.7:1", "alice");
    struct client bob = client_at(e, "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&alice), NO_REPLY);
    CHECK_EQ(client_allocate(&alice), NO_REPLY);
    CHECK_EQ(engine_counter(e, TURN_N_DROP_EARLY), 2);
    CHECK_EQ(engine_counter(e, TURN_N_REFUSED_ADMISSION), 0);
    CHECK_EQ(engine_counter(e, TURN_N_FORBIDDEN), 0);
    CHECK_EQ(e->not_admitted, 0);
    (void)admit("alice", "lobby");
    CHECK_EQ(client_allocate(&alice), 0);
    open_grants();
    CHECK_EQ(client_allocate(&bob), STUN_FORBIDDEN);
    engine_stop(e);
}

/* Nobody needs one without admission, and there is no table. */
static void test_off(void)
{
    begin(TURN_ADMISSION_OFF, false);
    CHECK(turn_commons_grants(e->commons) == NULL);
    struct client alice = client_at(e, "203.0.113.7:1", "alice");
    CHECK_EQ(client_allocate(&alice), 0);
    CHECK_EQ(client_refresh(&alice, 0), 0);
    engine_stop(e);
}

/* ---- what ends ---- */

/* All of a user's allocations, of all names and 5-tuples, and nobody else's. */
static void test_withdrawn(void)
{
    struct client alice[5];
    begin(TURN_ADMISSION_PRESENCE, false);
    open_grants();
    (void)admit("alice", "lobby");
    (void)admit("alice", "stage");
    (void)admit("bob", "lobby");
    for (unsigned i = 0; i < 5; i++) {
        char at[32], name[32];
        snprintf(at, sizeof at, "203.0.113.7:%u", 10 + i);
        snprintf(name, sizeof name, "%u:alice", 1700003600 + i);
        alice[i] = client_with(e, at, name, "north");
        CHECK_EQ(client_allocate(&alice[i]), 0);
    }
    struct client bob = client_at(e, "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&bob), 0);
    /* one from the middle and the newest have ended otherwise */
    CHECK_EQ(client_refresh(&alice[2], 0), 0);
    CHECK_EQ(client_refresh(&alice[4], 0), 0);
    tell(withdraw("alice", "lobby"));
    CHECK_EQ(turn_server_allocations(e->server), 4);
    tell(withdraw("alice", "stage"));
    CHECK_EQ(turn_server_allocations(e->server), 1);
    CHECK_EQ(engine_counter(e, TURN_N_WITHDRAWN), 3);
    CHECK_EQ(e->server->by_user.used, 1); /* bob is found, and nobody else */
    CHECK_EQ(e->last_end, TURN_END_WITHDRAWN);
    CHECK_EQ(client_refresh(&alice[0], 600), STUN_ALLOCATION_MISMATCH);
    CHECK_EQ(client_refresh(&bob, 600), 0);
    engine_stop(e);
}

/* A withdrawal that is told late: what a newer grant has let in stays, what was there before ends.
 */
static void test_told_late(void)
{
    for (int room = 0; room < 2; room++) {
        begin(room ? TURN_ADMISSION_ROOM : TURN_ADMISSION_PRESENCE, false);
        open_grants();
        (void)admit("alice", "lobby");
        struct client old = client_at(e, "203.0.113.7:1", "alice");
        struct client fresh = client_at(e, "203.0.113.7:2", "alice");
        CHECK_EQ(client_allocate(&old), 0);
        struct turn_grant_change gone = withdraw("alice", "lobby");
        (void)admit("alice", "stage");
        CHECK_EQ(client_allocate(&fresh), 0);
        tell(gone);
        CHECK_EQ(turn_server_allocations(e->server), 1);
        CHECK_EQ(client_refresh(&old, 600), STUN_ALLOCATION_MISMATCH);
        CHECK_EQ(client_refresh(&fresh, 600), 0);
        tell(gone); /* twice is once */
        CHECK_EQ(turn_server_allocations(e->server), 1);
        engine_stop(e);
    }
}

/* ---- rooms ---- */

static struct client at_room(struct engine *of, const char *address, const char *user)
{
    struct client c = client_at(of, address, user);
    CHECK_EQ(client_allocate(&c), 0);
    return c;
}

static const char *text_of(const struct addr *a)
{
    static char text[2][ADDR_TEXT_MAX];
    static unsigned turn;
    addr_format(a, text[++turn % 2]);
    return text[turn % 2];
}

/* Each permits the other; the first has a channel too. */
static void introduce(struct client *a, struct client *b)
{
    CHECK_EQ(client_bind(a, 0x4000, text_of(&b->relayed)), 0);
    CHECK_EQ(client_permit(b, text_of(&a->relayed)), 0);
}

/* Whether data passes: from a by Send and by channel, from b by Send; they must agree. */
static bool meet(struct client *a, struct client *b)
{
    engine_clear(a->e);
    engine_clear(b->e);
    client_indication(a, text_of(&b->relayed), "send");
    bool send = got_indication(b, text_of(&a->relayed), "send");
    client_channel_data(a, 0x4000, "channel");
    bool channel = got_indication(b, text_of(&a->relayed), "channel");
    client_indication(b, text_of(&a->relayed), "back");
    bool back = got_channel_data(a, 0x4000, "back");
    CHECK_EQ(a->e->to_peers + b->e->to_peers, 0);
    CHECK(send == channel && channel == back);
    return send;
}

static uint64_t strays(void)
{
    return engine_counter(e, TURN_N_DROP_OTHER_ROOM) +
           (f->server ? engine_counter(f, TURN_N_DROP_OTHER_ROOM) : 0);
}

/* One worker, or two: then bob is with the second. */
static struct engine *begin_rooms(bool switched, bool two)
{
    begin(TURN_ADMISSION_ROOM, switched);
    open_grants();
    f->server = NULL;
    if (!two)
        return e;
    engine_init(f);
    f->config = e->config;
    f->host = e;
    f->worker = 1;
    e->others = f->others = workers;
    engine_start(f);
    return f;
}

static void end_rooms(void)
{
    if (f->server)
        engine_stop(f);
    f->server = NULL;
    engine_stop(e);
}

static void test_rooms(void)
{
    for (unsigned i = 0; i < 4; i++) {
        struct engine *second = begin_rooms(i % 2, i / 2);
        (void)admit("alice", "a");
        (void)admit("bob", "a");
        struct client alice = at_room(e, "203.0.113.7:1", "alice");
        struct client bob = at_room(second, "203.0.113.7:2", "bob");
        introduce(&alice, &bob);
        CHECK(meet(&alice, &bob));
        CHECK_EQ(strays(), 0);
        tell(admit("bob", "b"));
        CHECK(meet(&alice, &bob));
        tell(withdraw("bob", "a"));
        CHECK(!meet(&alice, &bob));
        CHECK_EQ(strays(), 3);
        tell(admit("alice", "b"));
        CHECK(meet(&alice, &bob));
        tell(withdraw("alice", "b"));
        CHECK(!meet(&alice, &bob));
        tell(admit("bob", "a"));
        CHECK(meet(&alice, &bob));
        CHECK_EQ(strays(), 6);
        end_rooms();
    }
}

/* A dual allocation is one: both its addresses are in its user's rooms. */
static void test_dual(void)
{
    begin_rooms(false, false);
    (void)admit("alice", "a");
    (void)admit("bob", "a");
    struct client alice = at_room(e, "203.0.113.7:1", "alice");
    struct client bob = client_at(e, "203.0.113.7:2", "bob");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, 2u << 24);
    CHECK_EQ(client_allocate_with(&bob, &a), 0);
    introduce(&alice, &bob);
    CHECK(meet(&alice, &bob));
    tell(withdraw("bob", "a"));
    CHECK_EQ(turn_server_allocations(e->server), 1);
    CHECK_EQ(engine_open_relays(e), 1);
    end_rooms();
}

/* Nobody outside is a peer, whatever the policy allows, and TCP is not relayed. */
static void test_nobody_else(void)
{
    begin_rooms(false, false);
    (void)admit("alice", "a");
    struct client alice = at_room(e, "203.0.113.7:1", "alice");
    CHECK_EQ(client_permit(&alice, "198.51.100.1:7"), STUN_FORBIDDEN);
    CHECK_EQ(client_bind(&alice, 0x4000, "198.51.100.1:7"), STUN_FORBIDDEN);
    CHECK_EQ(client_bind(&alice, 0x4000, "192.0.2.1:50000"), STUN_FORBIDDEN); /* nobody is there */
    CHECK_EQ(e->forbidden, 3);
    CHECK_EQ(client_permit(&alice, "192.0.2.1:50000"), 0);
    engine_clear(e);
    client_indication(&alice, "198.51.100.1:7", "out");
    client_indication(&alice, "192.0.2.1:50000", "nobody");
    CHECK_EQ(engine_counter(e, TURN_N_DROP_NO_PERMISSION), 2);
    peer_send(&alice, "198.51.100.1:7", "in");
    peer_send(&alice, "192.0.2.1:50000", "in by our own IP");
    CHECK_EQ(strays(), 2);
    turn_server_icmp(e->server, 0, &(struct addr){.family = ADDR_V4, .ip = {192, 0, 2, 1}},
                     &(struct turn_icmp){.type = 3, .code = 3}, e->now);
    CHECK_EQ(e->to_clients + e->to_peers, 0);
    struct client tcp = client_at(e, "203.0.113.7:3", "alice");
    tcp.tuple.transport = TURN_TCP;
    CHECK_EQ(tcp_allocate(&tcp, NULL), STUN_UNSUPPORTED_TRANSPORT);
    end_rooms();
}

/* What another worker gives without rooms, or with none of them, does not arrive. */
static void test_paired(void)
{
    begin_rooms(true, false);
    (void)admit("alice", "a");
    struct client alice = at_room(e, "203.0.113.7:1", "alice");
    CHECK_EQ(client_permit(&alice, "192.0.2.1:1"), 0);
    const struct turn_rooms right = {{1, room_of("a")}}, wrong = {{room_of("b")}}, none = {{0}};
    const struct turn_rooms *const rooms[] = {&right, &wrong, &none, NULL};
    for (size_t i = 0; i < 4; i++) {
        struct turn_pair pair = {.from = addr_of("192.0.2.1:55555"),
                                 .port = alice.relayed.port,
                                 .rooms = rooms[i],
                                 .data = span_str("data")};
        engine_clear(e);
        turn_server_paired(e->server, &pair, e->now);
        CHECK_EQ(e->to_clients, i == 0);
        CHECK_EQ(strays(), i);
    }
    end_rooms();
}

/* ---- anything, in any order, with two workers ---- */

enum {
    PEOPLE = 6,
    ROOMS = 4,
};

struct crowd {
    struct client clients[PEOPLE];
    bool there[PEOPLE]; /* has an allocation */
    bool in[PEOPLE][ROOMS];
};

static const char *name_of(char kind, size_t n)
{
    static char names[4][8];
    static unsigned turn;
    char *name = names[++turn % 4];
    snprintf(name, sizeof names[0], "%c%zu", kind, n);
    return name;
}

static bool granted(const struct crowd *c, size_t who)
{
    for (size_t room = 0; room < ROOMS; room++)
        if (c->in[who][room])
            return true;
    return false;
}

static bool share(const struct crowd *c, size_t one, size_t other)
{
    for (size_t room = 0; room < ROOMS; room++)
        if (c->in[one][room] && c->in[other][room])
            return true;
    return false;
}

static void toggle(struct crowd *c, size_t who, size_t room)
{
    bool in = c->in[who][room];
    c->in[who][room] = !in;
    tell(in ? withdraw(name_of('u', who), name_of('r', room))
            : admit(name_of('u', who), name_of('r', room)));
    c->there[who] = c->there[who] && granted(c, who);
}

/* From another port each time, as a browser would. */
static void try_to_allocate(struct crowd *c, size_t who, unsigned turn)
{
    char at[32];
    if (c->there[who])
        return;
    snprintf(at, sizeof at, "203.0.113.7:%u", 1000 + turn);
    c->clients[who] = client_at(&workers[who % 2], at, name_of('u', who));
    CHECK_EQ(client_allocate(&c->clients[who]), granted(c, who) ? 0 : STUN_FORBIDDEN);
    c->there[who] = granted(c, who);
}

/* A Send indication, permitted both ways. */
static void try_to_talk(struct crowd *c, size_t one, size_t other)
{
    struct client *a = &c->clients[one], *b = &c->clients[other];
    if (!c->there[one] || !c->there[other])
        return;
    CHECK_EQ(client_permit(a, text_of(&b->relayed)), 0);
    CHECK_EQ(client_permit(b, text_of(&a->relayed)), 0);
    engine_clear(a->e);
    engine_clear(b->e);
    uint64_t before = strays();
    client_indication(a, text_of(&b->relayed), "hello");
    CHECK_EQ(b->e->to_clients, share(c, one, other));
    CHECK_EQ(strays() - before, !share(c, one, other));
}

static void test_random(void)
{
    struct rng r = rng_new();
    struct crowd c = {.there = {false}};
    uint32_t there = 0;
    begin_rooms(true, true);
    for (unsigned i = 0; i < 20000; i++) {
        size_t who = rng_below(&r, PEOPLE), other = rng_below(&r, PEOPLE);
        if (i % 3 == 0)
            toggle(&c, who, rng_below(&r, ROOMS));
        else if (i % 3 == 1)
            try_to_allocate(&c, who, i);
        else
            try_to_talk(&c, who, other);
        there = 0;
        for (size_t n = 0; n < PEOPLE; n++)
            there += c.there[n];
        CHECK_EQ(turn_server_allocations(e->server) + turn_server_allocations(f->server), there);
        if (check_failures)
            break;
        if (i % 500 == 0)
            for (size_t n = 0; n < 2; n++)
                engine_pass(&workers[n], 1000);
        for (size_t n = 0; i % 100 == 0 && n < PEOPLE; n++)
            if (c.there[n])
                CHECK_EQ(client_refresh(&c.clients[n], 3600), 0);
    }
    CHECK(e->paired_over + f->paired_over > 100 && strays() > 100);
    end_rooms();
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_grants_count), CHECK_TEST(test_before_the_quota),
        CHECK_TEST(test_early),        CHECK_TEST(test_off),
        CHECK_TEST(test_withdrawn),    CHECK_TEST(test_told_late),
        CHECK_TEST(test_rooms),        CHECK_TEST(test_dual),
        CHECK_TEST(test_nobody_else),  CHECK_TEST(test_paired),
        CHECK_TEST(test_random),
    };
    return CHECK_RUN(tests);
}
