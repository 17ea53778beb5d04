/* Mobility: conformance.md MOB. */
#include "engine.h"

#include <ctype.h>

static struct engine e;

static const char *const peer = "198.51.100.1:7";

struct ticket {
    uint8_t bytes[128];
    size_t len;
};

static void begin(void)
{
    engine_init(&e);
    e.config.mobility = true;
    engine_start(&e);
}

static struct ticket ticket_of(const struct client *c)
{
    struct ticket t = {.len = 0};
    struct span v = stun_msg_bytes(&c->msg, STUN_ID_MOBILITY_TICKET);
    CHECK(v.len > 0 && v.len <= sizeof t.bytes);
    if (v.data)
        memcpy(t.bytes, v.data, v.len);
    t.len = v.len;
    return t;
}

static int allocate_with_ticket(struct client *c, const char *value)
{
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, value, strlen(value));
    return client_allocate_with(c, &a);
}

/* A client with an allocation, a permission, a channel and a ticket. */
static struct client mobile(struct ticket *t)
{
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(allocate_with_ticket(&c, ""), 0);
    *t = ticket_of(&c);
    CHECK_EQ(client_bind(&c, 0x4000, peer), 0);
    CHECK_EQ(client_permit(&c, "198.51.100.2:1"), 0);
    return c;
}

/* The same client at another address; it has yet to learn a nonce. */
static struct client moved(const struct client *c, const char *to)
{
    struct client m = *c;
    m.tuple.client = addr_of(to);
    m.nonce[0] = 0;
    return m;
}

static int refresh_with(struct client *c, const struct ticket *t)
{
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, t->bytes, t->len);
    client_new_tid(c);
    return client_request(c, STUN_REFRESH, &a);
}

/* MOB-01, 05: only who asks gets one, also when asking again. */
static void test_ticket(void)
{
    begin();
    struct client c = client_at(&e, "203.0.113.7:5000", "alice"), d = c;
    CHECK_EQ(allocate_with_ticket(&c, ""), 0);
    struct ticket first = ticket_of(&c);
    CHECK(c.reply_len < 548);
    CHECK_EQ(first.len, 32); /* the longest that turnutils_uclient takes, which takes text */
    for (size_t i = 0; i < first.len; i++)
        CHECK(isalnum(first.bytes[i]) || first.bytes[i] == '-' || first.bytes[i] == '_');
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, "", 0);
    CHECK_EQ(client_send_request(&c, STUN_ALLOCATE, &a), 0);
    struct ticket again = ticket_of(&c);
    CHECK(first.len == again.len && memcmp(first.bytes, again.bytes, first.len) == 0);
    d.tuple.client.port++;
    CHECK_EQ(client_allocate(&d), 0);
    CHECK(!stun_msg_has(&d.msg, STUN_ID_MOBILITY_TICKET));
    engine_stop(&e);
}

/* MOB-02, 03, 10: forbidden, malformed, forbidden later. */
static void test_refusals(void)
{
    engine_init(&e);
    engine_start(&e);
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(allocate_with_ticket(&c, ""), 405);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK_EQ(allocate_with_ticket(&c, "x"), 400);
    CHECK_EQ(client_allocate(&c), 0);
    engine_stop(&e);
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    struct turn_config off = e.config;
    off.mobility = false;
    turn_server_configure(e.server, &off);
    CHECK_EQ(refresh_with(&new, &t), 405);
    CHECK_EQ(client_refresh(&old, 600), 0);
    engine_stop(&e);
}

