#include "core/turn_config.h"

#include "core/turn_grants.h"
#include "core/turn_users.h"

#include <string.h>

#ifndef CT_VERSION
#define CT_VERSION "dev"
#endif

void turn_config_defaults(struct turn_config *config)
{
    *config = (struct turn_config){
        .realm = "cromulent_turn",
        .software = "cromulent_turn/" CT_VERSION,
        .port_min = 49152,
        .port_max = 65535,
        .lifetime_default = 600,
        .lifetime_max = 3600,
        .permission_lifetime = 300,
        .channel_lifetime = 600,
        .channel_quarantine = 300,
        .reservation_lifetime = 30,
        .nonce_lifetime = 3600,
        .max_allocations = 65536,
        .max_permissions = 256,
        .max_channels = 256,
        .tcp_allocations = true,
        .max_tcp_peers = 2048,
        .allocation_tcp_peers = 64,
        .challenge_rate = 200,
        .challenge_burst = 1000,
        .pair = true,
        .max_grants = 65536,
    };
    turn_policy_defaults(&config->policy);
}

struct span turn_config_server_name(const struct turn_config *config)
{
    return span_str(*config->oauth_server_name ? config->oauth_server_name : config->realm);
}

static const char *check_secrets(const struct turn_config *c)
{
    if (c->secret_count == 0)
        return "secrets: none given, at least one is needed";
    if (c->secret_count > TURN_SECRETS_MAX)
        return "secrets: more than 8";
    for (size_t i = 0; i < c->secret_count; i++)
        if (c->secrets[i].len == 0 || c->secrets[i].len > TURN_SECRET_MAX)
            return "secrets: each must have 1 to 256 bytes";
    return NULL;
}

static bool kid_again(const struct turn_token_key *keys, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (span_eq(span_of(keys[i].kid, keys[i].kid_len), span_of(keys[n].kid, keys[n].kid_len)))
            return true;
    return false;
}

static const char *check_oauth_keys(const struct turn_config *c)
{
    const struct turn_token_key *keys = c->oauth_keys;
    if (c->oauth_key_count > TURN_TOKEN_KEYS_MAX)
        return "oauth_keys: more than 16";
    for (size_t i = 0; i < c->oauth_key_count; i++) {
        if (keys[i].kid_len == 0 || keys[i].kid_len > TURN_KID_MAX)
            return "oauth_keys: each kid must have 1 to 128 bytes";
        if (keys[i].key_len != CRYPTO_KEY_SIZE && keys[i].key_len != CRYPTO_SHORT_KEY_SIZE)
            return "oauth_keys: each key must have 32 bytes (A256GCM) or 16 (A128GCM)";
        if (keys[i].from >= keys[i].until)
            return "oauth_keys: each key must be good before the end of its time";
        if (kid_again(keys, i))
            return "oauth_keys: each kid must be there once";
    }
    return NULL;
}

static const char *check_relays(const struct turn_config *c)
{
    if (c->relay_count == 0 || c->relay_count > TURN_RELAYS_MAX)
        return "relays: 1 to 8 relay addresses are needed";
    for (size_t i = 0; i < c->relay_count; i++) {
        const struct turn_relay_ip *r = &c->relays[i];
        if (addr_is_any(&r->bind) || addr_is_any(&r->external))
            return "relays: a relay address must be one IP, not 0.0.0.0 or ::";
        if (r->bind.family != r->external.family)
            return "relays: an external address must be of its relay address's family";
        if (r->bind.port || r->external.port)
            return "relays: a relay address has no port";
    }
    if (c->port_min < 1024 || c->port_min > c->port_max)
        return "ports: must be MIN-MAX with 1024 <= MIN <= MAX <= 65535";
    return NULL;
}

