/*
 * A worker's events on their way to the BEAM: collected for a moment and handed to the main thread
 * together, so that many of them cost one wake-up and one write.
 */
#ifndef CT_RELAY_NEWS_H
#define CT_RELAY_NEWS_H

#include "core/turn_server.h"
#include "relay/credit.h"
#include "relay/mailbox.h"
#include "relay/term.h"

enum {
    NEWS_WAIT_MS = 20, /* for others to come, at most */
    NEWS_MAX = 64,     /* events that are handed over together */
};

/* Events as whole frames, one after the other; to be freed with news_sheet_free(). */
struct news_sheet {
    struct mail mail;
    struct term_out frames;
    unsigned count;
};

/* Of one worker, on its thread. */
struct news {
    struct mailbox *to;
    struct credit *credit;
    unsigned worker;
    int kind;                 /* of the mail */
    struct news_sheet *sheet; /* NULL: nothing waits */
    uint64_t due_ms;
};

/* Adds an event if there is credit for it and memory; else it is counted as dropped. */
void news_add(struct news *n, const struct turn_event *event, uint64_t now_ms);

/* Hands over what waits, if anything does. */
void news_post(struct news *n);

/* When news_post() should be called; UINT64_MAX: nothing waits. */
uint64_t news_deadline(const struct news *n);

void news_sheet_free(struct news_sheet *sheet);

#endif