/* MOB-06, 11, 12, 14: both 5-tuples until data comes from the new one, then only that. */
static void test_move(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "[2001:db8:1::9]:6000");
    CHECK_EQ(refresh_with(&new, &t), 0);
    struct ticket next = ticket_of(&new);
    CHECK(next.len == t.len && memcmp(next.bytes, t.bytes, t.len) != 0);
    peer_send(&old, peer, "to the old one");
    CHECK(got_channel_data(&old, 0x4000, "to the old one"));
    client_channel_data(&old, 0x4000, "from the old one");
    CHECK(peer_got(&old, peer, "from the old one"));
    CHECK_EQ(client_permit(&new, "198.51.100.3:1"), 0);
    peer_send(&old, "198.51.100.3:9", "still the old one");
    CHECK(got_indication(&old, "198.51.100.3:9", "still the old one"));

    client_channel_data(&new, 0x4000, "here I am");
    CHECK(peer_got(&new, peer, "here I am"));
    CHECK_EQ(engine_counter(&e, TURN_N_MOVED), 1);
    peer_send(&new, peer, "to the new one");
    CHECK(got_channel_data(&new, 0x4000, "to the new one"));
    peer_send(&new, "198.51.100.2:9", "permitted before");
    CHECK(got_indication(&new, "198.51.100.2:9", "permitted before"));
    engine_clear(&e);
    client_channel_data(&old, 0x4000, "gone");
    CHECK_EQ(e.to_peers, 0);
    CHECK_EQ(client_refresh(&old, 600), 437);
    CHECK_EQ(client_refresh(&new, 600), 0);
    CHECK(!stun_msg_has(&new.msg, STUN_ID_MOBILITY_TICKET));
    CHECK_EQ(turn_server_allocations(e.server), 1);

    struct client third = moved(&new, "203.0.113.7:5000"); /* back again, by a Send indication */
    CHECK_EQ(refresh_with(&third, &t), 400);
    CHECK_EQ(refresh_with(&third, &next), 0);
    client_indication(&third, peer, "back");
    CHECK(peer_got(&third, peer, "back"));
    CHECK_EQ(client_refresh(&new, 600), 437);
    CHECK_EQ(client_refresh(&third, 0), 0);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* MOB-13: the Refresh sent again, before and after the first data; with another transaction 400. */
static void test_retransmission(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, t.bytes, t.len);
    client_new_tid(&new);
    CHECK_EQ(client_request(&new, STUN_REFRESH, &a), 0);
    struct ticket next = ticket_of(&new);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(client_send_request(&new, STUN_REFRESH, &a), 0);
        struct ticket again = ticket_of(&new);
        CHECK_BYTES(again.bytes, next.bytes, next.len);
        engine_pass(&e, 29 * 1000);
        if (i == 0)
            client_channel_data(&new, 0x4000, "here");
    }
    CHECK_EQ(refresh_with(&new, &t), 400);
    CHECK_EQ(refresh_with(&new, &next), 400); /* MOB-08: nothing has changed */
    engine_stop(&e);
}

/* A copy of the Allocate that comes late, when its 5-tuple has been left, makes no other one. */
static void test_late_copy(void)
{
    begin();
    struct client old = client_at(&e, "203.0.113.7:5000", "alice");
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, "", 0);
    CHECK_EQ(client_request(&old, STUN_ALLOCATE, &a), 0);
    struct ticket t = ticket_of(&old);
    struct client copy = old;
    CHECK_EQ(client_bind(&old, 0x4000, peer), 0);
    struct client new = moved(&old, "203.0.113.99:1");
    CHECK_EQ(refresh_with(&new, &t), 0);
    CHECK_EQ(client_send_request(&copy, STUN_ALLOCATE, &a), 0); /* still the allocation's */
    client_channel_data(&new, 0x4000, "here");
    CHECK_EQ(client_send_request(&copy, STUN_ALLOCATE, &a), 437);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    engine_pass(&e, 40 * 1000);
    CHECK_EQ(client_allocate(&old), 0);
    engine_stop(&e);
}

