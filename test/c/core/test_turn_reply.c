/* Responses are finished the same way whatever they say. */
#include "engine.h"

#include "core/turn_reply.h"

static struct engine e;

static void decode_last(struct stun_msg *m)
{
    const struct sent *s = &e.to_client[(e.to_clients - 1) % ENGINE_OUT_MAX];
    CHECK_EQ(stun_msg_decode(m, s->bytes, s->len, NULL), CT_OK);
}

static void test_endings(void)
{
    engine_init(&e);
    engine_start(&e);
    for (unsigned bits = 0; bits < 8; bits++) {
        uint8_t bytes[64];
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        struct turn_tuple tuple = {.client = addr_of("203.0.113.7:5")};
        struct stun_msg request, reply;
        stun_begin(&w, stun_type(STUN_REFRESH, STUN_REQUEST), (const uint8_t *)"0123456789ab");
        if (bits & 1)
            stun_put_fingerprint(&w);
        CHECK_EQ(stun_msg_decode(&request, bytes, w.pos, NULL), CT_OK);
        struct turn_request r = {.tuple = &tuple, .msg = &request, .now = e.now};
        r.auth.protect = bits & 2;
        r.auth.reply = bits & 4 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
        r.auth.key = (struct stun_key){.bytes = "k", .len = 1};
        turn_reply_ok(e.server, &r);
        decode_last(&reply);
        CHECK_EQ(reply.type, stun_type(STUN_REFRESH, STUN_SUCCESS));
        CHECK_EQ(stun_msg_has(&reply, STUN_ID_FINGERPRINT), bits & 1);
        CHECK_EQ(stun_msg_has(&reply, STUN_ID_MESSAGE_INTEGRITY), (bits & 6) == 2);
        CHECK_EQ(stun_msg_has(&reply, STUN_ID_MESSAGE_INTEGRITY_SHA256), (bits & 6) == 6);
        if (bits & 2)
            CHECK_EQ(stun_check_integrity(e.crypto, &reply, r.auth.reply, &r.auth.key), CT_OK);
        turn_reply_error(e.server, &r, STUN_FORBIDDEN);
        decode_last(&reply);
        CHECK(
            span_eq(stun_msg_bytes(&reply, STUN_ID_ERROR_CODE), span_of("\0\0\4\3Forbidden", 13)));
    }
    CHECK_EQ(engine_counter(&e, TURN_N_ERRORS), 8);
    CHECK_EQ(engine_counter(&e, TURN_N_FORBIDDEN), 8);
    engine_stop(&e);
}

/* What is answered later is answered as if it were answered now. */
static void test_deferred(void)
{
    engine_init(&e);
    engine_start(&e);
    for (unsigned bits = 0; bits < 8; bits++) {
        uint8_t bytes[64];
        struct wbuf w = wbuf_of(bytes, sizeof bytes);
        struct turn_tuple tuple = {.client = addr_of("203.0.113.7:5")};
        struct stun_msg request;
        struct turn_deferred later;
        struct turn_resumed resumed;
        stun_begin(&w, stun_type(STUN_CONNECT, STUN_REQUEST), (const uint8_t *)"0123456789ab");
        stun_put_u32(&w, STUN_ATTR_LIFETIME, 600); /* no answer takes it */
        if (bits & 1)
            stun_put_u32(&w, STUN_ATTR_TRANSMIT_COUNTER, 0x0300);
        if (bits & 2)
            stun_put_fingerprint(&w);
        CHECK_EQ(stun_msg_decode(&request, bytes, w.pos, NULL), CT_OK);
        struct turn_request r = {.tuple = &tuple, .msg = &request, .now = e.now};
        r.auth.protect = true;
        r.auth.reply = bits & 4 ? STUN_INTEGRITY_SHA256 : STUN_INTEGRITY_SHA1;
        r.auth.key = (struct stun_key){.bytes = "k", .len = 1};
        engine_clear(&e);
        turn_reply_ok(e.server, &r);
        turn_reply_defer(&later, &r);
        memset(bytes, 0, sizeof bytes);
        turn_reply_resume(&resumed, &later, &tuple);
        turn_reply_ok(e.server, &resumed.request);
        turn_reply_end(&resumed, &later);
        CHECK_EQ(e.to_clients, 2);
        CHECK_EQ(e.to_client[1].len, e.to_client[0].len);
        CHECK_BYTES(e.to_client[1].bytes, e.to_client[0].bytes, e.to_client[0].len);
        CHECK_BYTES(&e.to_client[1].tuple, &tuple, sizeof tuple);
        CHECK(later.key.len == 0 && resumed.request.auth.key.len == 0);
    }
    engine_stop(&e);
}

static void test_unserved(void)
{
    uint8_t bytes[64];
    struct wbuf w = wbuf_of(bytes, sizeof bytes);
    struct stun_msg m;
    stun_begin(&w, stun_type(STUN_BINDING, STUN_REQUEST), (const uint8_t *)"0123456789ab");
    stun_put(&w, STUN_ATTR_PADDING, "abcd", 4);
    stun_put(&w, STUN_ATTR_CHANGE_REQUEST, "abcd", 4);
    stun_put(&w, STUN_ATTR_ACCESS_TOKEN, NULL, 0);
    stun_put(&w, 0x7F00, NULL, 0);
    stun_put(&w, 0xFF00, NULL, 0);
    stun_put(&w, STUN_ATTR_LIFETIME, "abcd", 4);
    CHECK_EQ(stun_msg_decode(&m, bytes, w.pos, NULL), CT_OK);
    CHECK_EQ(turn_unserved(&m, 0), 4);
    CHECK_EQ(turn_unserved(&m, TURN_SERVES_TOKENS), 3);
    CHECK_EQ(turn_unserved(&m, TURN_SERVES_NO_CHANGE), 3);
    CHECK_EQ(turn_unserved(&m, TURN_SERVES_DISCOVERY), 2);
    CHECK_EQ(turn_unserved(&m, TURN_SERVES_DISCOVERY | TURN_SERVES_TOKENS), 1);
}

/* STUN-ATTR-22: Req comes back and Resp is 0, in every answer to who asked, and to nobody else. */
static void test_transmit_counter(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    uint32_t counter = 1;
    struct attrs a, wrong;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_TRANSMIT_COUNTER, 0x7fff0307);
    attrs_init(&wrong);
    attrs_bytes(&wrong, STUN_ATTR_TRANSMIT_COUNTER, "abc", 3);
    static const int codes[] = {0, 401, 0, 437};
    static const uint16_t methods[] = {STUN_BINDING, STUN_ALLOCATE, STUN_ALLOCATE, STUN_ALLOCATE};
    for (size_t i = 0; i < 4; i++) {
        if (i == 2) {
            client_learn(&c);
            attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
        }
        client_new_tid(&c);
        CHECK_EQ(client_send_request(&c, methods[i], &a), codes[i]);
        CHECK_EQ(stun_msg_u32(&c.msg, STUN_ID_TRANSMIT_COUNTER, &counter), CT_OK);
        CHECK_EQ(counter, 0x0300);
    }
    CHECK_EQ(client_send_request(&c, STUN_BINDING, &wrong), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_TRANSMIT_COUNTER));
    CHECK_EQ(client_send_request(&c, STUN_BINDING, NULL), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_TRANSMIT_COUNTER));
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {CHECK_TEST(test_endings), CHECK_TEST(test_deferred),
                                       CHECK_TEST(test_unserved),
                                       CHECK_TEST(test_transmit_counter)};
    return CHECK_RUN(tests);
}
