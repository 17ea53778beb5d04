#include "core/stun_wire.h"

static const struct stun_attr_def defs[STUN_ID_COUNT] = {
#define ATTR_DEF(id, type, name, kind, least, most) \
    [STUN_ID_##id] = {name, STUN_KIND_##kind, type, least, most},
    STUN_ATTRS(ATTR_DEF)
#undef ATTR_DEF
};

const uint8_t stun_attr_slots[STUN_ATTR_SLOTS] = {
#define ATTR_SLOT(id, type, name, kind, least, most) [STUN_ATTR_SLOT(type)] = STUN_ID_##id + 1,
    STUN_ATTRS(ATTR_SLOT)
#undef ATTR_SLOT
};

_Static_assert(STUN_ID_COUNT < 64, "stun_msg.present has a bit per attribute");

const struct stun_attr_def *stun_attr_def(enum stun_attr_id id)
{
    return &defs[id];
}

bool stun_attr_length_ok(enum stun_attr_id id, size_t len)
{
    const struct stun_attr_def *def = &defs[id];
    if (len < def->least || len > def->most)
        return false;
    if (id == STUN_ID_MESSAGE_INTEGRITY_SHA256)
        return len % 4 == 0;
    if (def->kind == STUN_KIND_ADDR || def->kind == STUN_KIND_XADDR)
        return len == 8 || len == 20;
    if (def->kind == STUN_KIND_TYPES || def->kind == STUN_KIND_PORT)
        return len % 2 == 0;
    return true;
}

const char *stun_method_name(uint16_t method)
{
    switch (method) {
#define METHOD_NAME(sym, num, name) \
    case num:                       \
        return name;
        STUN_METHODS(METHOD_NAME)
#undef METHOD_NAME
    default:
        return NULL;
    }
}

const char *stun_error_reason(unsigned code)
{
    switch (code) {
#define ERROR_REASON(sym, num, reason) \
    case num:                          \
        return reason;
        STUN_ERRORS(ERROR_REASON)
#undef ERROR_REASON
    default:
        return "Error";
    }
}