/* A client that moves on before its first datagram has come: the 5-tuple between is forgotten. */
static void test_second_thought(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), b = moved(&old, "203.0.113.99:1");
    struct client c = moved(&old, "203.0.113.100:1");
    CHECK_EQ(refresh_with(&b, &t), 0);
    struct ticket next = ticket_of(&b);
    CHECK_EQ(refresh_with(&c, &next), 0);
    engine_clear(&e);
    client_channel_data(&b, 0x4000, "from between");
    CHECK_EQ(e.to_peers, 0);
    peer_send(&old, peer, "old");
    CHECK(got_channel_data(&old, 0x4000, "old"));
    client_channel_data(&c, 0x4000, "from the last");
    CHECK(peer_got(&c, peer, "from the last"));
    engine_stop(&e);
}

/* MOB-07, 08, 15: what is no ticket, or not any more; bits and lengths. */
static void test_bad_tickets(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    CHECK_EQ(refresh_with(&old, &t), 400);
    for (size_t i = 0; i < t.len; i++) {
        struct ticket bent = t;
        for (unsigned bit = 0; bit < 8; bit++) {
            bent.bytes[i] = (uint8_t)(t.bytes[i] ^ 1u << bit);
            CHECK_EQ(refresh_with(&new, &bent), 400);
        }
        bent.bytes[i] = t.bytes[i] == 'A' ? 'B' : 'A'; /* text still */
        CHECK_EQ(refresh_with(&new, &bent), 400);
        bent = t;
        bent.len = i;
        CHECK_EQ(refresh_with(&new, &bent), 400);
    }
    struct ticket longer = t;
    longer.bytes[longer.len++] = 'A';
    CHECK_EQ(refresh_with(&new, &longer), 400);
    struct client other = client_at(&e, "203.0.113.7:6000", "alice");
    CHECK_EQ(allocate_with_ticket(&other, ""), 0);
    struct ticket u = ticket_of(&other);
    size_t same = 0;
    for (size_t i = 0; i < t.len; i++)
        same += t.bytes[i] == u.bytes[i];
    CHECK(same < 8);
    CHECK_EQ(refresh_with(&other, &t), 437); /* on a 5-tuple that has an allocation */
    CHECK_EQ(client_refresh(&old, 0), 0);
    CHECK_EQ(refresh_with(&new, &t), 437);
    CHECK_EQ(client_refresh(&other, 0), 0);
    struct client third = client_at(&e, "203.0.113.7:7000", "alice");
    CHECK_EQ(allocate_with_ticket(&third, ""), 0); /* the same place in the table */
    CHECK_EQ(refresh_with(&new, &t), 437);
    engine_stop(&e);
}

/* MOB-09: somebody else's ticket; without credentials it is no use at all. */
static void test_other_users(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t);
    struct client thief = client_at(&e, "203.0.113.99:1", "mallory");
    CHECK_EQ(refresh_with(&thief, &t), 441);
    struct client nobody = client_with(&e, "203.0.113.99:2", old.username, "south");
    CHECK_EQ(refresh_with(&nobody, &t), 401);
    struct client tunnelled = moved(&old, "[2002:c000:201::1]:1"); /* TURN-SEC-01 */
    CHECK_EQ(refresh_with(&tunnelled, &t), 403);
    peer_send(&old, peer, "safe");
    CHECK(got_channel_data(&old, 0x4000, "safe"));
    engine_stop(&e);
}

/* The quota counts a moved allocation once; credentials that have expired still move it. */
static void test_quota_and_expiry(void)
{
    engine_init(&e);
    e.config.mobility = true;
    e.config.user_quota = 1;
    engine_start(&e);
    struct client old = client_with(&e, "203.0.113.7:5000", "1700000010:alice", "north");
    CHECK_EQ(allocate_with_ticket(&old, ""), 0);
    struct ticket t = ticket_of(&old);
    engine_pass(&e, 60 * 1000);
    struct client new = moved(&old, "203.0.113.99:1");
    CHECK_EQ(refresh_with(&new, &t), 0);
    struct client more = client_at(&e, "203.0.113.7:5001", "alice");
    CHECK_EQ(client_allocate(&more), 486);
    CHECK_EQ(client_refresh(&new, 0), 0);
    CHECK_EQ(client_allocate(&more), 0);
    engine_stop(&e);
}

