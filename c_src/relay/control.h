/*
 * The control channel: frames of {packet, 4} on descriptors 3 (from the BEAM) and 4 (to it).
 *
 * Replies are never dropped; events are, when the pipe is not read. See docs/control.md.
 */
#ifndef CT_RELAY_CONTROL_H
#define CT_RELAY_CONTROL_H

#include "relay/term.h"

#include <uv.h>

enum {
    CONTROL_IN_FD = 3,
    CONTROL_OUT_FD = 4,
    CONTROL_IN_MAX = 1 << 20,        /* the longest frame that is read */
    CONTROL_OUT_MAX = 16 << 20,      /* the longest that is sent */
    CONTROL_EVENTS_QUEUED = 1 << 20, /* bytes not yet written at which events are dropped */
};

struct control;

struct control_ops {
    /* One frame has come; the term's bytes are wiped when this returns. */
    void (*frame)(struct control *c, struct term_in *term);
    /* What came is no frame of ours: `why` is a sentence. Nothing more is read. */
    void (*broken)(struct control *c, const char *why);
    /* The BEAM has closed the channel or is gone. Nothing more is read or written. */
    void (*gone)(struct control *c);
    /* After control_finish(): everything is written, or never will be. */
    void (*finished)(struct control *c);
};

/* Embedded in its owner, who finds itself again by container-of. */
struct control {
    const struct control_ops *ops;
    uv_pipe_t in, out;
    uint8_t head[4];
    size_t head_have;
    uint8_t *body;
    size_t body_len, body_have;
    size_t discard; /* bytes still to come of a frame that is too long */
    char scrap[4096];
    size_t queued; /* bytes handed to libuv and not yet written */
    bool lost;     /* the other end is gone */
    bool finishing;
};

/* Takes the two descriptors over and starts to read. 0 or a libuv error. */
int control_open(struct control *c, uv_loop_t *loop, const struct control_ops *ops);

/*
 * A frame is a term behind room for its length and the version byte. Several of them can lie in one
 * term_out: _begin() returns where one starts, which _end() must be told.
 */
int control_frame_begin(struct term_out *out);
void control_frame_end(struct term_out *out, int start);

/* A term_out for one frame, begun; control_send() ends it. */
void control_frame_init(struct term_out *frame);

/* Sends a frame, and empties it. False when memory was short or it is too long: nothing is sent. */
bool control_send(struct control *c, struct term_out *frame);

/* The same for events in whole frames: false also when the pipe is not being read. */
bool control_send_events(struct control *c, struct term_out *frames);

/* Reads nothing more. */
void control_stop_reading(struct control *c);

/* Calls `finished` when all frames are written or the other end is gone; maybe at once. */
void control_finish(struct control *c);

/* Closes both ends at once; the loop must turn once more. */
void control_close(struct control *c);

#endif
