#include "relay/news.h"

#include "relay/control.h"
#include "relay/event.h"

#include <stdlib.h>

static void drop(struct news *n, unsigned count)
{
    while (count--)
        credit_drop(n->credit);
}

void news_sheet_free(struct news_sheet *sheet)
{
    term_out_free(&sheet->frames);
    free(sheet);
}

/* The sheet that events are written on; NULL when memory is short. */
static struct news_sheet *sheet_of(struct news *n, uint64_t now_ms)
{
    if (n->sheet)
        return n->sheet;
    n->sheet = malloc(sizeof *n->sheet);
    if (!n->sheet)
        return NULL;
    n->sheet->mail.kind = n->kind;
    n->sheet->count = 0;
    term_out_init(&n->sheet->frames);
    n->due_ms = now_ms + NEWS_WAIT_MS;
    return n->sheet;
}

void news_add(struct news *n, const struct turn_event *event, uint64_t now_ms)
{
    struct news_sheet *sheet = credit_take(n->credit) ? sheet_of(n, now_ms) : NULL;

    if (!sheet) {
        drop(n, 1);
        return;
    }
    int start = control_frame_begin(&sheet->frames);
    event_put(&sheet->frames, event, n->worker);
    control_frame_end(&sheet->frames, start);
    if (++sheet->count == NEWS_MAX)
        news_post(n);
}

void news_post(struct news *n)
{
    struct news_sheet *sheet = n->sheet;

    n->sheet = NULL;
    if (sheet && !sheet->frames.failed) {
        mailbox_post(n->to, &sheet->mail);
    } else if (sheet) {
        drop(n, sheet->count);
        news_sheet_free(sheet);
    }
}

uint64_t news_deadline(const struct news *n)
{
    return n->sheet ? n->due_ms : UINT64_MAX;
}
