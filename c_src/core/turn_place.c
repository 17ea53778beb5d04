#include "core/turn_place.h"

#include "core/turn_perm.h"
#include "core/turn_tcp.h"

enum {
    BIND_TRIES = 32, /* ports that others may hold before we give up */
};

/* ---- one place ---- */

bool turn_relays_family(const struct turn_server *s, uint8_t family)
{
    for (size_t i = 0; i < s->config->relay_count; i++)
        if (s->config->relays[i].bind.family == family)
            return true;
    return false;
}

/* Takes a port under the lock: a redeemed one, or a free one of the family's addresses. */
static enum ct_err take_port(struct turn_server *s, const struct turn_wish *wish,
                             struct turn_port *out)
{
    enum ct_err err = CT_ENOSPACE;
    uint64_t random;
    s->io->ops->random(s->io, &random, sizeof random);
    s->io->ops->lock(s->io);
    if (wish->token.data)
        err = turn_commons_redeem(s->commons, wish->token.data, out);
    for (size_t i = 0; !wish->token.data && err != CT_OK && i < s->config->relay_count; i++) {
        uint8_t relay = (uint8_t)((i + (random >> 8)) % s->config->relay_count);
        if (s->config->relays[relay].bind.family != wish->family)
            continue;
        err = wish->tcp ? turn_commons_take_tcp_port(s->commons, relay, random, out)
                        : turn_commons_take_port(s->commons, relay, wish->parity, random, out);
    }
    s->io->ops->unlock(s->io);
    return err;
}

static void give_ports(struct turn_server *s, struct turn_port port, bool next)
{
    s->io->ops->lock(s->io);
    turn_commons_give_port(s->commons, port);
    if (next) {
        port.port++;
        turn_commons_give_port(s->commons, port);
    }
    s->io->ops->unlock(s->io);
}

/* What clients are told of a port of ours. */
static struct addr announced(const struct turn_server *s, struct turn_port port)
{
    struct addr a = s->config->relays[port.relay].external;
    a.port = port.port;
    return a;
}

/* In switch mode nothing is opened, and TCP is not relayed. */
static enum ct_err open_socket(struct turn_server *s, uint32_t alloc, struct turn_place *place)
{
    struct addr at = s->config->relays[place->port.relay].bind;
    place->relay = NULL;
    if (s->config->switched)
        return CT_OK;
    at.port = place->port.port;
    return place->port.tcp ? s->io->ops->tcp_listen(s->io, &at, alloc, &place->acceptor)
                           : s->io->ops->relay_open(s->io, &at, alloc, &place->relay);
}

/* Ports that somebody else holds are passed over. */
enum stun_error turn_place_open(struct turn_server *s, const struct turn_wish *wish, uint32_t alloc,
                                struct turn_place *out)
{
    bool next = wish->parity == TURN_EVEN_PORT_AND_NEXT;
    if (!wish->token.data && !turn_relays_family(s, wish->family))
        return STUN_FAMILY_NOT_SUPPORTED;
    for (unsigned i = 0; i < BIND_TRIES; i++) {
        if (take_port(s, wish, &out->port) != CT_OK)
            break;
        enum ct_err err = open_socket(s, alloc, out);
        out->relayed = announced(s, out->port);
        if (err == CT_OK) {
            struct turn_owner owner = {.worker = s->worker, .alloc = alloc};
            if (!wish->tcp) /* data from our own clients is for UDP ports only */
                turn_commons_bind(s->commons, out->port, owner);
            return 0;
        }
        give_ports(s, out->port, next);
        if (err != CT_EINUSE || wish->token.data)
            break;
    }
    return STUN_INSUFFICIENT_CAPACITY;
}

static void close_relay(struct turn_server *s, const struct turn_place *place)
{
    turn_commons_unbind(s->commons, place->port);
    if (place->relay)
        s->io->ops->relay_close(s->io, place->relay);
}

void turn_place_close(struct turn_server *s, struct turn_place *place)
{
    if (place->port.tcp)
        s->io->ops->tcp_unlisten(s->io, place->acceptor);
    else
        close_relay(s, place);
    place->relay = NULL;
    give_ports(s, place->port, false);
}

/* ---- the second ---- */

static struct turn_second *second_at(const struct turn_server *s, uint32_t number)
{
    return slab_at(&s->seconds, number);
}

static bool enter(struct turn_server *s)
{
    s->io->ops->lock(s->io);
    enum ct_err err = turn_commons_enter_second(s->commons);
    s->io->ops->unlock(s->io);
    return err == CT_OK;
}

static void leave(struct turn_server *s)
{
    s->io->ops->lock(s->io);
    turn_commons_leave_second(s->commons);
    s->io->ops->unlock(s->io);
}

enum stun_error turn_second_open(struct turn_server *s, struct turn_alloc *a,
                                 const struct turn_wish *wish)
{
    uint32_t number = turn_alloc_number(s, a);
    if (!turn_relays_family(s, wish->family))
        return STUN_FAMILY_NOT_SUPPORTED;
    uint32_t n = slab_take(&s->seconds);
    if (n == SLAB_NONE)
        return STUN_INSUFFICIENT_CAPACITY;
    struct turn_second *second = second_at(s, n);
    if (!enter(s))
        goto out_slab;
    if (turn_place_open(s, wish, number, &second->place))
        goto out_count;
    second->alloc = number;
    a->second = n;
    deadline_set(&s->wheel, &second->deadline, a->deadline.at);
    return 0;

out_count:
    leave(s);
out_slab:
    slab_give(&s->seconds, n);
    return STUN_INSUFFICIENT_CAPACITY;
}

struct turn_second *turn_second_of(const struct turn_server *s, const struct turn_alloc *a,
                                   struct turn_now now)
{
    if (a->second == SLAB_NONE || second_at(s, a->second)->deadline.at <= now.ms)
        return NULL;
    return second_at(s, a->second);
}

/* The places change their roles: each keeps its address and its time. */
static void swap(struct turn_server *s, struct turn_alloc *a, struct turn_second *second)
{
    struct turn_place place = a->place;
    uint64_t at = a->deadline.at;
    a->place = second->place;
    second->place = place;
    deadline_set(&s->wheel, &a->deadline, second->deadline.at);
    deadline_set(&s->wheel, &second->deadline, at);
}

void turn_place_extend(struct turn_server *s, struct turn_alloc *a, uint8_t family,
                       uint64_t until_ms)
{
    struct turn_second *second = a->second == SLAB_NONE ? NULL : second_at(s, a->second);
    bool first = a->place.relayed.family == family;
    deadline_set(&s->wheel, first || !second ? &a->deadline : &second->deadline, until_ms);
    if (second && second->deadline.at > a->deadline.at)
        swap(s, a, second);
}

void turn_place_drop(struct turn_server *s, struct turn_alloc *a, uint8_t family)
{
    struct turn_second *second = second_at(s, a->second);
    if (a->place.relayed.family == family)
        swap(s, a, second);
    turn_perm_drop_family(s, a, family);
    turn_tcp_drop_family(s, a, family);
    deadline_clear(&s->wheel, &second->deadline);
    turn_place_close(s, &second->place);
    leave(s);
    slab_give(&s->seconds, a->second);
    a->second = SLAB_NONE;
}

uint8_t turn_second_family(const struct turn_server *s, const struct turn_alloc *a)
{
    return second_at(s, a->second)->place.relayed.family;
}

struct turn_alloc *turn_second_owner(const struct turn_server *s, const struct deadline *d)
{
    if (!slab_has(&s->seconds, d))
        return NULL;
    return turn_alloc_at(s, ((const struct turn_second *)(const void *)d)->alloc);
}
