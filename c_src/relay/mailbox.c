#include "relay/mailbox.h"

#include "relay/owner.h"

static struct mail *take_all(struct mailbox *box)
{
    uv_mutex_lock(&box->lock);
    struct mail *first = box->first;
    box->first = NULL;
    box->last = &box->first;
    uv_mutex_unlock(&box->lock);
    return first;
}

static void on_wake(uv_async_t *wake)
{
    struct mailbox *box = OWNER_OF(wake, struct mailbox, wake);
    struct mail *mail = take_all(box);

    while (mail) {
        struct mail *next = mail->next;
        box->deliver(box, mail);
        mail = next;
    }
}

int mailbox_init(struct mailbox *box, uv_loop_t *loop,
                 void (*deliver)(struct mailbox *box, struct mail *mail))
{
    box->first = NULL;
    box->last = &box->first;
    box->deliver = deliver;
    int err = uv_mutex_init(&box->lock);
    if (err)
        return err;
    err = uv_async_init(loop, &box->wake, on_wake);
    if (err)
        uv_mutex_destroy(&box->lock);
    return err;
}

void mailbox_post(struct mailbox *box, struct mail *mail)
{
    mail->next = NULL;
    uv_mutex_lock(&box->lock);
    *box->last = mail;
    box->last = &mail->next;
    /* Inside the lock: the receiver cannot take this mail, and close, before it is sent. */
    uv_async_send(&box->wake);
    uv_mutex_unlock(&box->lock);
}

void mailbox_close(struct mailbox *box)
{
    uv_close((uv_handle_t *)&box->wake, NULL);
}

struct mail *mailbox_take(struct mailbox *box)
{
    uv_mutex_lock(&box->lock);
    struct mail *mail = box->first;
    if (mail) {
        box->first = mail->next;
        if (!box->first)
            box->last = &box->first;
    }
    uv_mutex_unlock(&box->lock);
    return mail;
}

void mailbox_free(struct mailbox *box)
{
    uv_mutex_destroy(&box->lock);
}
