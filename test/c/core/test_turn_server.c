/* Dispatch, Binding, drops and administration: conformance.md STUN-MSG, STUN-BIND, TURN-GEN. */
#include "engine.h"
#include "vectors.h"

static struct engine e;

static struct client begin(void)
{
    engine_init(&e);
    engine_start(&e);
    return client_at(&e, "203.0.113.7:1", "alice");
}

static int bind_request(struct client *c, const struct attrs *a)
{
    client_new_tid(c);
    return client_send_request(c, STUN_BINDING, a);
}

/* STUN-MSG-01: the header of question and answer, byte by byte. */
static void test_bytes_of_an_answer(void)
{
    struct client c = begin();
    client_send(&c, "\0\1\0\0\x21\x12\xA4\x42twelve bytes", 20);
    CHECK_EQ(e.to_clients, 1);
    const struct sent *s = &e.to_client[0];
    CHECK_BYTES(s->bytes, "\1\1", 2);
    CHECK_EQ((s->bytes[2] << 8 | s->bytes[3]) + STUN_HEADER_SIZE, s->len);
    CHECK_BYTES(s->bytes + 4, "\x21\x12\xA4\x42twelve bytes", 16);
    engine_stop(&e);
}

/* STUN-BIND-02, 05, 07, STUN-FP-04, STUN-MSG-11, 17. */
static void test_binding(void)
{
    struct client c = begin();
    struct client v6 = client_at(&e, "[2001:db8:1::9]:77", "alice");
    struct addr mapped;
    CHECK_EQ(bind_request(&c, NULL), 0);
    CHECK_EQ(stun_msg_addr(&c.msg, STUN_ID_XOR_MAPPED_ADDRESS, &mapped), CT_OK);
    CHECK(addr_eq(&mapped, &c.tuple.client));
    CHECK(stun_msg_has(&c.msg, STUN_ID_FINGERPRINT) && stun_msg_has(&c.msg, STUN_ID_SOFTWARE));
    CHECK_EQ(bind_request(&v6, NULL), 0);
    CHECK_EQ(stun_msg_addr(&v6.msg, STUN_ID_XOR_MAPPED_ADDRESS, &mapped), CT_OK);
    CHECK(addr_eq(&mapped, &v6.tuple.client));
    c.fingerprint = false;
    CHECK_EQ(bind_request(&c, NULL), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_FINGERPRINT));
    CHECK_EQ(engine_counter(&e, TURN_N_BINDINGS), 3);
    CHECK_EQ(turn_server_deadline(e.server), UINT64_MAX); /* STUN-BIND-09: no state */
    engine_stop(&e);
}

/* STUN-BIND-09, STUN-MSG-11: many clients leave nothing behind; each is answered once, by its id.
 */
static void test_many_bindings(void)
{
    struct client c = begin();
    for (unsigned i = 0; i < 100000; i++) {
        c.tuple.client.port = (uint16_t)i;
        c.tuple.client.ip[2] = (uint8_t)(i >> 16);
        CHECK_EQ(bind_request(&c, NULL), 0);
    }
    CHECK_EQ(turn_server_allocations(e.server), 0);
    CHECK_EQ(turn_server_deadline(e.server), UINT64_MAX);
    engine_stop(&e);
}

/* STUN-ATTR-16: the longest text that may come. */
static void test_long_software(void)
{
    static char text[STUN_TEXT_MAX];
    struct client c = begin();
    struct attrs a;
    memset(text, 's', sizeof text);
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_SOFTWARE, text, sizeof text);
    CHECK_EQ(bind_request(&c, &a), 0);
    engine_stop(&e);
}

/* STUN-MSG-17, TURN-SEC-06. */
static void test_hidden_software(void)
{
    engine_init(&e);
    e.config.software[0] = 0;
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    CHECK_EQ(bind_request(&c, NULL), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_SOFTWARE));
    engine_stop(&e);
}

