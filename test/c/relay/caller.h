/* A client of a relay that the test turns: real requests over a real socket. */
#ifndef CT_TEST_CALLER_H
#define CT_TEST_CALLER_H

#include "core/engine.h"
#include "rig.h"

struct caller {
    struct client c; /* credentials, the last answer, the relayed address */
    int fd;
    struct addr server;
    void (*turn)(struct caller *caller); /* the relay's loop, once, without waiting */
};

/* A socket there, and the credentials of "alice" for realm "example.org", secret "north". */
void caller_init(struct caller *caller, struct crypto *crypto, const char *at,
                 const struct addr *server, void (*turn)(struct caller *caller));
void caller_free(struct caller *caller);

/* Each sends a request, with credentials once they are asked for; the answer must be a success. */
void caller_ask(struct caller *caller, uint16_t method, const struct attrs *a);
void caller_allocate(struct caller *caller, uint8_t family);
/* Binds a channel to the peer, or permits it only, for channel 0. */
void caller_admit(struct caller *caller, const struct addr *peer, uint16_t channel);

#endif
