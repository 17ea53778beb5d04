#include "trace.h"

#include "core/stun_wire.h"

#include <inttypes.h>
#include <stdio.h>

void sim_trace_init(struct sim_trace *t, uint64_t start_ms)
{
    t->start_ms = start_ms;
    t->count = 0;
    t->digest = 0xcbf29ce484222325u;
}

/* FNV-1a by words: quick, and enough to tell two runs apart. */
static void mix(struct sim_trace *t, uint64_t word)
{
    t->digest = (t->digest ^ word) * 0x100000001b3u;
}

void sim_trace_note(struct sim_trace *t, uint64_t at_ms, const char *what,
                    const struct sim_path *path, struct span bytes)
{
    struct sim_note *n = &t->notes[t->count++ % SIM_NOTES];
    *n = (struct sim_note){.at_ms = at_ms, .what = what, .len = (uint16_t)bytes.len};
    if (path)
        n->path = *path;
    if (bytes.len)
        memcpy(n->head, bytes.data, bytes.len < SIM_NOTE_HEAD ? bytes.len : SIM_NOTE_HEAD);
    mix(t, at_ms);
    for (size_t i = 0; i < bytes.len; i++)
        mix(t, bytes.data[i]);
}

static const char *class_name(uint16_t type)
{
    enum stun_class cls = stun_type_class(type);
    return cls == STUN_REQUEST      ? "request"
           : cls == STUN_SUCCESS    ? "success"
           : cls == STUN_INDICATION ? "indication"
                                    : "error";
}

static void print_message(const struct sim_note *n)
{
    uint16_t type = (uint16_t)(n->head[0] << 8 | n->head[1]);
    if (n->len >= STUN_HEADER_SIZE && n->head[0] < 4) {
        const char *name = stun_method_name(stun_type_method(type));
        printf(" %s %s %02x%02x%02x%02x", name ? name : "?", class_name(type), n->head[8],
               n->head[9], n->head[10], n->head[11]);
    } else if (n->len >= STUN_CHANNEL_HEADER_SIZE && n->head[0] >= 64 && n->head[0] < 80) {
        printf(" channel %04x", type);
    } else if (n->len) {
        printf(" \"%.*s\"", n->len < 8 ? n->len : 8, (const char *)n->head);
    }
}

static void print_note(const struct sim_trace *t, const struct sim_note *n)
{
    char from[ADDR_TEXT_MAX] = "-", to[ADDR_TEXT_MAX] = "-";
    uint64_t ms = n->at_ms - t->start_ms;
    if (n->path.from.family)
        addr_format(&n->path.from, from);
    if (n->path.to.family)
        addr_format(&n->path.to, to);
    printf("#   %6" PRIu64 ".%03" PRIu64 " %-14s %s > %s", ms / 1000, ms % 1000, n->what, from, to);
    print_message(n);
    printf(" (%u)\n", n->len);
}

void sim_trace_print(const struct sim_trace *t)
{
    uint64_t first = t->count > SIM_NOTES ? t->count - SIM_NOTES : 0;
    for (uint64_t i = first; i < t->count; i++)
        print_note(t, &t->notes[i % SIM_NOTES]);
}