/* STUN-BIND-08: a Binding request on an allocation's 5-tuple leaves its timer alone. */
static void test_binding_on_an_allocation(void)
{
    struct client c = begin();
    CHECK_EQ(client_allocate(&c), 0);
    engine_pass(&e, 500 * 1000);
    struct client plain = c;
    *plain.nonce = 0;
    CHECK_EQ(bind_request(&plain, NULL), 0);
    engine_pass(&e, 101 * 1000);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* STUN-ATTR-05, 06, 08, 09, STUN-BIND-11: all unknown ones listed, known ones ignored. */
static void test_unknown_attributes(void)
{
    struct client c = begin();
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, 0x7F00, "", 0);
    attrs_bytes(&a, STUN_ATTR_CHANGE_REQUEST, "\0\0\0\6", 4); /* NBD-06 */
    attrs_bytes(&a, 0x7F01, "abc", 3);
    CHECK_EQ(bind_request(&c, &a), 420);
    struct span list = stun_msg_bytes(&c.msg, STUN_ID_UNKNOWN_ATTRIBUTES);
    CHECK(span_eq(list, span_of("\x7f\0\0\3\x7f\1", 6)));
    attrs_init(&a);
    attrs_bytes(&a, 0xFF00, "", 0);
    attrs_bytes(&a, STUN_ATTR_CHANNEL_NUMBER, "\x40\0\0\0", 4);
    attrs_bytes(&a, STUN_ATTR_PRIORITY, "\0\0\0\1", 4);
    attrs_bytes(&a, STUN_ATTR_USE_CANDIDATE, "", 0);
    attrs_bytes(&a, STUN_ATTR_ICE_CONTROLLED, "12345678", 8);
    attrs_bytes(&a, STUN_ATTR_ICE_CONTROLLING, "12345678", 8);
    CHECK_EQ(bind_request(&c, &a), 0);
    attrs_init(&a);
    attrs_bytes(&a, 0x7F00, "", 0);
    CHECK_EQ(bind_request(&c, &a), 420); /* STUN-ATTR-10: padded, not filled up */
    CHECK(span_eq(stun_msg_bytes(&c.msg, STUN_ID_UNKNOWN_ATTRIBUTES), span_of("\x7f\0", 2)));
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, 0x7F00, "", 0);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 401);
    CHECK_EQ(client_request(&c, STUN_ALLOCATE, &a), 420);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, STUN_ATTR_ACCESS_TOKEN, "token", 5); /* OAUTH-13 */
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_ALLOCATE, &a), 420);
    engine_stop(&e);
}

static int ask(struct client *c, uint16_t method, uint16_t type, const char *value, size_t len)
{
    struct attrs a;
    attrs_init(&a);
    if (method == STUN_ALLOCATE && type != STUN_ATTR_REQUESTED_TRANSPORT)
        attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, type, value, len);
    attrs_bytes(&a, STUN_ATTR_LIFETIME, "bad", 3); /* what is looked at last */
    client_new_tid(c);
    return client_request(c, method, &a);
}

/*
 * The order of RFC 8489 §6.3 and §9.2.4, RFC 8656 §5 and §7.2: each request is wrong in its own way
 * and in a later one. test_turn_auth has the order of authentication.
 */
