#include "check.h"
#include "relay/credit.h"
#include "relay/mailbox.h"
#include "relay/owner.h"

#include <stdlib.h>

enum {
    SENDERS = 4,
    MAILS = 20000
};

struct letter {
    struct mail mail;
    int sender, number;
};

struct office {
    uv_loop_t loop;
    struct mailbox box;
    struct credit credit;
    int next[SENDERS]; /* the number that is to come of each sender */
    int received;
};

struct sender {
    uv_thread_t thread;
    struct office *office;
    int number;
};

static void deliver(struct mailbox *box, struct mail *mail)
{
    struct office *o = OWNER_OF(box, struct office, box);
    struct letter *l = OWNER_OF(mail, struct letter, mail);

    CHECK_EQ(l->number, o->next[l->sender]);
    o->next[l->sender] = l->number + 1;
    free(l);
    if (++o->received == SENDERS * MAILS)
        mailbox_close(box);
}

static void send_all(void *arg)
{
    struct sender *s = arg;

    for (int i = 0; i < MAILS; i++) {
        struct letter *l = malloc(sizeof *l);
        if (!l)
            abort();
        *l = (struct letter){.sender = s->number, .number = i};
        mailbox_post(&s->office->box, &l->mail);
    }
}

/* Nothing is lost, each thread's mail keeps its order, and the loop ends with the mailbox. */
static void test_delivers_everything_in_order(void)
{
    struct office o = {.received = 0};
    struct sender senders[SENDERS];

    CHECK_EQ(uv_loop_init(&o.loop), 0);
    CHECK_EQ(mailbox_init(&o.box, &o.loop, deliver), 0);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.office = &o, .number = i};
        CHECK_EQ(uv_thread_create(&senders[i].thread, send_all, &senders[i]), 0);
    }
    uv_run(&o.loop, UV_RUN_DEFAULT);
    for (int i = 0; i < SENDERS; i++)
        uv_thread_join(&senders[i].thread);
    CHECK_EQ(o.received, SENDERS * MAILS);
    CHECK_EQ(uv_loop_close(&o.loop), 0);
    mailbox_free(&o.box);
}

static void test_credit_is_taken_once(void)
{
    struct credit c = {0};

    CHECK(!credit_take(&c));
    credit_grant(&c, 2);
    CHECK(credit_take(&c));
    CHECK(credit_take(&c));
    CHECK(!credit_take(&c));
    CHECK_EQ(c.left, 0);
    credit_drop(&c);
    CHECK_EQ(c.dropped, 1);
}

static void test_credit_has_a_limit(void)
{
    struct credit c = {0};

    for (int i = 0; i < 100; i++)
        credit_grant(&c, CREDIT_MAX);
    CHECK_EQ(c.left, CREDIT_MAX);
    CHECK(credit_take(&c));
    credit_grant(&c, 0);
    CHECK_EQ(c.left, CREDIT_MAX - 1);
}

static void take_all(void *arg)
{
    struct sender *s = arg;

    while (credit_take(&s->office->credit))
        s->number++;
}

static void test_threads_share_credit(void)
{
    struct office o = {.received = 0};
    struct sender senders[SENDERS];
    int taken = 0;

    credit_grant(&o.credit, MAILS);
    for (int i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.office = &o};
        CHECK_EQ(uv_thread_create(&senders[i].thread, take_all, &senders[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        uv_thread_join(&senders[i].thread);
        taken += senders[i].number;
    }
    CHECK_EQ(taken, MAILS);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_delivers_everything_in_order),
        CHECK_TEST(test_credit_is_taken_once),
        CHECK_TEST(test_credit_has_a_limit),
        CHECK_TEST(test_threads_share_credit),
    };
    return CHECK_RUN(tests);
}
