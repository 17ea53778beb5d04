#include "caller.h"

#include <time.h>
#include <unistd.h>

/* Only for what a client wants of it: credentials and transaction ids. */
static struct engine shell;

static void await_reply(struct caller *caller)
{
    uint64_t give_up = uv_hrtime() + UINT64_C(10000000000);
    uint8_t got[ENGINE_BYTES_MAX];
    ssize_t n = -1;

    while (n < 0 && uv_hrtime() < give_up) {
        caller->turn(caller);
        n = recv(caller->fd, got, sizeof got, MSG_DONTWAIT);
    }
    CHECK(n > 0);
    caller->c.reply_len = 0;
    if (n > 0)
        CHECK(client_read(&caller->c, span_of(got, (size_t)n)) != NO_REPLY);
}

void caller_ask(struct caller *caller, uint16_t method, const struct attrs *a)
{
    struct client *c = &caller->c;
    uint8_t bytes[ENGINE_BYTES_MAX];

    for (int tries = 0; tries < 2; tries++) {
        rig_send(caller->fd, &caller->server, bytes, client_encode(c, method, a, bytes));
        await_reply(caller);
        if (!c->reply_len || c->msg.cls == STUN_SUCCESS)
            break;
        client_learn(c);
    }
    CHECK(c->reply_len && c->msg.cls == STUN_SUCCESS);
}

void caller_allocate(struct caller *caller, uint8_t family)
{
    struct client *c = &caller->c;
    struct attrs a;

    attrs_init(&a);
    client_new_tid(c);
    attrs_u32(&a, STUN_ATTR_REQUESTED_TRANSPORT, 17u << 24);
    attrs_u32(&a, STUN_ATTR_REQUESTED_ADDRESS_FAMILY, (uint32_t)family << 24);
    caller_ask(caller, STUN_ALLOCATE, &a);
    CHECK_EQ(stun_msg_addr(&c->msg, STUN_ID_XOR_RELAYED_ADDRESS, &c->relayed), CT_OK);
}

void caller_admit(struct caller *caller, const struct addr *peer, uint16_t channel)
{
    char text[ADDR_TEXT_MAX];
    struct attrs a;

    addr_format(peer, text);
    attrs_init(&a);
    client_new_tid(&caller->c);
    if (channel)
        attrs_u32(&a, STUN_ATTR_CHANNEL_NUMBER, (uint32_t)channel << 16);
    attrs_peer(&a, &caller->c, text);
    caller_ask(caller, channel ? STUN_CHANNEL_BIND : STUN_CREATE_PERMISSION, &a);
}

void caller_init(struct caller *caller, struct crypto *crypto, const char *at,
                 const struct addr *server, void (*turn)(struct caller *caller))
{
    memset(&shell, 0, sizeof shell);
    shell.crypto = crypto;
    shell.now.unix_s = (uint64_t)time(NULL);
    snprintf(shell.config.realm, sizeof shell.config.realm, "example.org");
    *caller = (struct caller){.fd = rig_socket(at), .server = *server, .turn = turn};
    caller->c = client_at(&shell, "192.0.2.1:1", "alice");
}

void caller_free(struct caller *caller)
{
    close(caller->fd);
}
