#include "relay/own.h"

#include "relay/sock.h"

static bool known(const struct turn_config *c, const struct addr *ip)
{
    for (size_t i = 0; i < c->own_count; i++)
        if (addr_ip_eq(&c->own[i], ip))
            return true;
    return false;
}

static void note(struct turn_config *c, struct addr ip)
{
    if (ip.family == ADDR_NONE || c->own_count == TURN_OWN_MAX || known(c, &ip))
        return;
    ip.port = 0;
    ip.scope = 0;
    c->own[c->own_count++] = ip;
}

/* The host's addresses of this family; where the system does not tell, there are none. */
static void note_host(struct turn_config *c, uint8_t family)
{
    uv_interface_address_t *all;
    int count;

    if (uv_interface_addresses(&all, &count) != 0)
        return;
    for (int i = 0; i < count; i++) {
        union sock_addr sa = {.sa = {.sa_family = AF_UNSPEC}};
        if (all[i].address.address4.sin_family == AF_INET)
            sa.v4 = all[i].address.address4;
        else
            sa.v6 = all[i].address.address6;
        struct addr ip = sock_to_addr(&sa);
        if (ip.family == family)
            note(c, ip);
    }
    uv_free_interface_addresses(all, count);
}

void own_note(struct relay_config *config)
{
    struct turn_config *c = &config->turn;

    c->own_count = 0;
    for (size_t i = 0; i < c->relay_count; i++) {
        note(c, c->relays[i].bind);
        note(c, c->relays[i].external);
    }
    note(c, config->alternate);
    for (size_t i = 0; i < config->listen_count; i++) {
        const struct addr *at = &config->listen[i].at;
        if (addr_is_any(at))
            note_host(c, at->family);
        else
            note(c, *at);
    }
}
