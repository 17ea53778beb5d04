/* TCP allocations: conformance.md TCP. */
#include "engine.h"

#include "core/turn_tcp.h"

static struct engine e;

static const char *const peer = "198.51.100.1:7";

static void begin(void)
{
    engine_init(&e);
    engine_start(&e);
}

static struct client over(enum turn_transport transport, const char *address, const char *user)
{
    struct client c = client_at(&e, address, user);
    c.tuple.transport = (uint8_t)transport;
    return c;
}

/* A client with a TCP allocation. */
static struct client allocated(const char *address, const char *user)
{
    struct client c = over(TURN_TCP, address, user);
    CHECK_EQ(tcp_allocate(&c, NULL), 0);
    return c;
}

static struct client alice(void)
{
    return allocated("203.0.113.7:5000", "alice");
}

/* Another connection of the same client. */
static struct client data_client(const char *user)
{
    static uint16_t port;
    struct client c = over(TURN_TCP, "203.0.113.7:6000", user);
    c.tuple.client.port = (uint16_t)(c.tuple.client.port + port++ % 1000);
    c.tuple.link = 77;
    return c;
}

/* ---- Allocate ---- */

/* TCP-01, 02, 03 and DTLS-05. */
static void test_bad_requests(void)
{
    begin();
    struct client tcp = over(TURN_TCP, "203.0.113.7:5000", "alice");
    struct client udp = over(TURN_UDP, "203.0.113.7:5001", "alice");
    struct client dtls = over(TURN_DTLS, "203.0.113.7:5002", "alice");
    CHECK_EQ(tcp_allocate(&udp, NULL), 400);
    CHECK_EQ(tcp_allocate(&dtls, NULL), 400);
    CHECK_EQ(tcp_allocate_and(&tcp, STUN_ATTR_DONT_FRAGMENT, "", 0), 400);
    CHECK_EQ(tcp_allocate_and(&tcp, STUN_ATTR_EVEN_PORT, "\0", 1), 400);
    CHECK_EQ(tcp_allocate_and(&tcp, STUN_ATTR_EVEN_PORT, "\x80", 1), 400);
    CHECK_EQ(tcp_allocate_and(&tcp, STUN_ATTR_RESERVATION_TOKEN, "12345678", 8), 400);
    CHECK_EQ(engine_open_acceptors(&e), 0);
    CHECK_EQ(tcp_allocate(&tcp, NULL), 0);
    engine_stop(&e);
}

static void test_turned_off(void)
{
    engine_init(&e);
    e.config.tcp_allocations = false;
    engine_start(&e);
    struct client tcp = over(TURN_TCP, "203.0.113.7:5000", "alice");
    CHECK_EQ(tcp_allocate(&tcp, NULL), 442);
    engine_stop(&e);
}

/* Behind one open port there is nowhere to listen. */
static void test_switch_mode(void)
{
    engine_init(&e);
    e.config.switched = true;
    engine_start(&e);
    struct client tcp = over(TURN_TCP, "203.0.113.7:5000", "alice");
    CHECK_EQ(tcp_allocate(&tcp, NULL), 442);
    engine_stop(&e);
}

/* TCP-04: a listening address, of TCP only; Refresh and its end as for UDP (TCP-25). */
static void test_allocate(void)
{
    begin();
    struct client c = alice(), tls = over(TURN_TLS, "203.0.113.8:1", "bob");
    CHECK_EQ(tcp_allocate(&tls, NULL), 0);
    CHECK(!stun_msg_has(&c.msg, STUN_ID_RESERVATION_TOKEN));
    CHECK_EQ(engine_open_acceptors(&e), 2);
    CHECK_EQ(engine_open_relays(&e), 0);
    struct addr at = addr_of("192.0.2.1");
    CHECK(addr_ip_eq(&c.relayed, &at) && c.relayed.port >= e.config.port_min);
    CHECK_EQ(client_refresh(&c, 1200), 0);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(engine_open_acceptors(&e), 1);
    engine_pass(&e, 601 * 1000);
    CHECK_EQ(engine_open_acceptors(&e), 0);
    engine_stop(&e);
}