static void test_order_of_evaluation(void)
{
    struct client c = begin();
    CHECK_EQ(ask(&c, STUN_REFRESH, 0x7F00, "", 0), 420);
    CHECK_EQ(ask(&c, STUN_REFRESH, STUN_ATTR_SOFTWARE, "", 0), 437);
    CHECK_EQ(ask(&c, STUN_ALLOCATE, STUN_ATTR_REQUESTED_TRANSPORT, "\1\0\0\0", 4), 442);
    CHECK_EQ(ask(&c, STUN_ALLOCATE, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\3\0\0\0", 4), 440);
    CHECK_EQ(ask(&c, STUN_ALLOCATE, STUN_ATTR_SOFTWARE, "", 0), 400);
    CHECK_EQ(client_allocate(&c), 0);
    struct client other = client_at(&e, "203.0.113.7:1", "mallory");
    CHECK_EQ(ask(&other, STUN_REFRESH, 0x7F00, "", 0), 420);
    CHECK_EQ(ask(&other, STUN_REFRESH, STUN_ATTR_SOFTWARE, "", 0), 441);
    CHECK_EQ(ask(&c, STUN_ALLOCATE, 0x7F00, "", 0), 420);
    CHECK_EQ(ask(&c, STUN_ALLOCATE, STUN_ATTR_REQUESTED_TRANSPORT, "\1\0\0\0", 4), 437);
    CHECK_EQ(ask(&c, STUN_REFRESH, STUN_ATTR_SOFTWARE, "", 0), 400);
    engine_stop(&e);
}

/* More unknown attributes than an answer can list: the answer still fits. */
static void test_many_unknown_attributes(void)
{
    struct client c = begin();
    struct attrs a;
    attrs_init(&a);
    for (uint16_t i = 0; i < 400; i++)
        attrs_bytes(&a, (uint16_t)(0x7000 + i), "", 0);
    CHECK_EQ(bind_request(&c, &a), 420);
    CHECK(c.reply_len < 548); /* STUN-MSG-16 */
    engine_stop(&e);
}

/* STUN-MSG-08, 09, 10, 20, STUN-BIND-06, vectors F1..F6, F9, F11..F16: nothing comes back. */
static void test_silent_drops(void)
{
    static const uint16_t types[] = {
        0x0000, 0x0002, 0x0005, 0x000D, 0x0FFF & 0x3EEF, 0x0006, 0x0007, 0x000C, /* requests */
        0x0011, 0x0013, 0x0014, 0x0017, 0x0018,          0x0019,                 /* indications */
        0x0101, 0x0111, 0x0103, 0x0113,                                          /* responses */
    };
    struct client c = begin();
    uint8_t bytes[64];
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        stun_begin(&w, types[i], c.tid);
        client_send(&c, bytes, w.pos);
    }
    static const uint8_t firsts[] = {4, 16, 19, 20, 63, 80, 127, 128, 191, 255};
    memset(bytes, 0, sizeof bytes);
    for (size_t i = 0; i < sizeof firsts; i++) {
        bytes[0] = firsts[i];
        client_send(&c, bytes, sizeof bytes);
    }
    static const char *const malformed[] = {
        "\0\1\0\4\x21\x12\xA4\x42\0\0\0\0\0\0\0\0\0\0\0\0",
        "\0\1\0\2\x21\x12\xA4\x42\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "\0\1\0\0\x21\x12\xA4\x42\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        "\0\1\0\0\x21\x12\xA4\x43\0\0\0\0\0\0\0\0\0\0\0\0",
        "\0\1\0\0\x21\x12\xA4\x42\0\0\0\0\0\0\0\0\0\0\0",
    };
    static const size_t lengths[] = {20, 22, 24, 20, 19};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        client_send(&c, malformed[i], lengths[i]);
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(e.to_peers, 0);
    /* all but the Binding indication are counted, and each once */
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_MALFORMED) +
                 engine_counter(&e, TURN_N_DROP_UNEXPECTED) +
                 engine_counter(&e, TURN_N_DROP_NO_ALLOCATION),
             sizeof types / sizeof *types - 1 + sizeof firsts + 5);
    engine_stop(&e);
}

/* What became of a datagram of malformed.txt: nothing, or a response of this class and code. */
static void check_outcome(const struct vector_record *r, const struct vector_line *want)
{
    struct client c = client_at(&e, "203.0.113.7:1", "alice");
    struct stun_msg m = {0};
    client_send(&c, r->bytes, r->len);
    if (strcmp(want->word[1], "drop") == 0) {
        CHECK_EQ(e.to_clients + e.to_peers, 0);
    } else {
        CHECK_EQ(e.to_clients, 1);
        CHECK_EQ(stun_msg_decode(&m, e.to_client[0].bytes, e.to_client[0].len, NULL), CT_OK);
        bool error = strcmp(want->word[1], "error") == 0;
        CHECK_EQ(m.cls, error ? STUN_ERROR : STUN_SUCCESS);
        struct span code = stun_msg_bytes(&m, STUN_ID_ERROR_CODE);
        CHECK(!error || code.data[2] * 100u + code.data[3] == vector_number(want->word[2]));
    }
    if (check_failures)
        printf("#   in %s\n", r->line[0].word[1]);
    engine_clear(&e);
}

/* STUN-MSG-02..10, STUN-ATTR-04, 05, 07, 08, STUN-FP-02, 03: the vectors, as a server takes them.
 */
static void test_malformed_vectors(void)
{
    (void)begin();
    struct vectors v = vectors_open("malformed.txt");
    struct vector_record r;
    unsigned dropped = 0, answered = 0;
    while (vectors_record(&v, &r)) {
        const struct vector_line *want = vector_find(&r, "server");
        /* requests that need credentials are in test_turn_auth_form */
        if (!want || strncmp(want->word[1], "un", 2) == 0 || strncmp(want->word[1], "au", 2) == 0)
            continue;
        bool binding = r.bytes[0] == 0 && r.bytes[1] == STUN_BINDING;
        if (strcmp(want->word[1], "drop") == 0)
            dropped++;
        else if (binding)
            answered++;
        else
            continue;
        check_outcome(&r, want);
    }
    CHECK(dropped >= 14 && answered >= 2);
    vectors_close(&v);
    engine_stop(&e);
}

