#include "relay/event.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const transports[] = {
    [TURN_UDP] = "udp", [TURN_TCP] = "tcp", [TURN_TLS] = "tls", [TURN_DTLS] = "dtls"};

static const char *const ends[] = {
    [TURN_END_RELEASED] = "released", [TURN_END_EXPIRED] = "expired",
    [TURN_END_KILLED] = "killed",     [TURN_END_SHUTDOWN] = "shutdown",
    [TURN_END_CLOSED] = "closed",     [TURN_END_WITHDRAWN] = "withdrawn"};

static void put_id(struct term_out *out, unsigned worker, uint64_t id)
{
    char text[32];

    snprintf(text, sizeof text, "%u-%llu", worker, (unsigned long long)id);
    term_put_text(out, text);
}

/* Decimal digits from *at on; false when there is none, or more than 19. */
static bool parse_number(struct span text, size_t *at, uint64_t *out)
{
    enum {
        DIGITS_MAX = 19
    };
    size_t start = *at;
    uint64_t v = 0;

    for (; *at < text.len && text.data[*at] >= '0' && text.data[*at] <= '9'; ++*at) {
        if (*at - start == DIGITS_MAX)
            return false;
        v = v * 10 + (uint64_t)(text.data[*at] - '0');
    }
    *out = v;
    return *at > start;
}

bool event_parse_id(struct span text, unsigned *worker, uint64_t *id)
{
    size_t at = 0;
    uint64_t w, n;

    if (!parse_number(text, &at, &w) || at == text.len || text.data[at++] != '-' ||
        !parse_number(text, &at, &n) || at != text.len || w > UINT16_MAX)
        return false;
    *worker = (unsigned)w;
    *id = n;
    return true;
}

static void put_count(struct term_out *out, const char *key, uint64_t value)
{
    term_put_atom(out, key);
    term_put_uint(out, value);
}

/* How many entries `Allocation` and allocation events have in common. */
static size_t alloc_entries(const struct turn_alloc_info *info)
{
    return info->also.family == ADDR_NONE ? 17 : 18;
}

static void put_alloc_entries(struct term_out *out, const struct turn_alloc_info *info,
                              unsigned worker)
{
    term_put_atom(out, "id");
    put_id(out, worker, info->id);
    term_put_atom(out, "username");
    term_put_binary(out, info->username);
    term_put_atom(out, "client");
    term_put_addr(out, &info->tuple->client);
    term_put_atom(out, "server");
    term_put_addr(out, &info->tuple->server);
    term_put_atom(out, "transport");
    term_put_atom(out, transports[info->tuple->transport]);
    term_put_atom(out, "relayed");
    term_put_addr(out, &info->relayed);
    if (info->also.family != ADDR_NONE) {
        term_put_atom(out, "also_relayed");
        term_put_addr(out, &info->also);
    }
    put_count(out, "age_ms", info->age_ms);
    put_count(out, "expires_in_ms", info->expires_in_ms);
    put_count(out, "up_packets", info->up_packets);
    put_count(out, "up_bytes", info->up_bytes);
    put_count(out, "down_packets", info->down_packets);
    put_count(out, "down_bytes", info->down_bytes);
    put_count(out, "permissions", info->permissions);
    put_count(out, "channels", info->channels);
    term_put_atom(out, "protocol");
    term_put_atom(out, info->tcp ? "tcp" : "udp");
    put_count(out, "tcp_peers", info->tcp_peers);
    put_count(out, "worker", worker);
}

void event_put_alloc(struct term_out *out, const struct turn_alloc_info *info, unsigned worker)
{
    term_put_map(out, alloc_entries(info));
    put_alloc_entries(out, info, worker);
}

static void put_created(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    event_put_alloc(out, event->alloc, worker);
}

static void put_ended(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    term_put_map(out, alloc_entries(event->alloc) + 1);
    put_alloc_entries(out, event->alloc, worker);
    term_put_atom(out, "reason");
    term_put_atom(out, ends[event->end]);
}

/* The CIDR of a rule; a word where no rule but the relay's own state refuses. */
static void put_rule(struct term_out *out, const struct turn_rule *rule, const char *word)
{
    char ip[ADDR_TEXT_MAX], text[ADDR_TEXT_MAX + 4];

    if (!rule) {
        term_put_atom(out, word);
        return;
    }
    struct addr a =
        rule->prefix.family == ADDR_V4 ? addr_v4(rule->prefix.ip, 0) : addr_v6(rule->prefix.ip, 0);
    addr_format_ip(&a, ip);
    snprintf(text, sizeof text, "%s/%u", ip, rule->prefix.bits);
    term_put_text(out, text);
}

static void put_forbidden(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    (void)worker;
    term_put_map(out, 4);
    term_put_atom(out, "username");
    term_put_binary(out, event->username);
    term_put_atom(out, "client");
    term_put_addr(out, &event->tuple->client);
    term_put_atom(out, "peer");
    term_put_addr(out, event->peer);
    term_put_atom(out, "rule");
    put_rule(out, event->rule, event->reason);
}

static void put_permission(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    char ip[ADDR_TEXT_MAX];

    addr_format_ip(event->peer, ip);
    term_put_map(out, 5);
    term_put_atom(out, "id");
    put_id(out, worker, event->alloc->id);
    term_put_atom(out, "username");
    term_put_binary(out, event->username);
    term_put_atom(out, "client");
    term_put_addr(out, &event->tuple->client);
    term_put_atom(out, "relayed");
    term_put_addr(out, &event->alloc->relayed);
    term_put_atom(out, "peer");
    term_put_text(out, ip);
}

static void put_auth_failed(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    (void)worker;
    term_put_map(out, 3);
    term_put_atom(out, "username");
    term_put_binary(out, event->username);
    term_put_atom(out, "client");
    term_put_addr(out, &event->tuple->client);
    term_put_atom(out, "reason");
    term_put_atom(out, event->reason);
}

static void put_admission_refused(struct term_out *out, const struct turn_event *event,
                                  unsigned worker)
{
    (void)worker;
    term_put_map(out, 2);
    term_put_atom(out, "username");
    term_put_binary(out, event->username);
    term_put_atom(out, "client");
    term_put_addr(out, &event->tuple->client);
}

static const struct {
    const char *name;
    void (*put)(struct term_out *out, const struct turn_event *event, unsigned worker);
} kinds[] = {
    [TURN_EV_ALLOCATION_CREATED] = {"allocation_created", put_created},
    [TURN_EV_ALLOCATION_ENDED] = {"allocation_ended", put_ended},
    [TURN_EV_PEER_FORBIDDEN] = {"peer_forbidden", put_forbidden},
    [TURN_EV_PERMISSION_CREATED] = {"permission_created", put_permission},
    [TURN_EV_AUTH_FAILED] = {"auth_failed", put_auth_failed},
    [TURN_EV_ADMISSION_REFUSED] = {"admission_refused", put_admission_refused},
};

static void put_head(struct term_out *out, const char *name)
{
    term_put_tuple(out, 3);
    term_put_atom(out, "event");
    term_put_atom(out, name);
}

void event_put(struct term_out *out, const struct turn_event *event, unsigned worker)
{
    put_head(out, kinds[event->kind].name);
    kinds[event->kind].put(out, event, worker);
}

void event_put_log(struct term_out *out, const char *level, const char *message)
{
    put_head(out, "log");
    term_put_map(out, 2);
    term_put_atom(out, "level");
    term_put_atom(out, level);
    term_put_atom(out, "message");
    term_put_text(out, message);
}