/* A port number is one for UDP and one for TCP. */
static void test_ports(void)
{
    engine_init(&e);
    e.config.port_min = e.config.port_max = 50000;
    engine_start(&e);
    struct client tcp = alice(), udp = client_at(&e, "203.0.113.7:5000", "alice");
    struct client third = over(TURN_TCP, "203.0.113.9:1", "carol");
    CHECK_EQ(client_allocate(&udp), 0);
    CHECK_EQ(udp.relayed.port, tcp.relayed.port);
    CHECK_EQ(tcp_allocate(&third, NULL), 508);
    CHECK_EQ(client_refresh(&tcp, 0), 0);
    CHECK_EQ(tcp_allocate(&third, NULL), 0);
    engine_stop(&e);
    engine_init(&e);
    e.config.port_min = 50000;
    e.config.port_max = 50001;
    e.busy_ports[0] = 50000;
    engine_start(&e);
    third = over(TURN_TCP, "203.0.113.9:1", "carol");
    CHECK_EQ(tcp_allocate(&third, NULL), 0);
    CHECK_EQ(third.relayed.port, 50001);
    engine_stop(&e);
}

/* TCP-26: both families, or the one that was asked for. */
static void test_families(void)
{
    begin();
    struct client six = over(TURN_TCP, "203.0.113.7:5000", "alice");
    struct client both = over(TURN_TCP, "203.0.113.7:5001", "alice");
    CHECK_EQ(tcp_allocate_and(&six, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\2\0\0\0", 4), 0);
    CHECK_EQ(six.relayed.family, ADDR_V6);
    CHECK_EQ(tcp_connect(&six, peer), 443);
    CHECK_EQ(client_permit(&six, peer), 443);
    CHECK_EQ(tcp_connect(&six, "[2001:db8:1::1]:5"), NO_REPLY);
    CHECK_EQ(tcp_allocate_and(&both, STUN_ATTR_ADDITIONAL_ADDRESS_FAMILY, "\2\0\0\0", 4), 0);
    CHECK_EQ(engine_open_acceptors(&e), 3);
    CHECK_EQ(tcp_connect(&both, peer), NO_REPLY);
    CHECK_EQ(tcp_connect(&both, "[2001:db8:1::2]:5"), NO_REPLY);
    CHECK_EQ(tcp_pipe_to(&e, "[2001:db8:1::2]:5")->from.family, ADDR_V6);
    /* one of the two goes, with its connections */
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_LIFETIME, 0);
    attrs_bytes(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, "\1\0\0\0", 4);
    client_new_tid(&both);
    CHECK_EQ(client_request(&both, STUN_REFRESH, &a), 0);
    CHECK(!tcp_pipe_to(&e, peer) && tcp_pipe_to(&e, "[2001:db8:1::2]:5"));
    engine_stop(&e);
}

/* TCP-25: nothing of datagrams. */
static void test_no_datagrams(void)
{
    begin();
    struct client c = alice();
    CHECK_EQ(client_permit(&c, peer), 0);
    CHECK_EQ(client_bind(&c, 0x4000, peer), 403);
    client_indication(&c, peer, "hello");
    client_channel_data(&c, 0x4000, "hello");
    CHECK_EQ(e.to_peers, 0);
    CHECK_EQ(engine_counter(&e, TURN_N_DROP_UNEXPECTED), 2);
    CHECK_EQ(tcp_allocate_and(&c, STUN_ATTR_MOBILITY_TICKET, "", 0), 437);
    engine_stop(&e);
}

/* Its connections could not follow to another 5-tuple. */
static void test_no_mobility(void)
{
    engine_init(&e);
    e.config.mobility = true;
    engine_start(&e);
    struct client c = over(TURN_TCP, "203.0.113.7:5000", "alice");
    CHECK_EQ(tcp_allocate_and(&c, STUN_ATTR_MOBILITY_TICKET, "", 0), 405);
    engine_stop(&e);
}

/* ---- Connect ---- */

/* TCP-05, 07, 08. */
static void test_bad_connects(void)
{
    begin();
    struct client c = alice(), none = over(TURN_TCP, "203.0.113.8:1", "bob");
    struct client udp = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(tcp_connect(&none, peer), 437);
    CHECK_EQ(client_allocate(&udp), 0);
    CHECK_EQ(tcp_connect(&udp, peer), 403);
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_CONNECT, &a), 400);
    attrs_bytes(&a, STUN_ATTR_XOR_PEER_ADDRESS, "\0\1\2", 3);
    client_new_tid(&c);
    CHECK_EQ(client_request(&c, STUN_CONNECT, &a), 400);
    CHECK_EQ(tcp_connect(&c, "198.51.100.1:0"), 400);
    CHECK_EQ(tcp_connect(&c, "127.0.0.1:80"), 403);
    CHECK_EQ(tcp_connect(&c, "10.0.0.1:80"), 403);
    CHECK_EQ(tcp_connect(&c, "[2001:db8:1::1]:80"), 443);
    CHECK_EQ(e.forbidden, 2);
    CHECK_EQ(engine_open_pipes(&e), 0);
    /* another user on the same connection */
    struct client other = over(TURN_TCP, "203.0.113.7:5000", "mallory");
    CHECK_EQ(tcp_connect(&other, peer), 441);
    engine_stop(&e);
}

