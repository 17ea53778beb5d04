/* Messages without the magic cookie: conformance.md STUN-CLS, DTLS-07. */
#include "engine.h"

static struct engine e;

static void begin(bool on)
{
    engine_init(&e);
    e.config.classic_stun = on;
    engine_start(&e);
}

static const uint8_t id[16] = "sixteen byte id.";

/* A message with that id; its attributes are those of `a`, if any. */
static size_t encode(uint16_t type, const struct attrs *a, uint8_t bytes[256])
{
    struct wbuf w = wbuf_of(bytes, 256);
    size_t len = a ? a->w.pos - STUN_HEADER_SIZE : 0;
    wbuf_u16(&w, type);
    wbuf_u16(&w, (uint16_t)len);
    wbuf_bytes(&w, id, sizeof id);
    if (a)
        wbuf_bytes(&w, a->bytes + STUN_HEADER_SIZE, len);
    CHECK(!w.failed);
    return w.pos;
}

/* The answer that comes, decoded; false when there is none. */
static bool ask(enum turn_transport transport, uint16_t type, const struct attrs *a,
                struct stun_msg *out)
{
    static uint8_t bytes[256];
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.tuple.transport = (uint8_t)transport;
    size_t before = e.to_clients;
    client_send(&c, bytes, encode(type, a, bytes));
    if (e.to_clients == before)
        return false;
    const struct sent *s = &e.to_client[before % ENGINE_OUT_MAX];
    CHECK_EQ(e.to_clients, before + 1);
    CHECK(memcmp(&s->tuple, &c.tuple, sizeof c.tuple) == 0);
    CHECK_EQ(stun_msg_decode(out, s->bytes, s->len, NULL), CT_ECOOKIE);
    CHECK_EQ(stun_msg_decode_classic(out, s->bytes, s->len), CT_OK);
    CHECK(stun_msg_is_classic(out));
    CHECK_BYTES(s->bytes + 4, id, sizeof id);
    return true;
}

static int code_of(const struct stun_msg *m)
{
    struct span code = stun_msg_bytes(m, STUN_ID_ERROR_CODE);
    return code.len >= 4 ? code.data[2] * 100 + code.data[3] : 0;
}

/* STUN-CLS-01: the id's 16 bytes and MAPPED-ADDRESS come back. */
static void test_binding(void)
{
    begin(true);
    struct stun_msg m;
    struct addr mapped, want = addr_of("203.0.113.7:5000");
    CHECK(ask(TURN_UDP, 0x0001, NULL, &m));
    CHECK_EQ(m.type, 0x0101);
    CHECK_EQ(stun_msg_addr(&m, STUN_ID_MAPPED_ADDRESS, &mapped), CT_OK);
    CHECK(addr_eq(&mapped, &want));
    CHECK(!stun_msg_has(&m, STUN_ID_XOR_MAPPED_ADDRESS));
    CHECK(!stun_msg_has(&m, STUN_ID_FINGERPRINT));
    CHECK_EQ(engine_counter(&e, TURN_N_BINDINGS), 1);
    engine_stop(&e);
}

/* STUN-CLS-01: off unless it was asked for, and never over anything but UDP. */
static void test_dropped(void)
{
    struct stun_msg m;
    begin(false);
    CHECK(!ask(TURN_UDP, 0x0001, NULL, &m));
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_MALFORMED), 1);
    engine_stop(&e);
    begin(true);
    CHECK(!ask(TURN_TCP, 0x0001, NULL, &m));
    CHECK(!ask(TURN_TLS, 0x0001, NULL, &m));
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_MALFORMED), 2);
    engine_stop(&e);
}

/* STUN-CLS-02: no TURN method, no indication, no response, nothing that is not well formed. */
static void test_binding_only(void)
{
    begin(true);
    static const uint16_t types[] = {0x0003, 0x0004, 0x0006, 0x0008, 0x0009, 0x0002,
                                     0x0016, 0x0011, 0x0101, 0x0111, 0x000a};
    struct stun_msg m;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        CHECK(!ask(TURN_UDP, types[i], NULL, &m));
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    uint8_t bytes[256];
    for (size_t len = 1; len < 20; len++) {
        encode(0x0001, NULL, bytes);
        client_send(&c, bytes, len);
    }
    encode(0x0001, NULL, bytes);
    bytes[3] = 4; /* an attribute's header that is not there */
    client_send(&c, bytes, 20);
    CHECK_EQ(e.to_clients, 0);
    engine_stop(&e);
}

