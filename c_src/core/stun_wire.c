#include "core/stun_wire.h"

static const struct stun_attr_def defs[STUN_ID_COUNT] = {
#define STUN_DEF(id, type, name, kind, least, most) \
    [STUN_ID_##id] = {name, STUN_KIND_##kind, type, least, most},
    STUN_ATTRS(STUN_DEF)
#undef STUN_DEF
};

const struct stun_attr_def *stun_attr_def(enum stun_attr_id id)
{
    return &defs[id];
}

enum stun_attr_id stun_attr_id(uint16_t type)
{
    /* dense cases: the compiler makes two jump tables of it */
    switch (type) {
#define STUN_ID_OF(id, type, name, kind, least, most) \
    case type:                                        \
        return STUN_ID_##id;
        STUN_ATTRS(STUN_ID_OF)
#undef STUN_ID_OF
    default:
        return STUN_ID_UNKNOWN;
    }
}

bool stun_attr_length_ok(enum stun_attr_id id, size_t len)
{
    const struct stun_attr_def *def = &defs[id];
    if (len < def->least || len > def->most)
        return false;
    switch (def->kind) {
    case STUN_KIND_ADDR:
    case STUN_KIND_XADDR:
        return len == 8 || len == 20;
    case STUN_KIND_TYPES:
        return len % 2 == 0;
    case STUN_KIND_PORT:
        return len != 3;
    default:
        return id != STUN_ID_MESSAGE_INTEGRITY_SHA256 || len % 4 == 0;
    }
}

const char *stun_method_name(uint16_t method)
{
    switch (method) {
#define STUN_METHOD_NAME(sym, num, name) \
    case num:                            \
        return name;
        STUN_METHODS(STUN_METHOD_NAME)
#undef STUN_METHOD_NAME
    default:
        return NULL;
    }
}

const char *stun_error_reason(unsigned code)
{
    switch (code) {
#define STUN_ERROR_REASON(sym, num, reason) \
    case num:                               \
        return reason;
        STUN_ERRORS(STUN_ERROR_REASON)
#undef STUN_ERROR_REASON
    default:
        return "Error";
    }
}