/* Of our own addresses only ports that relay TCP, and not the allocation's own. */
static void test_own_addresses(void)
{
    begin();
    struct client c = alice(), d = allocated("203.0.113.9:1", "bob");
    struct client udp = client_at(&e, "203.0.113.10:1", "carol");
    char text[ADDR_TEXT_MAX];
    CHECK_EQ(tcp_connect(&c, "192.0.2.1:3478"), 403);
    CHECK_EQ(tcp_connect(&c, "192.0.2.1:22"), 403);
    addr_format(&c.relayed, text);
    CHECK_EQ(tcp_connect(&c, text), 403);
    CHECK_EQ(client_allocate(&udp), 0);
    addr_format(&udp.relayed, text);
    CHECK_EQ(tcp_connect(&c, text), udp.relayed.port == d.relayed.port ? NO_REPLY : 403);
    addr_format(&d.relayed, text);
    CHECK_EQ(tcp_connect(&c, text), NO_REPLY);
    engine_stop(&e);
}

/* Behind a 1:1 NAT our own addresses are named by the outer IP and reached by the inner one. */
static void test_nat(void)
{
    engine_init(&e);
    e.config.relays[0].bind = addr_of("10.0.0.1");
    engine_start(&e);
    struct client c = alice(), d = allocated("203.0.113.9:1", "bob");
    char text[ADDR_TEXT_MAX], inner[ADDR_TEXT_MAX];
    addr_format(&d.relayed, text);
    CHECK(strncmp(text, "192.0.2.1:", 10) == 0);
    CHECK_EQ(tcp_connect(&c, text), NO_REPLY);
    snprintf(inner, sizeof inner, "10.0.0.1:%u", d.relayed.port);
    CHECK(tcp_pipe_to(&e, inner) != NULL);
    CHECK_EQ(client_permit(&d, "192.0.2.1:0"), 0);
    snprintf(inner, sizeof inner, "10.0.0.1:%u", c.relayed.port);
    CHECK(tcp_accepted(&d, inner) != NULL);
    struct stun_msg m;
    struct addr from;
    struct span s = tcp_last(&d);
    CHECK_EQ(stun_msg_decode(&m, s.data, s.len, NULL), CT_OK);
    CHECK_EQ(stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &from), CT_OK);
    CHECK(addr_eq(&from, &c.relayed));
    /* what else connects from there is no peer */
    CHECK(tcp_accepted(&d, "10.0.0.1:22") == NULL);
    engine_stop(&e);
}

/* TCP-09, 11: from the relayed address, answered when it is there, with an id of its own. */
static void test_connect(void)
{
    begin();
    struct client c = alice();
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    struct turn_pipe *pipe = tcp_pipe_to(&e, peer);
    CHECK(addr_eq(&pipe->from, &c.relayed));
    CHECK_EQ(tcp_connected(&c, pipe, true), 0);
    CHECK(stun_msg_has(&c.msg, STUN_ID_MESSAGE_INTEGRITY));
    CHECK(stun_msg_has(&c.msg, STUN_ID_FINGERPRINT));
    CHECK_EQ(stun_msg_bytes(&c.msg, STUN_ID_CONNECTION_ID).len, 4);
    uint32_t first = tcp_id(&c.msg);
    CHECK(tcp_opened(&c, "198.51.100.1:8") != first);
    CHECK_EQ(engine_counter(&e, TURN_N_TCP_CONNECTED), 2);
    engine_stop(&e);
}

