#include "relay/packet.h"

#include <stdlib.h>

struct packet *packet_new(enum packet_kind kind, const struct turn_tuple *tuple,
                          const struct turn_out *out, struct credit *room)
{
    size_t len = turn_out_len(out);

    if (kind != PACKET_GONE && !credit_take(room))
        return NULL;
    struct packet *p = malloc(sizeof *p + len);
    if (!p) {
        if (kind != PACKET_GONE)
            credit_grant(room, 1);
        return NULL;
    }
    *p = (struct packet){.kind = kind, .room = room, .tuple = *tuple, .len = len};
    struct wbuf w = wbuf_of(p->bytes, len);
    turn_out_put(&w, out);
    return p;
}

void packet_free(struct packet *p)
{
    if (p->kind != PACKET_GONE)
        credit_grant(p->room, 1);
    free(p);
}
