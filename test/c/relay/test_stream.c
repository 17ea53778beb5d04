#include "rig.h"

#include "core/turn_frame.h"
#include "relay/conn.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/time.h>
#include <unistd.h>

static void begin(struct rig *r)
{
    rig_init(r);
    CHECK_EQ(udp_start(r->udp, r->server), 0);
    r->config =
        (struct stream_config){.max_connections = 4, .source_connections = 3, .connection_idle = 1};
    rig_listen_tcp(r);
}

static int client_of(struct rig *r)
{
    struct timeval patience = {.tv_sec = 5};
    union sock_addr sa;
    socklen_t len = sock_from_addr(&sa, &r->listener);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    CHECK_EQ(connect(fd, &sa.sa, len), 0);
    return fd;
}

static const uint8_t binding[20] = {0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 't', 'i', 'd'};

static void say(int fd, const void *bytes, size_t n)
{
    CHECK_EQ(send(fd, bytes, n, 0), n);
}

static bool ended(int fd)
{
    uint8_t byte;

    ssize_t n = recv(fd, &byte, 1, 0);

    return n == 0 || (n < 0 && errno == ECONNRESET);
}

/* Messages in one piece, and in as many pieces as they have bytes. */
static void test_takes_messages_in_any_pieces(void)
{
    struct rig r;
    uint8_t many[5 * sizeof binding], answer[1024];

    begin(&r);
    int fd = client_of(&r);
    for (size_t i = 0; i < 5; i++)
        memcpy(many + i * sizeof binding, binding, sizeof binding);
    say(fd, many, sizeof many);
    rig_run_until(&r, TURN_N_BINDINGS, 5);
    for (size_t i = 0; i < sizeof binding; i++) {
        say(fd, binding + i, 1);
        rig_turn(&r);
    }
    rig_run_until(&r, TURN_N_BINDINGS, 6);
    ssize_t n = recv(fd, answer, sizeof answer, 0);
    size_t size = 0, answers = 0;
    for (size_t at = 0; n > 0 && at < (size_t)n; at += size, answers++) {
        CHECK_EQ(turn_frame_size(answer + at, (size_t)n - at, &size), CT_OK);
        CHECK(size > 0);
        if (size == 0)
            break;
    }
    CHECK_EQ(answers, 6);
    close(fd);
    rig_free(&r);
}

static void test_closes_what_is_out_of_step(void)
{
    struct rig r;

    begin(&r);
    int fd = client_of(&r), other = client_of(&r);
    say(fd, binding, sizeof binding);
    say(fd, "GET /", 5);
    rig_run_until(&r, TURN_N_CONN_BROKEN, 1);
    CHECK_EQ(rig_counter(&r, TURN_N_BINDINGS), 1);
    /* no long frames without an allocation */
    say(other, (const uint8_t[]){0x40, 0, 0xff, 0xf0}, 4);
    rig_run_until(&r, TURN_N_CONN_BROKEN, 2);
    CHECK(ended(other));
    close(fd);
    close(other);
    rig_free(&r);
}

static struct conn *conn_at(struct rig *r, uint32_t number)
{
    return slab_at(&r->streams->conns, number);
}

/* Nothing grows with what a client does not read. */
static void test_drops_whole_frames(void)
{
    enum {
        FRAMES = 20000,
        PAYLOAD = 1001
    };
    static uint8_t frame[4 + PAYLOAD], got[1 << 16];
    struct rig r;
    size_t have = 0, frames = 0;

    begin(&r);
    int fd = client_of(&r);
    say(fd, binding, sizeof binding);
    rig_run_until(&r, TURN_N_BINDINGS, 1);
    CHECK(recv(fd, got, sizeof got, 0) > 20);
    const struct turn_tuple tuple = conn_at(&r, 0)->tuple;
    memcpy(frame, (const uint8_t[]){0x40, 1, PAYLOAD >> 8, PAYLOAD & 0xff}, 4);
    const struct turn_out out = {.head = span_of(frame, 4), .body = span_of(frame + 4, PAYLOAD)};
    for (int i = 0; i < FRAMES; i++) {
        streams_to_client(r.streams, &tuple, &out);
        if (i % 10 == 0)
            rig_turn(&r);
    }
    uint64_t dropped = rig_counter(&r, TURN_N_DROP_QUEUE);
    CHECK(dropped > 0);
    CHECK_EQ(r.streams->large.out, 1);
    /* an answer still finds room */
    say(fd, binding, sizeof binding);
    rig_run_until(&r, TURN_N_BINDINGS, 2);
    CHECK_EQ(rig_counter(&r, TURN_N_DROP_QUEUE), dropped);

    while (frames < FRAMES - dropped) {
        rig_turn(&r);
        ssize_t n = recv(fd, got + have, sizeof got - have, MSG_DONTWAIT);
        have += n > 0 ? (size_t)n : 0;
        size_t at = 0, size = 0;
        while (turn_frame_size(got + at, have - at, &size) == CT_OK && size > 0 &&
               size <= have - at) {
            if (got[at] == 0x40) {
                CHECK_EQ(size, 4 + PAYLOAD + 3);
                frames++;
            }
            at += size;
        }
        memmove(got, got + at, have -= at);
    }
    CHECK_EQ(frames, FRAMES - dropped);
    close(fd);
    rig_free(&r);
}