/* TCP-11: nobody meets an id again, in however many. */
static void test_unique_ids(void)
{
    static uint32_t seen[2000];
    begin();
    struct client c = alice();
    for (size_t i = 0; i < sizeof seen / sizeof *seen; i++) {
        seen[i] = tcp_opened(&c, peer);
        for (size_t k = 0; k < i; k++)
            CHECK(seen[k] != seen[i]);
        engine_pass(&e, 1);
        CHECK_EQ(seen[i] >> 26, e.worker);
        struct turn_config off = e.config;
        addr_prefix_parse("198.51.100.0/24", 15, &off.policy.rules[off.policy.count].prefix);
        off.policy.rules[off.policy.count++].kind = TURN_RULE_DENY;
        turn_server_configure(e.server, &off);
        turn_server_configure(e.server, &e.config);
    }
    CHECK_EQ(engine_open_pipes(&e), 0);
    engine_stop(&e);
}

/* TCP-06, 23: one connection per peer address: under way, waiting or bound. */
static void test_exists(void)
{
    begin();
    struct client c = alice(), d = data_client("alice");
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    struct client again = c;
    CHECK_EQ(tcp_connect(&again, peer), 446);
    CHECK_EQ(tcp_connected(&c, tcp_pipe_to(&e, peer), true), 0);
    uint32_t id = tcp_id(&c.msg);
    CHECK_EQ(tcp_connect(&again, peer), 446);
    CHECK_EQ(tcp_bind(&d, id), 0);
    CHECK_EQ(tcp_connect(&again, peer), 446);
    CHECK_EQ(tcp_connect(&c, "198.51.100.1:8"), NO_REPLY);
    /* when it is over it may be made again, and so may one by another allocation */
    struct turn_pipe *pipe = tcp_pipe_to(&e, peer);
    pipe->open = false;
    turn_server_tcp_gone(e.server, pipe->tcp);
    CHECK_EQ(tcp_connect(&again, peer), NO_REPLY);
    struct client other = allocated("203.0.113.9:1", "bob");
    CHECK_EQ(tcp_connect(&other, peer), NO_REPLY);
    engine_stop(&e);
}

/* TCP-10: refused at once, refused later, no answer for 30 seconds. */
static void test_failure(void)
{
    begin();
    struct client c = alice();
    e.tcp_fails = CT_ESYS;
    CHECK_EQ(tcp_connect(&c, peer), 447);
    e.tcp_fails = CT_ENOSPACE;
    CHECK_EQ(tcp_connect(&c, peer), 508);
    e.tcp_fails = CT_OK;
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    CHECK_EQ(tcp_connected(&c, tcp_pipe_to(&e, peer), false), 447);
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    size_t before = e.to_clients;
    engine_pass(&e, TURN_TCP_CONNECT_MS - 1);
    CHECK_EQ(e.to_clients, before);
    CHECK(tcp_pipe_to(&e, peer) != NULL);
    engine_pass(&e, 2000);
    CHECK_EQ(e.to_clients, before + 1);
    CHECK_EQ(client_read(&c, tcp_last(&c)), 447);
    CHECK(tcp_pipe_to(&e, peer) == NULL);
    CHECK_EQ(engine_counter(&e, TURN_N_TCP_FAILED), 3);
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    engine_stop(&e);
}

