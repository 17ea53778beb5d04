/* Binding requests, and what RFC 5780 adds to them on two addresses and two ports. */
#ifndef CT_CORE_TURN_DISCOVERY_H
#define CT_CORE_TURN_DISCOVERY_H

#include "core/turn_state.h"

enum {
    TURN_PADDING_MAX =
        1500, /* bytes of PADDING in an answer: what needs two packets nearly anywhere */
};

/*
 * Whether a Binding request may have CHANGE-REQUEST, RESPONSE-PORT and PADDING: it came by UDP to
 * one of the four addresses (RFC 5780 §6.1).
 */
bool turn_discovery_serves(const struct turn_config *config, const struct turn_tuple *tuple);

/* Handler of Binding. */
void turn_binding(struct turn_server *s, struct turn_request *r);

#endif
