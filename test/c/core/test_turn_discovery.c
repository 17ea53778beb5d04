/* NAT behaviour discovery: conformance.md NBD. */
#include "engine.h"

#include "core/turn_discovery.h"

static struct engine e;

static const char *const places[] = {"192.0.2.1:3478", "192.0.2.1:3479", "192.0.2.2:3478",
                                     "192.0.2.2:3479"};

static void begin(void)
{
    engine_init(&e);
    e.config.discovery.on = true;
    for (uint32_t i = 0; i < TURN_DISCOVERY_PLACES; i++) {
        e.config.discovery.at[i] = addr_of(places[i]);
        e.config.discovery.link[i] = i == 0 ? 0 : 4 + i;
    }
    engine_start(&e);
}

/* A client that asks one of the four. */
static struct client at_place(unsigned place)
{
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.tuple.server = addr_of(places[place]);
    c.tuple.link = e.config.discovery.link[place];
    return c;
}

struct answer {
    const struct sent *sent;
    struct stun_msg msg;
    int code; /* 0 or the error; NO_REPLY */
};

static struct answer ask(struct client *c, const struct attrs *a)
{
    struct answer got = {.code = NO_REPLY};
    uint8_t bytes[ENGINE_BYTES_MAX];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    size_t before = e.to_clients;
    client_new_tid(c);
    stun_begin(&w, stun_type(STUN_BINDING, STUN_REQUEST), c->tid);
    wbuf_bytes(&w, a->bytes + STUN_HEADER_SIZE, a->w.pos - STUN_HEADER_SIZE);
    wbuf_patch_u16(&w, 2, (uint16_t)(w.pos - STUN_HEADER_SIZE));
    client_send(c, bytes, w.pos);
    if (e.to_clients == before)
        return got;
    got.sent = &e.to_client[before % ENGINE_OUT_MAX];
    CHECK_EQ(stun_msg_decode(&got.msg, got.sent->bytes, got.sent->len, NULL), CT_OK);
    struct span code = stun_msg_bytes(&got.msg, STUN_ID_ERROR_CODE);
    got.code = code.data ? code.data[2] * 100 + code.data[3] : 0;
    return got;
}

static struct answer ask_u32(struct client *c, uint16_t type, uint32_t v)
{
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, type, v);
    return ask(c, &a);
}

static struct answer ask_bytes(struct client *c, uint16_t type, const void *v, size_t len)
{
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, type, v, len);
    return ask(c, &a);
}

static bool is(const struct answer *got, enum stun_attr_id id, const char *want)
{
    struct addr a, w = addr_of(want);
    return stun_msg_addr(&got->msg, id, &a) == CT_OK && addr_eq(&a, &w);
}

/* NBD-02..05, 07, 12: from each of the four, to each of the four. */
static void test_matrix(void)
{
    static const struct {
        uint32_t flags;
        unsigned other;
    } changes[] = {{0, 0}, {2, TURN_OTHER_PORT}, {4, TURN_OTHER_IP}, {6, 3}, {0xFFFFFFF9, 0}};
    begin();
    for (unsigned place = 0; place < 4; place++) {
        for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
            struct client c = at_place(place);
            unsigned from = place ^ changes[i].other;
            struct addr want = addr_of(places[from]);
            struct answer got = ask_u32(&c, STUN_ATTR_CHANGE_REQUEST, changes[i].flags);
            CHECK_EQ(got.code, 0);
            CHECK(is(&got, STUN_ID_XOR_MAPPED_ADDRESS, "203.0.113.7:5000"));
            CHECK(is(&got, STUN_ID_MAPPED_ADDRESS, "203.0.113.7:5000"));
            CHECK(is(&got, STUN_ID_RESPONSE_ORIGIN, places[from]));
            CHECK(is(&got, STUN_ID_OTHER_ADDRESS, places[place ^ 3]));
            CHECK(!stun_msg_has(&got.msg, STUN_ID_ALTERNATE_SERVER));
            CHECK(addr_eq(&got.sent->tuple.server, &want));
            CHECK_EQ(got.sent->tuple.link, e.config.discovery.link[from]);
            CHECK(addr_eq(&got.sent->tuple.client, &c.tuple.client));
        }
    }
    CHECK_EQ(engine_counter(&e, TURN_N_BINDINGS), 20);
    engine_stop(&e);
}

/* NBD-06, 13, 16: where answers can leave from one address only, 420, and none of the attributes.
 */