/* The answer is protected as its request was, whatever comes in between. */
static void test_answer_of_its_own(void)
{
    begin();
    struct client c = alice(), sha = c;
    sha.integrity = STUN_INTEGRITY_SHA256;
    CHECK_EQ(tcp_connect(&sha, peer), NO_REPLY);
    struct turn_pipe *pipe = tcp_pipe_to(&e, peer);
    c.fingerprint = false;
    CHECK_EQ(tcp_connect(&c, "198.51.100.1:8"), NO_REPLY);
    CHECK_EQ(client_refresh(&c, 600), 0);
    struct client plain = c;
    CHECK_EQ(tcp_connected(&sha, pipe, true), 0);
    CHECK(stun_msg_has(&sha.msg, STUN_ID_MESSAGE_INTEGRITY_SHA256));
    CHECK(stun_msg_has(&sha.msg, STUN_ID_FINGERPRINT));
    CHECK_EQ(tcp_connect(&plain, "198.51.100.1:9"), NO_REPLY);
    CHECK_EQ(tcp_connected(&plain, tcp_pipe_to(&e, "198.51.100.1:9"), true), 0);
    CHECK(!stun_msg_has(&plain.msg, STUN_ID_FINGERPRINT));
    CHECK(stun_msg_has(&plain.msg, STUN_ID_MESSAGE_INTEGRITY));
    struct attrs a;
    uint32_t counter = 0;
    attrs_init(&a);
    client_new_tid(&c);
    attrs_peer(&a, &c, "198.51.100.1:10");
    attrs_u32(&a, STUN_ATTR_TRANSMIT_COUNTER, 0x0500);
    CHECK_EQ(client_request(&c, STUN_CONNECT, &a), NO_REPLY);
    CHECK_EQ(tcp_connected(&c, tcp_pipe_to(&e, "198.51.100.1:10"), true), 0);
    CHECK_EQ(stun_msg_u32(&c.msg, STUN_ID_TRANSMIT_COUNTER, &counter), CT_OK);
    CHECK_EQ(counter, 0x0500);
    engine_stop(&e);
}

/* ---- ConnectionBind ---- */

/* TCP-16, 17, 18. */
static void test_bad_binds(void)
{
    begin();
    struct client c = alice(), d = data_client("alice"), mallory = data_client("mallory");
    struct client udp = client_at(&e, "203.0.113.7:6000", "alice");
    struct client dtls = over(TURN_DTLS, "203.0.113.7:6000", "alice");
    uint32_t id = tcp_opened(&c, peer);
    CHECK_EQ(tcp_bind(&udp, id), 400);
    CHECK_EQ(tcp_bind(&dtls, id), 400);
    CHECK_EQ(tcp_bind(&d, id + 1), 400);
    CHECK_EQ(tcp_bind(&d, id ^ 1u << 31), 400); /* a worker that is not there */
    client_new_tid(&d);
    CHECK_EQ(client_request(&d, STUN_CONNECTION_BIND, NULL), 400);
    struct attrs a;
    attrs_init(&a);
    attrs_bytes(&a, STUN_ATTR_CONNECTION_ID, "\1\2\3", 3);
    client_new_tid(&d);
    CHECK_EQ(client_request(&d, STUN_CONNECTION_BIND, &a), 400);
    CHECK_EQ(tcp_bind(&mallory, id), 441);
    CHECK_EQ(tcp_bind(&c, id), 400); /* the control connection itself */
    struct client stranger = data_client("alice");
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CONNECTION_ID, id);
    client_new_tid(&stranger);
    CHECK_EQ(client_send_request(&stranger, STUN_CONNECTION_BIND, &a), 401);
    stranger.key.bytes[0] ^= 1;
    client_learn(&stranger);
    CHECK_EQ(client_send_request(&stranger, STUN_CONNECTION_BIND, &a), 401);
    CHECK_EQ(engine_open_pipes(&e), 1);
    CHECK(!tcp_pipe_to(&e, peer)->joined);
    CHECK_EQ(tcp_bind(&d, id), 0);
    struct client late = data_client("alice");
    CHECK_EQ(tcp_bind(&late, id), 400);
    engine_stop(&e);
}