/* In the middle of a move: the end of the allocation frees both 5-tuples; LIFETIME 0 with a ticket.
 */
static void test_end_on_the_way(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    CHECK_EQ(refresh_with(&new, &t), 0);
    engine_pass(&e, 601 * 1000);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    CHECK_EQ(client_allocate(&old), 0);
    CHECK_EQ(client_allocate(&new), 0);
    engine_stop(&e);
    begin();
    old = mobile(&t);
    new = moved(&old, "203.0.113.99:1");
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_MOBILITY_TICKET, t.bytes, t.len);
    attrs_u32(&a, STUN_ATTR_LIFETIME, 0);
    client_new_tid(&new);
    CHECK_EQ(client_request(&new, STUN_REFRESH, &a), 0);
    CHECK(!stun_msg_has(&new.msg, STUN_ID_MOBILITY_TICKET));
    CHECK_EQ(turn_server_allocations(e.server), 0);
    engine_stop(&e);
}

/* An engine made without room for moves, and told of mobility later, refuses each. */
static void test_no_room(void)
{
    engine_init(&e);
    engine_start(&e);
    struct turn_config on = e.config;
    on.mobility = true;
    turn_server_configure(e.server, &on);
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    CHECK_EQ(refresh_with(&new, &t), 508);
    peer_send(&old, peer, "as before");
    CHECK(got_channel_data(&old, 0x4000, "as before"));
    engine_clear(&e);
    client_channel_data(&new, 0x4000, "not here");
    CHECK_EQ(e.to_peers, 0);
    engine_stop(&e);
}

static struct engine both[2];

/* Two workers. */
static void begin_both(void)
{
    for (uint16_t i = 0; i < 2; i++) {
        engine_init(&both[i]);
        both[i].config.mobility = true;
        both[i].worker = i;
        both[i].others = both;
        engine_start(&both[i]);
    }
}

/* A 5-tuple that the kernel gives to another worker: that one passes its packets on. */
static void test_other_worker(void)
{
    begin_both();
    struct client old = client_at(&both[1], "203.0.113.7:5000", "alice");
    CHECK_EQ(allocate_with_ticket(&old, ""), 0);
    struct ticket t = ticket_of(&old);
    CHECK_EQ(client_bind(&old, 0x4000, peer), 0);
    struct client new = moved(&old, "203.0.113.99:1");
    new.e = &both[0];
    client_channel_data(&new, 0x4000, "too early");
    CHECK_EQ(engine_counter(&both[0], TURN_N_DROP_NO_ALLOCATION), 1);
    CHECK_EQ(refresh_with(&new, &t), 0);
    CHECK_EQ(both[0].handed, 2); /* without and with credentials */
    client_channel_data(&new, 0x4000, "here I am");
    old.e = &both[1];
    CHECK(peer_got(&old, peer, "here I am"));
    CHECK_EQ(engine_counter(&both[1], TURN_N_MOVED), 1);
    CHECK_EQ(client_permit(&new, "198.51.100.2:1"), 0);
    client_indication(&new, "198.51.100.2:8", "sent");
    CHECK(peer_got(&old, "198.51.100.2:8", "sent"));
    CHECK_EQ(client_refresh(&new, 0), 0);
    CHECK_EQ(turn_server_allocations(both[1].server), 0);
    engine_stop(&both[0]);
    engine_stop(&both[1]);
}