static const char *check_redirect(const struct turn_config *c)
{
    if (c->redirect_count > TURN_REDIRECTS_MAX)
        return "redirect: more than 8";
    for (size_t i = 0; i < c->redirect_count; i++)
        if (!c->redirect[i].port || addr_is_any(&c->redirect[i]))
            return "redirect: each must be one IP, not 0.0.0.0 or ::, with a port";
    return NULL;
}

static const char *check_lifetimes(const struct turn_config *c)
{
    if (c->lifetime_max == 0 || c->lifetime_max > TURN_LIFETIME_LIMIT)
        return "lifetime_max: must be 1 to 3600 seconds";
    if (c->lifetime_default == 0 || c->lifetime_default > c->lifetime_max)
        return "lifetime_default: must be 1 second to lifetime_max";
    const uint32_t others[] = {c->permission_lifetime, c->channel_lifetime, c->channel_quarantine,
                               c->reservation_lifetime, c->nonce_lifetime};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i] == 0 || others[i] > TURN_LIFETIME_LIMIT)
            return "permission, channel, reservation and nonce lifetimes: must be 1 to 3600 seconds";
    return NULL;
}

static const char *check_limits(const struct turn_config *c)
{
    if (c->max_allocations == 0 || c->max_allocations > 1u << 24)
        return "max_allocations: must be 1 to 16777216";
    if (c->max_permissions == 0 || c->max_permissions > 4096)
        return "max_permissions: must be 1 to 4096";
    if (c->max_channels == 0 || c->max_channels > 4096)
        return "max_channels: must be 1 to 4096";
    if (c->challenge_rate > 1000000 || c->challenge_burst > 1000000)
        return "challenge_rate, challenge_burst: must be at most 1000000";
    if (c->challenge_rate && !c->challenge_burst)
        return "challenge_burst: must be at least 1 when challenge_rate is set";
    if (c->max_tcp_peers == 0 || c->max_tcp_peers > 1u << 20)
        return "max_tcp_peers: must be 1 to 1048576";
    if (c->allocation_tcp_peers == 0 || c->allocation_tcp_peers > 4096)
        return "allocation_tcp_peers: must be 1 to 4096";
    if (c->userhashes > TURN_USERS_LIMIT)
        return "userhashes: must be at most 1048576";
    return NULL;
}

/* In switch mode a port must be of one relay address only: no socket would tell them apart. */
static const char *check_switch(const struct turn_config *c)
{
    if (!c->switched)
        return NULL;
    if (!c->pair)
        return "pair: cannot be turned off in switch mode";
    for (size_t i = 0; i < c->relay_count; i++)
        for (size_t k = i + 1; k < c->relay_count; k++) {
            const struct turn_relay_ip *a = &c->relays[i], *b = &c->relays[k];
            if (addr_ip_eq(&a->external, &b->external) || addr_ip_eq(&a->external, &b->bind) ||
                addr_ip_eq(&a->bind, &b->external) || addr_ip_eq(&a->bind, &b->bind))
                return "relays: must all be different in switch mode";
        }
    return NULL;
}

static const char *check_admission(const struct turn_config *c)
{
    if (c->max_grants == 0 || c->max_grants > TURN_GRANTS_LIMIT)
        return "max_grants: must be 1 to 16777216";
    if (c->admission != TURN_ADMISSION_OFF && c->oauth_key_count)
        return "admission: cannot be had together with oauth_keys, whose tokens name no user";
    if (c->admission == TURN_ADMISSION_ROOM && !c->pair)
        return "pair: cannot be turned off with admission by room";
    return NULL;
}

const char *turn_config_check(const struct turn_config *config)
{
    if (!*config->realm)
        return "realm: must not be empty";
    const char *problem = check_secrets(config);
    if (!problem)
        problem = check_oauth_keys(config);
    if (!problem)
        problem = check_relays(config);
    if (!problem)
        problem = check_redirect(config);
    if (!problem)
        problem = check_lifetimes(config);
    if (!problem)
        problem = check_switch(config);
    if (!problem)
        problem = check_admission(config);
    return problem ? problem : check_limits(config);
}