/* Not before the peer is there; and then it is this connection that is joined. */
static void test_bind(void)
{
    begin();
    struct client c = alice(), d = data_client("alice");
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    struct turn_pipe *pipe = tcp_pipe_to(&e, peer);
    CHECK_EQ(tcp_connected(&c, pipe, true), 0);
    CHECK(!pipe->joined);
    CHECK_EQ(tcp_bind(&d, tcp_id(&c.msg)), 0);
    CHECK(pipe->joined && memcmp(&pipe->client, &d.tuple, sizeof d.tuple) == 0);
    turn_server_tcp_moved(e.server, pipe->tcp, 1000, 0);
    turn_server_tcp_moved(e.server, pipe->tcp, 1, 30);
    engine_pass(&e, 300 * 1000); /* bound ones stay as long as the allocation */
    CHECK(pipe->open);
    CHECK_EQ(engine_counter(&e, TURN_N_UP_BYTES), 1001);
    CHECK_EQ(engine_counter(&e, TURN_N_DOWN_BYTES), 30);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK(!pipe->open);
    CHECK_EQ(e.ended_up_bytes, 1001);
    CHECK_EQ(e.ended_down_bytes, 30);
    engine_stop(&e);
}

/* TCP-12: half a minute, and not less. */
static void test_unbound(void)
{
    begin();
    struct client c = alice(), d = data_client("alice");
    CHECK_EQ(client_permit(&c, peer), 0);
    uint32_t out = tcp_opened(&c, "198.51.100.1:9");
    CHECK(tcp_accepted(&c, peer) != NULL);
    engine_pass(&e, TURN_TCP_BIND_MS - 1);
    CHECK_EQ(engine_open_pipes(&e), 2);
    engine_pass(&e, 2000);
    CHECK_EQ(engine_open_pipes(&e), 0);
    CHECK_EQ(engine_counter(&e, TURN_N_TCP_UNBOUND), 2);
    CHECK_EQ(tcp_bind(&d, out), 400);
    CHECK_EQ(tcp_connect(&c, peer), NO_REPLY);
    engine_stop(&e);
}

/* The key of the allocation is enough, although its secret is gone. */
static void test_rotated_secret(void)
{
    begin();
    struct client c = alice(), d = c;
    uint32_t id = tcp_opened(&c, peer);
    struct turn_config next = e.config;
    next.secrets[0] = (struct turn_secret){.bytes = "south", .len = 5};
    turn_server_configure(e.server, &next);
    d.tuple.client.port++;
    d.nonce[0] = 0;
    CHECK_EQ(tcp_bind(&d, id), 0);
    engine_stop(&e);
}

/* The nonce of the control connection holds on the data connection, for this request alone. */
static void test_same_nonce(void)
{
    begin();
    struct client c = alice(), d = c, other = c;
    d.tuple.client.port++;
    other.tuple.client.port += 2;
    struct attrs a;
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CONNECTION_ID, tcp_opened(&c, peer));
    client_new_tid(&d);
    CHECK_EQ(client_send_request(&d, STUN_CONNECTION_BIND, &a), 0);
    client_new_tid(&other);
    CHECK_EQ(client_send_request(&other, STUN_CONNECTION_BIND, &a), 400);
    CHECK_EQ(client_send_request(&other, STUN_REFRESH, NULL), 438);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CONNECTION_ID, 1);
    CHECK_EQ(client_send_request(&other, STUN_CONNECTION_BIND, &a), 438);
    engine_stop(&e);
}

/* A ConnectionBind that comes to another worker goes to the one that its id names. */
static void test_other_worker(void)
{
    static struct engine one;
    engine_init(&e);
    engine_init(&one);
    e.worker = 0;
    one.worker = 63;
    e.others = one.others = &e; /* any */
    engine_start(&e);
    engine_start(&one);
    struct client c = over(TURN_TCP, "203.0.113.7:5000", "alice"), d = data_client("alice");
    c.e = &one;
    CHECK_EQ(tcp_allocate(&c, NULL), 0);
    struct attrs a;
    attrs_init(&a);
    client_new_tid(&c);
    attrs_peer(&a, &c, peer);
    CHECK_EQ(client_request(&c, STUN_CONNECT, &a), NO_REPLY);
    one.pipes[0].open = true;
    turn_server_connected(one.server, one.pipes[0].tcp, true, one.now);
    const struct sent *s = &one.to_client[(one.to_clients - 1) % ENGINE_OUT_MAX];
    CHECK_EQ(client_read(&c, span_of(s->bytes, s->len)), 0);
    uint32_t id = tcp_id(&c.msg);
    CHECK_EQ(id >> 26, 63);
    /* the challenge is anybody's, the authenticated request is not */
    CHECK_EQ(tcp_bind(&d, id), NO_REPLY);
    CHECK_EQ(e.tcp_away, 1);
    CHECK_EQ(e.moved_to, 63);
    CHECK(memcmp(&e.moved, &d.tuple, sizeof d.tuple) == 0);
    attrs_init(&a);
    attrs_u32(&a, STUN_ATTR_CONNECTION_ID, id);
    d.e = &one;
    CHECK_EQ(client_send_request(&d, STUN_CONNECTION_BIND, &a), 0);
    CHECK(one.pipes[0].joined);
    engine_stop(&one);
    engine_stop(&e);
}