/* Clients that are gone while there is something for them, some with a reset. */
static void test_clients_that_vanish(void)
{
    static const uint8_t frame[1000] = {0x40, 1, 996 >> 8, 996 & 0xff};
    const struct turn_out out = {.head = span_of(frame, sizeof frame)};
    struct linger now = {.l_onoff = 1};
    struct rig r;

    begin(&r);
    for (unsigned round = 1; round <= 40; round++) {
        int fd = client_of(&r);
        say(fd, binding, sizeof binding);
        rig_run_until(&r, TURN_N_BINDINGS, round);
        const struct conn *c = slab_at(&r.streams->conns, 0);
        CHECK(c->open);
        if (round % 2)
            CHECK_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
        close(fd);
        for (unsigned i = 0; i < round * 10; i++)
            streams_to_client(r.streams, &c->tuple, &out);
        for (int i = 0; i < 10000 && r.streams->conns.used; i++)
            rig_turn(&r);
        CHECK_EQ(r.streams->conns.used, 0);
        CHECK(r.streams->dirty == NULL);
    }
    rig_free(&r);
}

/* What is for a connection that is gone does not reach the next one with its number. */
static void test_numbers_are_used_again(void)
{
    static const uint8_t frame[8] = {0x40, 1, 0, 4};
    const struct turn_out out = {.head = span_of(frame, sizeof frame)};
    struct rig r;

    begin(&r);
    int fd = client_of(&r);
    rig_run_until(&r, TURN_N_CONNECTIONS, 1);
    struct turn_tuple gone = conn_at(&r, 0)->tuple;
    gone.client.port ^= 1;
    streams_to_client(r.streams, &gone, &out);
    CHECK_EQ(rig_counter(&r, TURN_N_DROP_QUEUE), 1);
    CHECK_EQ(r.streams->large.out, 0);
    streams_to_client(r.streams, &conn_at(&r, 0)->tuple, &out);
    CHECK_EQ(rig_counter(&r, TURN_N_DROP_QUEUE), 1);
    CHECK_EQ(r.streams->large.out, 1);
    close(fd);
    rig_free(&r);
}

static void test_limits(void)
{
    struct rig r;
    int fds[4];

    begin(&r);
    for (int i = 0; i < 4; i++)
        fds[i] = client_of(&r);
    rig_run_until(&r, TURN_N_CONN_REFUSED, 1);
    CHECK_EQ(rig_counter(&r, TURN_N_CONNECTIONS), 3);
    say(fds[0], "\0\1\0", 3); /* half a header is no sign of life */
    rig_run_until(&r, TURN_N_CONN_IDLE, 3);
    for (int i = 0; i < 4; i++) {
        CHECK(ended(fds[i]));
        close(fds[i]);
    }
    CHECK_EQ(streams_deadline(r.streams), UINT64_MAX);
    int again = client_of(&r);
    rig_run_until(&r, TURN_N_CONNECTIONS, 4);
    close(again);
    rig_free(&r);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_takes_messages_in_any_pieces), CHECK_TEST(test_closes_what_is_out_of_step),
        CHECK_TEST(test_drops_whole_frames),           CHECK_TEST(test_clients_that_vanish),
        CHECK_TEST(test_numbers_are_used_again),       CHECK_TEST(test_limits),
    };
    return CHECK_RUN(tests);
}
