#include "peer.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const texts[SIM_PEERS] = {
    "198.51.100.1:7000", "198.51.100.1:7001",    "198.51.100.2:7000",
    "203.0.113.3:9",     "[2001:db8:1::4]:7000", "[2001:db8:1::5]:7000",
};

const char *sim_peer_text(uint8_t number)
{
    return texts[number];
}

void sim_peer_init(struct sim_peer *p, uint8_t number, struct sim_link *link, struct rng *rng)
{
    *p = (struct sim_peer){.number = number, .link = link, .rng = rng, .due_ms = UINT64_MAX};
    if (addr_parse(texts[number], strlen(texts[number]), &p->at) != CT_OK)
        abort();
}

size_t sim_payload(struct rng *rng, char who, unsigned number, uint64_t serial,
                   char out[SIM_PAYLOAD_MAX])
{
    size_t len = (size_t)snprintf(out, SIM_PAYLOAD_MAX, "%c%u#%" PRIu64, who, number, serial);
    size_t end = len + rng_below(rng, SIM_PAYLOAD_MAX - len);
    memset(out + len, '.', end - len);
    return end;
}

void sim_peer_say(struct sim_peer *p, uint64_t now_ms, const struct addr *relayed)
{
    char payload[SIM_PAYLOAD_MAX];
    size_t len = sim_payload(p->rng, 'p', p->number, p->said++, payload);
    struct sim_path path = {.way = SIM_PEER_TO_RELAY, .from = p->at, .to = *relayed};
    if (relayed->family == p->at.family)
        sim_link_send(p->link, now_ms, &path, span_of(payload, len));
}

static void remember(struct sim_peer *p, const struct addr *relayed)
{
    size_t n = p->seen_count < SIM_SEEN_MAX ? p->seen_count : SIM_SEEN_MAX;
    for (size_t i = 0; i < n; i++)
        if (addr_eq(&p->seen[i], relayed))
            return;
    p->seen[p->seen_count++ % SIM_SEEN_MAX] = *relayed;
}

void sim_peer_receive(struct sim_peer *p, uint64_t now_ms, const struct addr *from,
                      struct span data)
{
    (void)data;
    p->heard++;
    remember(p, from);
    if (p->answers && rng_below(p->rng, 1000) < p->answers)
        sim_peer_say(p, now_ms, from);
}

void sim_peer_tick(struct sim_peer *p, uint64_t now_ms)
{
    size_t n = p->seen_count < SIM_SEEN_MAX ? p->seen_count : SIM_SEEN_MAX;
    if (p->due_ms > now_ms)
        return;
    p->due_ms = p->unasked_ms ? now_ms + 1 + rng_below(p->rng, p->unasked_ms) : UINT64_MAX;
    if (n)
        sim_peer_say(p, now_ms, &p->seen[rng_below(p->rng, n)]);
}
