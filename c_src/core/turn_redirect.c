#include "core/turn_redirect.h"

#include "core/turn_reply.h"

/* One of this family, the same for all requests of an IP to any worker; NULL: there is none. */
static const struct addr *choose(const struct turn_server *s, const struct addr *client,
                                 bool same_family)
{
    const struct turn_config *c = s->config;
    const struct addr *found[TURN_REDIRECTS_MAX];
    size_t n = 0;
    for (size_t i = 0; i < c->redirect_count; i++)
        if ((c->redirect[i].family == client->family) == same_family)
            found[n++] = &c->redirect[i];
    return n ? found[turn_commons_user(s->commons, client->ip, sizeof client->ip) % n] : NULL;
}

/* Who asked so can check another certificate's name (§10): it knows RFC 8489, and is known. */
static bool wants_domain(const struct turn_request *r)
{
    bool secure = r->tuple->transport == TURN_TLS || r->tuple->transport == TURN_DTLS;
    return secure && stun_msg_has(r->msg, STUN_ID_MESSAGE_INTEGRITY_SHA256);
}

bool turn_redirect(struct turn_server *s, const struct turn_request *r)
{
    const struct addr *first = choose(s, &r->tuple->client, true);
    const struct addr *second = choose(s, &r->tuple->client, false);
    const char *domain = s->config->alternate_domain;
    if (!first)
        return false;
    struct wbuf w = turn_reply_begin(s, r, STUN_ERROR);
    stun_put_error(&w, STUN_TRY_ALTERNATE, span_str(stun_error_reason(STUN_TRY_ALTERNATE)));
    stun_put_addr(&w, STUN_ATTR_ALTERNATE_SERVER, first);
    if (second)
        stun_put_addr(&w, STUN_ATTR_ALTERNATE_SERVER, second);
    if (*domain && wants_domain(r))
        stun_put(&w, STUN_ATTR_ALTERNATE_DOMAIN, domain, strlen(domain));
    turn_reply_send(s, r, &w);
    turn_count(&s->counters, TURN_N_ERRORS, 1);
    return true;
}