/* TURN-GEN-05: data without an allocation. */
static void test_data_without_allocation(void)
{
    struct client c = begin();
    client_indication(&c, "198.51.100.1:1", "x");
    client_channel_data(&c, 0x4000, "x");
    CHECK_EQ(e.to_peers + e.to_clients, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_NO_ALLOCATION), 2);
    engine_stop(&e);
}

/* TURN-GEN-03: what needs an allocation, without one. */
static void test_requests_without_allocation(void)
{
    struct client c = begin();
    CHECK_EQ(client_refresh(&c, 600), 437);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(client_permit(&c, "198.51.100.1:1"), 437);
    CHECK_EQ(client_bind(&c, 0x4000, "198.51.100.1:1"), 437);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* TURN-GEN-02: the 5-tuple, all five of it. */
static void test_five_tuples(void)
{
    struct client c = begin();
    struct client other_server = c, other_transport = c, other_link = c;
    other_server.tuple.server = addr_of("192.0.2.1:3479");
    other_transport.tuple.transport = TURN_TCP;
    other_link.tuple.link = 9;
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(client_allocate(&other_server), 0);
    CHECK_EQ(client_allocate(&other_transport), 0);
    CHECK_EQ(client_allocate(&other_link), 0);
    CHECK_EQ(turn_server_allocations(e.server), 4);
    engine_stop(&e);
}

struct names {
    struct turn_visitor visitor;
    unsigned count;
    char last[64];
    uint64_t last_id;
    uint32_t permissions, channels;
};

static void visit(struct turn_visitor *v, const struct turn_alloc_info *info)
{
    struct names *n = (struct names *)(void *)v;
    n->count++;
    n->last_id = info->id;
    n->permissions += info->permissions;
    n->channels += info->channels;
    snprintf(n->last, sizeof n->last, "%.*s", (int)info->username.len,
             (const char *)info->username.data);
}

static struct names list(void)
{
    struct names n = {.visitor = {visit}};
    turn_server_list(e.server, &n.visitor, e.now);
    return n;
}

/* TURN-GEN-13: each method twice with one transaction id: the same answer, done once. */
static void test_every_method_twice(void)
{
    static const uint16_t methods[] = {STUN_ALLOCATE, STUN_CREATE_PERMISSION, STUN_CHANNEL_BIND,
                                       STUN_REFRESH, STUN_BINDING};
    struct client c = begin();
    struct attrs a;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        client_new_tid(&c);
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
        attrs_u32(&a, STUN_ATTR_CHANNEL_NUMBER, 0x40000000u);
        attrs_peer(&a, &c, "198.51.100.1:1");
        for (int again = 0; again < 3; again++)
            CHECK_EQ(client_request(&c, methods[i], &a), 0);
    }
    struct names n = list();
    CHECK_EQ(n.count, 1);
    CHECK_EQ(n.permissions, 1);
    CHECK_EQ(n.channels, 1);
    CHECK_EQ(engine_open_relays(&e), 1);
    engine_stop(&e);
}

static void test_list_and_kill(void)
{
    struct client a = begin();
    struct client b = client_at(&e, "203.0.113.7:2", "bob"),
                  c = client_at(&e, "203.0.113.7:3", "bob");
    CHECK_EQ(list().count, 0);
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_bind(&a, 0x4000, "198.51.100.1:1"), 0);
    struct names n = list();
    CHECK_EQ(n.count, 1);
    CHECK_EQ(n.permissions, 1);
    CHECK_EQ(n.channels, 1);
    CHECK_STR(n.last, a.username);
    CHECK_EQ(client_allocate(&b), 0);
    CHECK_EQ(client_allocate(&c), 0);
    CHECK_EQ(list().count, 3);
    struct turn_selector nobody = {.user = span_str("carol")};
    CHECK_EQ(turn_server_kill(e.server, &nobody, e.now), 0);
    struct turn_selector bobs = {.user = span_str("bob")};
    CHECK_EQ(turn_server_kill(e.server, &bobs, e.now), 2);
    CHECK_EQ(e.last_end, TURN_END_KILLED);
    CHECK_EQ(client_refresh(&b, 600), 437);
    struct turn_selector by_id = {.id = list().last_id};
    CHECK_EQ(turn_server_kill(e.server, &by_id, e.now), 1);
    CHECK_EQ(client_allocate(&a), 0);
    struct turn_selector by_name = {.username = span_str(a.username)};
    CHECK_EQ(turn_server_kill(e.server, &by_name, e.now), 1);
    CHECK_EQ(client_allocate(&a), 0);
    struct turn_selector all = {0};
    CHECK_EQ(turn_server_kill(e.server, &all, e.now), 1);
    CHECK_EQ(list().count, 0);
    CHECK_EQ(engine_open_relays(&e), 0);
    engine_stop(&e);
}

