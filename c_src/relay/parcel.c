#include "relay/parcel.h"

#include <stdlib.h>
#include <unistd.h>

struct parcel *parcel_new(struct span in)
{
    struct parcel *p = calloc(1, sizeof *p + in.len);

    if (!p)
        return NULL;
    p->fd = -1;
    p->len = in.len;
    if (in.len)
        memcpy(p->in, in.data, in.len);
    return p;
}

void parcel_free(struct parcel *p)
{
    if (!p)
        return;
    if (p->fd >= 0) {
        close(p->fd);
        gate_leave(p->gate, &p->source);
    }
    tls_free(p->tls);
    free(p->out);
    free(p);
}
