/* The way between threads: a queue that any thread adds to and one loop empties. */
#ifndef CT_RELAY_MAILBOX_H
#define CT_RELAY_MAILBOX_H

#include <uv.h>

/* Embedded in what is sent. */
struct mail {
    struct mail *next;
    int kind; /* sender and receiver agree about the values */
};

struct mailbox {
    uv_mutex_t lock;
    uv_async_t wake;
    struct mail *first;
    struct mail **last;
    /* Called on the loop's thread, once for each mail, in the order of posting. */
    void (*deliver)(struct mailbox *box, struct mail *mail);
};

/* 0 or a libuv error. */
int mailbox_init(struct mailbox *box, uv_loop_t *loop,
                 void (*deliver)(struct mailbox *box, struct mail *mail));

/* From any thread. The mail belongs to the mailbox until it is delivered. */
void mailbox_post(struct mailbox *box, struct mail *mail);

/* Stops listening; on the loop's thread. The loop must turn once more before mailbox_free(). */
void mailbox_close(struct mailbox *box);

/* What is left undelivered, one per call; NULL when there is none. */
struct mail *mailbox_take(struct mailbox *box);

/* When no thread posts any more. */
void mailbox_free(struct mailbox *box);

#endif