/* A connection that closes takes its allocation with it, and no other. */
static void test_connection_gone(void)
{
    struct client a = begin();
    struct client b = client_at(&e, "203.0.113.7:2", "bob");
    a.tuple.transport = TURN_TCP;
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_allocate(&b), 0);
    CHECK(turn_server_holds(e.server, &a.tuple, e.now));
    turn_server_gone(e.server, &a.tuple, e.now);
    CHECK_EQ(e.last_end, TURN_END_CLOSED);
    CHECK_EQ(engine_counter(&e, TURN_N_CLOSED), 1);
    CHECK_EQ(engine_open_relays(&e), 1);
    CHECK(!turn_server_holds(e.server, &a.tuple, e.now));
    CHECK(turn_server_holds(e.server, &b.tuple, e.now));
    turn_server_gone(e.server, &a.tuple, e.now);
    CHECK_EQ(e.ended, 1);
    engine_stop(&e);
}

static void test_drain(void)
{
    struct client a = begin();
    struct client b = client_at(&e, "203.0.113.7:2", "bob");
    CHECK_EQ(client_allocate(&a), 0);
    turn_server_drain(e.server, true);
    CHECK_EQ(client_allocate(&b), 508);
    CHECK_EQ(client_refresh(&a, 600), 0);
    CHECK_EQ(client_bind(&a, 0x4000, "198.51.100.1:1"), 0);
    turn_server_drain(e.server, false);
    CHECK_EQ(client_allocate(&b), 0);
    engine_stop(&e);
}

/* Allocations that are alive when the engine goes are told, and closed. */
static void test_shutdown(void)
{
    struct client a = begin();
    CHECK_EQ(client_allocate(&a), 0);
    CHECK_EQ(client_bind(&a, 0x4000, "198.51.100.1:1"), 0);
    engine_stop(&e);
    CHECK_EQ(e.last_end, TURN_END_SHUTDOWN);
}

/* A long sleep of the machine: everything that was due is done at once. */
static void test_long_sleep(void)
{
    struct client a = begin();
    for (uint16_t port = 1; port <= 100; port++) {
        a.tuple.client.port = port;
        *a.nonce = 0;
        CHECK_EQ(client_allocate(&a), 0);
        engine_pass(&e, 1000);
    }
    e.now.ms += 100000000;
    turn_server_expire(e.server, e.now);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    CHECK_EQ(turn_server_deadline(e.server), UINT64_MAX);
    engine_stop(&e);
}

static void test_counter_names(void)
{
    for (int i = 0; i < TURN_N_COUNT; i++)
        CHECK(turn_counter_name((enum turn_counter)i) != NULL);
    CHECK_STR(turn_counter_name(TURN_N_UP_PACKETS), "up_packets");
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_bytes_of_an_answer),
        CHECK_TEST(test_binding),
        CHECK_TEST(test_many_bindings),
        CHECK_TEST(test_long_software),
        CHECK_TEST(test_hidden_software),
        CHECK_TEST(test_binding_on_an_allocation),
        CHECK_TEST(test_unknown_attributes),
        CHECK_TEST(test_order_of_evaluation),
        CHECK_TEST(test_many_unknown_attributes),
        CHECK_TEST(test_silent_drops),
        CHECK_TEST(test_malformed_vectors),
        CHECK_TEST(test_data_without_allocation),
        CHECK_TEST(test_requests_without_allocation),
        CHECK_TEST(test_five_tuples),
        CHECK_TEST(test_every_method_twice),
        CHECK_TEST(test_list_and_kill),
        CHECK_TEST(test_connection_gone),
        CHECK_TEST(test_drain),
        CHECK_TEST(test_shutdown),
        CHECK_TEST(test_long_sleep),
        CHECK_TEST(test_counter_names),
    };
    return CHECK_RUN(tests);
}
