#include "relay/news.h"

#include "check.h"
#include "core/buf.h"
#include "relay/owner.h"

/* The main thread's end, on the same loop. */
struct office {
    uv_loop_t loop;
    struct mailbox box;
    struct credit credit;
    struct news news;
    unsigned sheets, events, frames;
    unsigned odd; /* what is no whole frame */
};

enum {
    NEWS = 7
};

static unsigned whole_frames(const struct term_out *out, unsigned *odd)
{
    struct rbuf r = rbuf_of(out->x.buff, (size_t)out->x.index);
    unsigned n = 0;

    while (rbuf_left(&r)) {
        uint32_t len = rbuf_u32(&r);
        const uint8_t *body = rbuf_take(&r, len);
        struct term_in term;
        if (r.failed || !term_in_init(&term, body, len)) {
            *odd += 1;
            break;
        }
        n++;
    }
    return n;
}

static void deliver(struct mailbox *box, struct mail *mail)
{
    struct office *o = OWNER_OF(box, struct office, box);
    struct news_sheet *sheet = OWNER_OF(mail, struct news_sheet, mail);

    CHECK_EQ(mail->kind, NEWS);
    o->sheets++;
    o->events += sheet->count;
    o->frames += whole_frames(&sheet->frames, &o->odd);
    news_sheet_free(sheet);
}

static void open_office(struct office *o, uint64_t credit)
{
    *o = (struct office){.sheets = 0};
    CHECK_EQ(uv_loop_init(&o->loop), 0);
    CHECK_EQ(mailbox_init(&o->box, &o->loop, deliver), 0);
    credit_grant(&o->credit, credit);
    o->news = (struct news){.to = &o->box, .credit = &o->credit, .worker = 3, .kind = NEWS};
}

static void close_office(struct office *o)
{
    mailbox_close(&o->box);
    uv_run(&o->loop, UV_RUN_DEFAULT);
    CHECK_EQ(uv_loop_close(&o->loop), 0);
    mailbox_free(&o->box);
    CHECK_EQ(o->odd, 0);
    CHECK_EQ(o->frames, o->events);
}

static void add(struct office *o, unsigned count, uint64_t now_ms)
{
    const struct turn_tuple tuple = {.client = {.family = ADDR_V4, .ip = {192, 0, 2, 1}}};
    const struct turn_event event = {.kind = TURN_EV_AUTH_FAILED,
                                     .tuple = &tuple,
                                     .username = span_str("1:alice"),
                                     .reason = "expired"};

    while (count--)
        news_add(&o->news, &event, now_ms);
}

static void test_waits_for_more(void)
{
    struct office o;

    open_office(&o, 100);
    CHECK_EQ(news_deadline(&o.news), UINT64_MAX);
    add(&o, 1, 1000);
    add(&o, 2, 1005);
    CHECK_EQ(news_deadline(&o.news), 1000 + NEWS_WAIT_MS);
    uv_run(&o.loop, UV_RUN_NOWAIT);
    CHECK_EQ(o.sheets, 0);
    news_post(&o.news);
    CHECK_EQ(news_deadline(&o.news), UINT64_MAX);
    news_post(&o.news);
    uv_run(&o.loop, UV_RUN_ONCE);
    CHECK_EQ(o.sheets, 1);
    CHECK_EQ(o.events, 3);
    close_office(&o);
}

static void test_a_full_sheet_does_not_wait(void)
{
    struct office o;

    open_office(&o, 1000);
    add(&o, 2 * NEWS_MAX, 1000);
    CHECK_EQ(news_deadline(&o.news), UINT64_MAX);
    uv_run(&o.loop, UV_RUN_ONCE);
    CHECK_EQ(o.sheets, 2);
    CHECK_EQ(o.events, 2 * NEWS_MAX);
    close_office(&o);
}

static void test_without_credit_they_are_dropped(void)
{
    struct office o;

    open_office(&o, 2);
    add(&o, 5, 1000);
    CHECK_EQ(o.credit.dropped, 3);
    news_post(&o.news);
    uv_run(&o.loop, UV_RUN_ONCE);
    CHECK_EQ(o.events, 2);
    add(&o, 1, 1000);
    CHECK_EQ(news_deadline(&o.news), UINT64_MAX);
    close_office(&o);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_waits_for_more),
        CHECK_TEST(test_a_full_sheet_does_not_wait),
        CHECK_TEST(test_without_credit_they_are_dropped),
    };
    return CHECK_RUN(tests);
}