/* So does one that has the new connection, for which it stays; and it tells of its end. */
static void test_other_workers_connection(void)
{
    begin_both();
    struct client old = client_at(&both[1], "203.0.113.7:5000", "alice");
    old.tuple.transport = TURN_TLS;
    CHECK_EQ(allocate_with_ticket(&old, ""), 0);
    struct ticket t = ticket_of(&old);
    CHECK_EQ(client_bind(&old, 0x4000, peer), 0);
    turn_server_gone(both[1].server, &old.tuple, both[1].now);
    struct client new = moved(&old, "203.0.113.98:1");
    new.e = &both[0];
    CHECK(!turn_server_holds(both[0].server, &new.tuple, both[0].now));
    CHECK_EQ(refresh_with(&new, &t), 0);
    t = ticket_of(&new);
    CHECK(turn_server_holds(both[0].server, &new.tuple, both[0].now));
    CHECK_EQ(turn_server_allocations(both[0].server), 0);
    client_channel_data(&new, 0x4000, "here I am");
    CHECK(peer_got(&old, peer, "here I am"));
    struct client there = new;
    there.e = &both[1]; /* its answers leave by the worker that 5-tuples name */
    peer_send(&there, peer, "to the new one");
    CHECK(got_channel_data(&there, 0x4000, "to the new one"));

    turn_server_gone(both[0].server, &new.tuple, both[0].now);
    CHECK(!turn_server_holds(both[0].server, &new.tuple, both[0].now));
    CHECK(!turn_server_holds(both[1].server, &new.tuple, both[1].now));
    CHECK_EQ(turn_server_allocations(both[1].server), 1); /* adrift once more */
    client_channel_data(&new, 0x4000, "somebody else's now");
    CHECK_EQ(engine_counter(&both[0], TURN_N_DROP_NO_ALLOCATION), 1);
    new.tuple.link++;
    CHECK_EQ(refresh_with(&new, &t), 0);
    CHECK_EQ(client_refresh(&new, 0), 0);
    CHECK_EQ(turn_server_allocations(both[1].server), 0);
    engine_stop(&both[0]);
    engine_stop(&both[1]);
}

/* The new 5-tuple is gone before data came from it: the move is undone, and may be made again. */
static void test_new_connection_gone(void)
{
    begin();
    struct ticket t;
    struct client old = mobile(&t), new = moved(&old, "203.0.113.99:1");
    new.tuple.transport = TURN_TCP;
    CHECK_EQ(refresh_with(&new, &t), 0);
    t = ticket_of(&new);
    turn_server_gone(e.server, &new.tuple, e.now);
    CHECK(!turn_server_holds(e.server, &new.tuple, e.now));
    CHECK_EQ(e.ended, 0);
    peer_send(&old, peer, "to the old one");
    CHECK(got_channel_data(&old, 0x4000, "to the old one"));
    new.tuple.link++;
    CHECK_EQ(refresh_with(&new, &t), 0);
    client_channel_data(&new, 0x4000, "here I am");
    CHECK(peer_got(&new, peer, "here I am"));
    CHECK_EQ(engine_counter(&e, TURN_N_MOVED), 1);
    CHECK_EQ(client_refresh(&new, 0), 0);
    engine_stop(&e);
}

/* The old one is gone (RFC 8016 §3.2.2): what peers send goes to the new one from then on. */
static void test_old_connection_gone(void)
{
    begin();
    struct ticket t;
    struct client udp = mobile(&t), old = moved(&udp, "203.0.113.99:1");
    old.tuple.transport = TURN_TCP;
    CHECK_EQ(refresh_with(&old, &t), 0);
    t = ticket_of(&old);
    client_channel_data(&old, 0x4000, "by a connection");
    struct client new = moved(&old, "203.0.113.100:1");
    new.tuple.link = 1;
    CHECK_EQ(refresh_with(&new, &t), 0);
    turn_server_gone(e.server, &old.tuple, e.now);
    CHECK_EQ(engine_counter(&e, TURN_N_MOVED), 2);
    CHECK(!turn_server_holds(e.server, &old.tuple, e.now));
    peer_send(&new, peer, "to the new one");
    CHECK(got_channel_data(&new, 0x4000, "to the new one"));
    CHECK_EQ(e.ended, 0);
    turn_server_gone(e.server, &new.tuple, e.now);
    CHECK_EQ(e.ended, 0);
    CHECK(!turn_server_holds(e.server, &new.tuple, e.now));
    engine_pass(&e, 601 * 1000);
    CHECK_EQ(e.last_end, TURN_END_EXPIRED);
    CHECK_EQ(turn_server_allocations(e.server), 0);
    CHECK_EQ(engine_open_relays(&e), 0);
    engine_stop(&e);
}