static bool unknown_are(const struct stun_msg *m, const char *types, size_t len)
{
    return span_eq(stun_msg_bytes(m, STUN_ID_UNKNOWN_ATTRIBUTES), span_of(types, len));
}

/* STUN-CLS-04: RESPONSE-ADDRESS and a change of address are unknown; RFC 3489 lists whole words. */
static void test_unknown(void)
{
    begin(true);
    struct attrs a;
    struct stun_msg m;
    attrs_init(&a);
    attrs_bytes(&a, 0x0002, "\0\1\x13\x88\xc0\0\2\1", 8);
    CHECK(ask(TURN_UDP, 0x0001, &a, &m));
    CHECK_EQ(m.type, 0x0111);
    CHECK_EQ(code_of(&m), 420);
    CHECK(unknown_are(&m, "\0\2\0\2", 4));
    attrs_u32(&a, STUN_ATTR_CHANGE_REQUEST, 6);
    CHECK(ask(TURN_UDP, 0x0001, &a, &m));
    CHECK(unknown_are(&m, "\0\2\0\3", 4));
    engine_stop(&e);
}

/* Clients of RFC 3489 send CHANGE-REQUEST always; without a change it is as good as none. */
static void test_no_change(void)
{
    begin(true);
    struct stun_msg m;
    for (uint32_t change = 0; change < 8; change++) {
        struct attrs a;
        attrs_init(&a);
        attrs_u32(&a, STUN_ATTR_CHANGE_REQUEST, change);
        CHECK(ask(TURN_UDP, 0x0001, &a, &m));
        CHECK_EQ(code_of(&m), change & 6 ? 420 : 0);
    }
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_CHANGE_REQUEST, "abc", 3);
    CHECK(ask(TURN_UDP, 0x0001, &a, &m));
    CHECK_EQ(code_of(&m), 420);
    engine_stop(&e);
}

/* STUN-CLS-03, DTLS-07: any request is told 500, whatever the option says; nothing else is. */
static void test_dtls(void)
{
    static const uint16_t requests[] = {0x0001, 0x0003, 0x0004, 0x0008, 0x0009, 0x0002, 0x000f};
    static const uint16_t others[] = {0x0011, 0x0016, 0x0101, 0x0111};
    for (unsigned on = 0; on < 2; on++) {
        begin(on);
        struct stun_msg m;
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            CHECK(ask(TURN_DTLS, requests[i], NULL, &m));
            CHECK_EQ(m.cls, STUN_ERROR);
            CHECK_EQ(m.method, stun_type_method(requests[i]));
            CHECK_EQ(code_of(&m), 500);
        }
        for (size_t i = 0; i < sizeof others / sizeof *others; i++)
            CHECK(!ask(TURN_DTLS, others[i], NULL, &m));
        CHECK_EQ(turn_server_allocations(e.server), 0);
        engine_stop(&e);
    }
}

/* With the cookie all is as ever. */
static void test_the_others(void)
{
    begin(true);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    struct stun_msg m;
    CHECK_EQ(client_send_request(&c, STUN_BINDING, NULL), 0);
    CHECK(stun_msg_has(&c.msg, STUN_ID_XOR_MAPPED_ADDRESS));
    CHECK(!stun_msg_has(&c.msg, STUN_ID_MAPPED_ADDRESS) && !stun_msg_is_classic(&c.msg));
    CHECK_EQ(stun_msg_decode_classic(&m, c.reply, c.reply_len), CT_ECOOKIE);
    CHECK_EQ(client_allocate(&c), 0);
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, 0x0002, "\0\1\x13\x88\xc0\0\2\1", 8);
    CHECK_EQ(client_send_request(&c, STUN_BINDING, &a), 420);
    CHECK(unknown_are(&c.msg, "\0\2", 2));
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CHANGE_REQUEST, 0);
    CHECK_EQ(client_send_request(&c, STUN_BINDING, &a), 420);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_binding),    CHECK_TEST(test_dropped),   CHECK_TEST(test_binding_only),
        CHECK_TEST(test_unknown),    CHECK_TEST(test_no_change), CHECK_TEST(test_dtls),
        CHECK_TEST(test_the_others),
    };
    return CHECK_RUN(tests);
}