/* ---- peers that connect ---- */

/* TCP-13, 14. */
static void test_attempt(void)
{
    begin();
    struct client c = alice(), d = data_client("alice");
    size_t before = e.to_clients;
    CHECK(tcp_accepted(&c, peer) == NULL);
    CHECK_EQ(e.to_clients, before);
    CHECK_EQ(engine_counter(&e, TURN_N_TCP_REFUSED), 1);
    CHECK_EQ(client_permit(&c, "198.51.100.1:0"), 0);
    CHECK(tcp_accepted(&c, "198.51.100.2:7") == NULL);
    before = e.to_clients;
    struct turn_pipe *pipe = tcp_accepted(&c, peer);
    CHECK(pipe != NULL);
    CHECK_EQ(e.to_clients, before + 1);
    struct stun_msg m;
    struct span s = tcp_last(&c);
    struct addr from, want = addr_of(peer);
    CHECK_EQ(stun_msg_decode(&m, s.data, s.len, NULL), CT_OK);
    CHECK_EQ(m.type, 0x001C);
    CHECK_EQ(stun_msg_addr(&m, STUN_ID_XOR_PEER_ADDRESS, &from), CT_OK);
    CHECK(addr_eq(&from, &want));
    CHECK_EQ(tcp_bind(&d, tcp_id(&m)), 0);
    CHECK(pipe->joined);
    /* as good as one of our own making */
    CHECK_EQ(tcp_connect(&c, peer), 446);
    engine_pass(&e, 301 * 1000);
    CHECK(tcp_accepted(&c, "198.51.100.1:8") == NULL); /* the permission is over */
    CHECK(pipe->open);
    engine_stop(&e);
}

/* A peer whose system uses the same port again has given up what was there. */
static void test_attempt_again(void)
{
    begin();
    struct client c = alice();
    CHECK_EQ(client_permit(&c, peer), 0);
    struct turn_pipe *first = tcp_accepted(&c, peer);
    struct turn_pipe *second = tcp_accepted(&c, peer);
    CHECK(first && second && first != second);
    CHECK(!first->open && second->open);
    engine_stop(&e);
}

/* ---- limits and ends ---- */

static void test_limits(void)
{
    engine_init(&e);
    e.config.allocation_tcp_peers = 2;
    e.config.max_tcp_peers = 3;
    engine_start(&e);
    struct client c = alice(), d = allocated("203.0.113.9:1", "bob");
    CHECK_EQ(client_permit(&c, peer), 0);
    CHECK_EQ(client_permit(&d, peer), 0);
    CHECK_EQ(tcp_connect(&c, "198.51.100.1:1"), NO_REPLY);
    CHECK(tcp_accepted(&c, "198.51.100.1:2") != NULL);
    CHECK_EQ(tcp_connect(&c, "198.51.100.1:3"), 508);
    CHECK(tcp_accepted(&c, "198.51.100.1:3") == NULL);
    CHECK_EQ(tcp_connect(&d, "198.51.100.1:4"), NO_REPLY);
    CHECK_EQ(tcp_connect(&d, "198.51.100.1:5"), 508);
    CHECK(tcp_accepted(&d, "198.51.100.1:5") == NULL);
    CHECK_EQ(client_refresh(&c, 0), 0);
    CHECK_EQ(tcp_connect(&d, "198.51.100.1:5"), NO_REPLY);
    engine_stop(&e);
}

