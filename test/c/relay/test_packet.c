/* Packets between workers: what they hold, and how many there may be. */
#include "check.h"
#include "relay/packet.h"

static const struct turn_tuple tuple = {.link = 7, .transport = TURN_TLS, .worker = 3};

static struct packet *packet(enum packet_kind kind, struct credit *room)
{
    const struct turn_out out = {.head = span_str("head"), .body = span_str("body"), .pad = 2};
    return packet_new(kind, &tuple, &out, room);
}

static void test_contents(void)
{
    struct credit room = {.left = 1};
    struct packet *p = packet(PACKET_TO_CLIENT, &room);
    CHECK(p != NULL);
    CHECK_EQ(p->kind, PACKET_TO_CLIENT);
    CHECK_EQ(p->len, 10);
    CHECK_BYTES(p->bytes, "headbody\0\0", 10);
    CHECK_BYTES(&p->tuple, &tuple, sizeof tuple);
    packet_free(p);
}

/* As many as there is room for, and one more for each that is freed; the end of a connection
 * always. */
static void test_room(void)
{
    struct credit room = {.left = 2};
    const struct turn_out nothing = {.pad = 0};
    struct packet *a = packet(PACKET_FROM_CLIENT, &room), *b = packet(PACKET_TO_CLIENT, &room);
    CHECK(a && b);
    CHECK(packet(PACKET_FROM_CLIENT, &room) == NULL);
    struct packet *gone = packet_new(PACKET_GONE, &tuple, &nothing, &room);
    CHECK(gone != NULL);
    CHECK_EQ(gone->len, 0);
    packet_free(gone);
    CHECK(packet(PACKET_TO_CLIENT, &room) == NULL);
    packet_free(a);
    a = packet(PACKET_TO_CLIENT, &room);
    CHECK(a != NULL);
    packet_free(a);
    packet_free(b);
    CHECK_EQ(room.left, 2);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_contents),
        CHECK_TEST(test_room),
    };
    return CHECK_RUN(tests);
}
