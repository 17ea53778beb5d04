/*
 * Erlang's external term format, through OTP's ei.
 *
 * ei trusts the lengths it reads. So a frame is walked once with bounds first (term_in_init), and
 * only then decoded. A getter that meets another type returns false (-1 for headers) and stays
 * where it is. Writing is sticky: a failed allocation is noticed once, at the end.
 */
#ifndef CT_RELAY_TERM_H
#define CT_RELAY_TERM_H

#include "core/addr.h"
#include "core/buf.h"

#include <ei.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TERM_DEPTH_MAX = 8,
    TERM_ATOM_MAX = MAXATOMLEN_UTF8, /* bytes, final zero included */
    TERM_SHOW_MAX = 80,              /* enough for what term_show() writes */
};

/* ---- reading ---- */

struct term_in {
    const char *data;
    int at; /* ei's index */
};

/*
 * False unless data is exactly one term behind its version byte, made of atoms, integers, floats,
 * binaries, tuples, proper lists and maps, not nested deeper than TERM_DEPTH_MAX. The data must
 * outlive the reader.
 */
bool term_in_init(struct term_in *in, const uint8_t *data, size_t len);

/* The number of elements, then to be read one by one; -1 when it is something else. */
int term_tuple(struct term_in *in);
int term_map(struct term_in *in);
/* Strings are lists of small integers to ei: they give -1. */
int term_list(struct term_in *in);
/* To be called behind the last element of a list that is not empty. */
void term_list_end(struct term_in *in);

bool term_atom(struct term_in *in, char out[TERM_ATOM_MAX]);
bool term_bool(struct term_in *in, bool *out);
bool term_uint(struct term_in *in, uint64_t max, uint64_t *out);
/* A view of the frame's own bytes; data is never NULL, also when it is empty. */
bool term_binary(struct term_in *in, struct span *out);
void term_skip(struct term_in *in);

/* The next term, shortened, as somebody who reads a message would write it. Does not move. */
void term_show(const struct term_in *in, char out[TERM_SHOW_MAX]);

/* ---- writing ---- */

struct term_out {
    ei_x_buff x;
    bool failed;
};

void term_out_init(struct term_out *out);
void term_out_free(struct term_out *out);

void term_put_tuple(struct term_out *out, size_t n);
void term_put_map(struct term_out *out, size_t n);
/* n elements follow, then term_put_nil(); an empty list is term_put_nil() alone. */
void term_put_list(struct term_out *out, size_t n);
void term_put_nil(struct term_out *out);
void term_put_atom(struct term_out *out, const char *name);
void term_put_uint(struct term_out *out, uint64_t v);
void term_put_binary(struct term_out *out, struct span bytes);
void term_put_text(struct term_out *out, const char *text);
/* "ip:port" as a binary. */
void term_put_addr(struct term_out *out, const struct addr *a);
/* Terms that were written before, without a version byte. */
void term_put_terms(struct term_out *out, const struct term_out *terms, size_t bytes);

#endif