/* A client over a connection, whose allocation has a ticket and a channel. */
static struct client connected(struct ticket *t)
{
    struct client c = client_at(&e, "203.0.113.7:5000", "alice");
    c.tuple.transport = TURN_TCP;
    CHECK_EQ(allocate_with_ticket(&c, ""), 0);
    *t = ticket_of(&c);
    CHECK_EQ(client_bind(&c, 0x4000, peer), 0);
    return c;
}

/* Break before make: its only connection gone, an allocation waits for who has the ticket. */
static void test_adrift(void)
{
    struct ticket t;
    begin();
    struct client old = connected(&t), new = moved(&old, "203.0.113.7:5000"); /* the same port */
    turn_server_gone(e.server, &old.tuple, e.now);
    CHECK_EQ(e.ended, 0);
    CHECK(!turn_server_holds(e.server, &old.tuple, e.now));
    engine_clear(&e);
    peer_send(&old, peer, "to nobody");
    CHECK_EQ(e.to_clients, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_QUEUE), 1);
    client_channel_data(&new, 0x4000, "not without the ticket");
    CHECK_EQ(e.to_peers, 0);
    CHECK_EQ(client_refresh(&new, 600), 437);
    new.tuple.link = 1;
    CHECK_EQ(refresh_with(&new, &t), 0);
    CHECK_EQ(engine_counter(&e, TURN_N_MOVED), 1); /* there is no old one to wait for */
    peer_send(&new, peer, "to the new one");
    CHECK(got_channel_data(&new, 0x4000, "to the new one"));
    CHECK_EQ(refresh_with(&new, &t), 400);
    turn_server_gone(e.server, &new.tuple, e.now);
    CHECK_EQ(turn_server_allocations(e.server), 1);
    engine_stop(&e); /* also in this state */
    CHECK_EQ(engine_open_relays(&e), 0);
}

/* Without a ticket, or once mobility is off, there is nothing to wait for. */
static void test_not_adrift(void)
{
    struct ticket t;
    begin();
    struct client plain = client_at(&e, "203.0.113.7:5000", "alice");
    plain.tuple.transport = TURN_TLS;
    CHECK_EQ(client_allocate(&plain), 0);
    turn_server_gone(e.server, &plain.tuple, e.now);
    CHECK_EQ(e.last_end, TURN_END_CLOSED);
    struct client c = connected(&t);
    struct turn_config off = e.config;
    off.mobility = false;
    turn_server_configure(e.server, &off);
    turn_server_gone(e.server, &c.tuple, e.now);
    CHECK_EQ(e.ended, 2);
    CHECK_EQ(e.last_end, TURN_END_CLOSED);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_ticket),
        CHECK_TEST(test_refusals),
        CHECK_TEST(test_move),
        CHECK_TEST(test_retransmission),
        CHECK_TEST(test_late_copy),
        CHECK_TEST(test_second_thought),
        CHECK_TEST(test_bad_tickets),
        CHECK_TEST(test_other_users),
        CHECK_TEST(test_quota_and_expiry),
        CHECK_TEST(test_end_on_the_way),
        CHECK_TEST(test_no_room),
        CHECK_TEST(test_other_worker),
        CHECK_TEST(test_other_workers_connection),
        CHECK_TEST(test_new_connection_gone),
        CHECK_TEST(test_old_connection_gone),
        CHECK_TEST(test_adrift),
        CHECK_TEST(test_not_adrift),
    };
    return CHECK_RUN(tests);
}