static void test_elsewhere(void)
{
    begin();
    struct client plain = client_at(&e, "203.0.113.7:5000", "alice"), tcp = at_place(0);
    struct attrs none;
    attrs_init(&none);
    plain.tuple.server = addr_of("192.0.2.1:5555");
    tcp.tuple.transport = TURN_TCP;
    struct client *both[] = {&plain, &tcp};
    for (size_t i = 0; i < 2; i++) {
        struct answer got = ask(both[i], &none);
        CHECK_EQ(got.code, 0);
        CHECK(!stun_msg_has(&got.msg, STUN_ID_OTHER_ADDRESS));
        CHECK(!stun_msg_has(&got.msg, STUN_ID_RESPONSE_ORIGIN));
        got = ask_u32(both[i], STUN_ATTR_CHANGE_REQUEST, 6);
        CHECK_EQ(got.code, 420);
        CHECK(span_eq(stun_msg_bytes(&got.msg, STUN_ID_UNKNOWN_ATTRIBUTES), span_of("\0\3", 2)));
        CHECK_EQ(ask_bytes(both[i], STUN_ATTR_RESPONSE_PORT, "\x12\x34", 2).code, 420);
        CHECK_EQ(ask_bytes(both[i], STUN_ATTR_PADDING, "pad!", 4).code, 420);
    }
    /* and in other requests, wherever they come to */
    struct client c = at_place(0);
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CHANGE_REQUEST, 6);
    CHECK_EQ(client_allocate_with(&c, &a), 420);
    struct answer both_kinds = ask_bytes(&c, STUN_ATTR_ACCESS_TOKEN, "x", 1);
    CHECK_EQ(both_kinds.code, 420);
    engine_stop(&e);
}

/* NBD-08, 09: to another port of the same address; not together with PADDING. */
static void test_response_port(void)
{
    begin();
    struct client c = at_place(0);
    static const struct {
        const char *value;
        size_t len;
        uint16_t port; /* 0: 400 */
    } cases[] = {{"\x12\x34", 2, 0x1234},
                 {"\x12\x34\xff\xff", 4, 0x1234},
                 {"\0\0", 2, 0},
                 {"", 0, 0},
                 {"\x12", 1, 0},
                 {"\x12\x34\0", 3, 0},
                 {"\x12\x34\0\0\0\0", 6, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer got = ask_bytes(&c, STUN_ATTR_RESPONSE_PORT, cases[i].value, cases[i].len);
        CHECK_EQ(got.code, cases[i].port ? 0 : 400);
        CHECK_EQ(got.sent->tuple.client.port, cases[i].port ? cases[i].port : 5000);
        CHECK(addr_ip_eq(&got.sent->tuple.client, &c.tuple.client));
    }
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_RESPONSE_PORT, "\x12\x34", 2);
    attrs_bytes(&a, STUN_ATTR_PADDING, "pad!", 4);
    CHECK_EQ(ask(&c, &a).code, 400);
    CHECK_EQ(ask_bytes(&c, STUN_ATTR_CHANGE_REQUEST, "\0\0", 2).code, 400);
    engine_stop(&e);
}

/* NBD-10, 11: as long as asked for, up to a large packet, in steps of four. */
static void test_padding(void)
{
    static const uint8_t zeros[1800];
    static const size_t lengths[][2] = {{0, 0},       {1, 0},       {4, 4},       {7, 4},
                                        {1400, 1400}, {1500, 1500}, {1504, 1500}, {1800, 1500}};
    begin();
    memset(e.config.software, 's', TURN_SOFTWARE_MAX);
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct client c = at_place(i % 4);
        struct answer got = ask_bytes(&c, STUN_ATTR_PADDING, zeros, lengths[i][0]);
        CHECK_EQ(got.code, 0);
        CHECK(stun_msg_has(&got.msg, STUN_ID_PADDING));
        CHECK_EQ(stun_msg_bytes(&got.msg, STUN_ID_PADDING).len, lengths[i][1]);
    }
    engine_stop(&e);
}

/* Behind a 1:1 NAT clients are told the addresses they can reach. */
static void test_external(void)
{
    begin();
    e.config.relays[0].external = addr_of("198.51.100.9");
    struct client c = at_place(0);
    struct answer got = ask_u32(&c, STUN_ATTR_CHANGE_REQUEST, 2);
    CHECK(is(&got, STUN_ID_RESPONSE_ORIGIN, "198.51.100.9:3479"));
    CHECK(is(&got, STUN_ID_OTHER_ADDRESS, places[3]));
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_matrix),  CHECK_TEST(test_elsewhere), CHECK_TEST(test_response_port),
        CHECK_TEST(test_padding), CHECK_TEST(test_external),
    };
    return CHECK_RUN(tests);
}
