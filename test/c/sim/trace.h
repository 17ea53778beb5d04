/* The last things that happened in a run, kept as they were and written out when it fails. */
#ifndef CT_TEST_SIM_TRACE_H
#define CT_TEST_SIM_TRACE_H

#include "link.h"

enum {
    SIM_NOTES = 40,
    SIM_NOTE_HEAD = 24 /* bytes kept of a datagram: the header and the first attribute */
};

struct sim_note {
    uint64_t at_ms;
    const char *what;
    struct sim_path path;
    uint16_t len;
    uint8_t head[SIM_NOTE_HEAD];
};

struct sim_trace {
    uint64_t start_ms, count;
    uint64_t digest; /* of everything noted: two runs that did the same have the same */
    struct sim_note notes[SIM_NOTES];
};

void sim_trace_init(struct sim_trace *t, uint64_t start_ms);
/* `what` must outlive the trace; path may be NULL. */
void sim_trace_note(struct sim_trace *t, uint64_t at_ms, const char *what,
                    const struct sim_path *path, struct span bytes);
void sim_trace_print(const struct sim_trace *t);

#endif