/* TCP-20, 27: with the allocation end its connections, in whatever state. */
static void test_ends(void)
{
    for (int how = 0; how < 4; how++) {
        begin();
        struct client c = alice(), d = data_client("alice");
        CHECK_EQ(client_permit(&c, peer), 0);
        CHECK_EQ(tcp_bind(&d, tcp_opened(&c, "198.51.100.1:1")), 0);
        CHECK_EQ(tcp_connect(&c, "198.51.100.1:2"), NO_REPLY);
        CHECK(tcp_accepted(&c, peer) != NULL);
        CHECK_EQ(engine_open_pipes(&e), 3);
        if (how == 0)
            engine_pass(&e, 601 * 1000);
        else if (how == 1)
            turn_server_kill(e.server, &(struct turn_selector){.user = span_str("alice")}, e.now);
        else if (how == 2)
            turn_server_gone(e.server, &c.tuple, e.now);
        else
            CHECK_EQ(client_refresh(&c, 0), 0);
        CHECK_EQ(engine_open_pipes(&e), 0);
        CHECK_EQ(engine_open_acceptors(&e), 0);
        engine_stop(&e);
    }
}

/* What a new policy refuses ends; a Connect under way is answered. */
static void test_policy(void)
{
    begin();
    struct client c = alice(), d = data_client("alice");
    CHECK_EQ(tcp_bind(&d, tcp_opened(&c, peer)), 0);
    CHECK_EQ(tcp_connect(&c, "203.0.113.200:1"), NO_REPLY);
    struct client other = c;
    CHECK_EQ(tcp_connect(&other, "198.51.100.1:8"), NO_REPLY);
    struct turn_config next = e.config;
    struct addr_prefix net;
    CHECK_EQ(addr_prefix_parse("198.51.100.0/24", 15, &net), CT_OK);
    CHECK_EQ(turn_policy_add(&next.policy, &net, TURN_RULE_DENY), CT_OK);
    turn_server_configure(e.server, &next);
    CHECK_EQ(client_read(&other, tcp_last(&other)), 447);
    CHECK_EQ(engine_open_pipes(&e), 1);
    CHECK(tcp_pipe_to(&e, "203.0.113.200:1") != NULL);
    engine_stop(&e);
}

static void count_tcp(struct turn_visitor *v, const struct turn_alloc_info *info)
{
    (void)v;
    CHECK_EQ(info->tcp, info->tuple->transport == TURN_TCP);
    CHECK_EQ(info->tcp_peers, info->tcp ? 1 : 0);
}

static void test_list(void)
{
    begin();
    struct client c = alice(), udp = client_at(&e, "203.0.113.7:5000", "alice");
    CHECK_EQ(client_allocate(&udp), 0);
    tcp_opened(&c, peer);
    struct turn_visitor v = {count_tcp};
    turn_server_list(e.server, &v, e.now);
    engine_stop(&e);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_bad_requests), CHECK_TEST(test_turned_off),
        CHECK_TEST(test_switch_mode),  CHECK_TEST(test_allocate),
        CHECK_TEST(test_ports),        CHECK_TEST(test_families),
        CHECK_TEST(test_no_datagrams), CHECK_TEST(test_no_mobility),
        CHECK_TEST(test_bad_connects), CHECK_TEST(test_own_addresses),
        CHECK_TEST(test_nat),          CHECK_TEST(test_connect),
        CHECK_TEST(test_unique_ids),   CHECK_TEST(test_exists),
        CHECK_TEST(test_failure),      CHECK_TEST(test_answer_of_its_own),
        CHECK_TEST(test_bad_binds),    CHECK_TEST(test_bind),
        CHECK_TEST(test_unbound),      CHECK_TEST(test_rotated_secret),
        CHECK_TEST(test_same_nonce),   CHECK_TEST(test_other_worker),
        CHECK_TEST(test_attempt),      CHECK_TEST(test_attempt_again),
        CHECK_TEST(test_limits),       CHECK_TEST(test_ends),
        CHECK_TEST(test_policy),       CHECK_TEST(test_list),
    };
    return CHECK_RUN(tests);
}
