#include "relay/term.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum {
    VERSION_MAGIC = 131
};

/* ---- the walk before ei ---- */

/* How a tag goes on: the size of its length field, what the length counts, fixed bytes behind. */
struct tag {
    uint8_t tag;
    uint8_t length; /* bytes of the length field: 0, 1, 2 or 4 */
    uint8_t counts; /* elements per unit of length; 0: the length is in bytes */
    uint8_t fixed;  /* further bytes */
    uint32_t max;   /* most that the length may say, for byte lengths */
};

static const struct tag tags[] = {
    {ERL_SMALL_INTEGER_EXT, 0, 0, 1, 0},
    {ERL_INTEGER_EXT, 0, 0, 4, 0},
    {ERL_SMALL_BIG_EXT, 1, 0, 1, UINT8_MAX}, /* a sign byte in front of the digits */
    {NEW_FLOAT_EXT, 0, 0, 8, 0},
    {ERL_SMALL_ATOM_UTF8_EXT, 1, 0, 0, UINT8_MAX},
    {ERL_ATOM_UTF8_EXT, 2, 0, 0, MAXATOMLEN_UTF8 - 1},
    {ERL_SMALL_ATOM_EXT, 1, 0, 0, MAXATOMLEN - 1},
    {ERL_ATOM_EXT, 2, 0, 0, MAXATOMLEN - 1},
    {ERL_BINARY_EXT, 4, 0, 0, UINT32_MAX},
    {ERL_STRING_EXT, 2, 0, 0, UINT16_MAX},
    {ERL_NIL_EXT, 0, 0, 0, 0},
    {ERL_SMALL_TUPLE_EXT, 1, 1, 0, 0},
    {ERL_LARGE_TUPLE_EXT, 4, 1, 0, 0},
    {ERL_LIST_EXT, 4, 1, 0, 0},
    {ERL_MAP_EXT, 4, 2, 0, 0},
};

static const struct tag *tag_find(uint8_t tag)
{
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++)
        if (tags[i].tag == tag)
            return &tags[i];
    return NULL;
}

static uint32_t read_length(struct rbuf *r, uint8_t bytes)
{
    switch (bytes) {
    case 1:
        return rbuf_u8(r);
    case 2:
        return rbuf_u16(r);
    case 4:
        return rbuf_u32(r);
    default:
        return 0;
    }
}

/* Depth is bounded by TERM_DEPTH_MAX, and every element takes at least a byte of the input. */
static bool walk(struct rbuf *r, int depth) // NOLINT(misc-no-recursion)
{
    const struct tag *t = tag_find(rbuf_u8(r));
    if (r->failed || !t)
        return false;
    uint32_t n = read_length(r, t->length);
    if (!t->counts) {
        rbuf_take(r, (size_t)n + t->fixed);
        return !r->failed && n <= t->max;
    }
    if (depth == TERM_DEPTH_MAX || n > rbuf_left(r))
        return false;
    for (uint64_t i = 0; i < (uint64_t)n * t->counts; i++)
        if (!walk(r, depth + 1))
            return false;
    return t->tag != ERL_LIST_EXT || rbuf_u8(r) == ERL_NIL_EXT;
}

bool term_in_init(struct term_in *in, const uint8_t *data, size_t len)
{
    struct rbuf r = rbuf_of(data, len);
    int version;

    if (len > INT_MAX || rbuf_u8(&r) != VERSION_MAGIC || !walk(&r, 0) || rbuf_left(&r) != 0 ||
        r.failed)
        return false;
    *in = (struct term_in){.data = (const char *)data};
    return ei_decode_version(in->data, &in->at, &version) == 0;
}

/* ---- reading ---- */

static int next_type(const struct term_in *in)
{
    int type, size;

    return ei_get_type(in->data, &in->at, &type, &size) == 0 ? type : 0;
}

int term_tuple(struct term_in *in)
{
    int n;

    return ei_decode_tuple_header(in->data, &in->at, &n) == 0 ? n : -1;
}

int term_map(struct term_in *in)
{
    int n;

    return ei_decode_map_header(in->data, &in->at, &n) == 0 ? n : -1;
}

int term_list(struct term_in *in)
{
    int n;

    return ei_decode_list_header(in->data, &in->at, &n) == 0 ? n : -1;
}

void term_list_end(struct term_in *in)
{
    int n;

    ei_decode_list_header(in->data, &in->at, &n);
}

bool term_atom(struct term_in *in, char out[TERM_ATOM_MAX])
{
    return ei_decode_atom_as(in->data, &in->at, out, TERM_ATOM_MAX, ERLANG_UTF8, NULL, NULL) == 0;
}

bool term_bool(struct term_in *in, bool *out)
{
    int v;

    if (ei_decode_boolean(in->data, &in->at, &v) != 0)
        return false;
    *out = v != 0;
    return true;
}

bool term_uint(struct term_in *in, uint64_t max, uint64_t *out)
{
    EI_ULONGLONG v;
    int at = in->at;

    if (ei_decode_ulonglong(in->data, &at, &v) != 0 || v > max)
        return false;
    in->at = at;
    *out = v;
    return true;
}

bool term_binary(struct term_in *in, struct span *out)
{
    const char *p;
    unsigned offset;
    size_t bits;

    if (next_type(in) != ERL_BINARY_EXT ||
        ei_decode_bitstring(in->data, &in->at, &p, &offset, &bits) != 0)
        return false;
    *out = span_of(p, bits / 8);
    return true;
}

void term_skip(struct term_in *in)
{
    ei_skip_term(in->data, &in->at);
}

static void show_text(struct span text, char out[TERM_SHOW_MAX])
{
    enum {
        SHOWN = 64
    };
    size_t n = text.len < SHOWN ? text.len : SHOWN;
    struct wbuf w = wbuf_of(out, TERM_SHOW_MAX - 1);

    wbuf_u8(&w, '"');
    for (size_t i = 0; i < n; i++)
        wbuf_u8(&w, text.data[i] >= 0x20 && text.data[i] < 0x7f ? text.data[i] : '?');
    wbuf_bytes(&w, "\"...", text.len > n ? 4 : 1);
    out[w.pos] = '\0';
}

static void show_number(struct term_in in, char out[TERM_SHOW_MAX])
{
    EI_LONGLONG v;
    EI_ULONGLONG u;

    if (ei_decode_longlong(in.data, &in.at, &v) == 0)
        snprintf(out, TERM_SHOW_MAX, "%lld", v);
    else if (ei_decode_ulonglong(in.data, &in.at, &u) == 0)
        snprintf(out, TERM_SHOW_MAX, "%llu", u);
    else
        snprintf(out, TERM_SHOW_MAX, "a large integer");
}

void term_show(const struct term_in *in, char out[TERM_SHOW_MAX])
{
    struct term_in copy = *in;
    struct span text;
    char atom[TERM_ATOM_MAX];
    int n;

    if (term_binary(&copy, &text))
        show_text(text, out);
    else if (term_atom(&copy, atom))
        snprintf(out, TERM_SHOW_MAX, "%.*s", TERM_SHOW_MAX - 1, atom);
    else if ((n = term_tuple(&copy)) >= 0)
        snprintf(out, TERM_SHOW_MAX, "a tuple of %d", n);
    else if ((n = term_map(&copy)) >= 0)
        snprintf(out, TERM_SHOW_MAX, "a map of %d", n);
    else if ((n = term_list(&copy)) >= 0)
        snprintf(out, TERM_SHOW_MAX, "a list of %d", n);
    else if (next_type(in) == ERL_STRING_EXT)
        snprintf(out, TERM_SHOW_MAX, "a charlist");
    else if (next_type(in) == ERL_FLOAT_EXT || next_type(in) == NEW_FLOAT_EXT)
        snprintf(out, TERM_SHOW_MAX, "a float");
    else
        show_number(copy, out);
}

/* ---- writing ---- */

void term_out_init(struct term_out *out)
{
    *out = (struct term_out){.failed = false};
    out->failed = ei_x_new(&out->x) != 0;
}

void term_out_free(struct term_out *out)
{
    if (out->x.buff)
        ei_x_free(&out->x);
    *out = (struct term_out){.failed = true};
}

void term_put_tuple(struct term_out *out, size_t n)
{
    out->failed = out->failed || ei_x_encode_tuple_header(&out->x, (long)n) != 0;
}

void term_put_map(struct term_out *out, size_t n)
{
    out->failed = out->failed || ei_x_encode_map_header(&out->x, (long)n) != 0;
}

void term_put_list(struct term_out *out, size_t n)
{
    out->failed = out->failed || ei_x_encode_list_header(&out->x, (long)n) != 0;
}

void term_put_nil(struct term_out *out)
{
    out->failed = out->failed || ei_x_encode_empty_list(&out->x) != 0;
}

void term_put_atom(struct term_out *out, const char *name)
{
    out->failed = out->failed || ei_x_encode_atom(&out->x, name) != 0;
}

void term_put_uint(struct term_out *out, uint64_t v)
{
    out->failed = out->failed || ei_x_encode_ulonglong(&out->x, v) != 0;
}

void term_put_binary(struct term_out *out, struct span bytes)
{
    out->failed = out->failed || bytes.len > INT_MAX ||
                  ei_x_encode_binary(&out->x, bytes.data, (int)bytes.len) != 0;
}

void term_put_text(struct term_out *out, const char *text)
{
    term_put_binary(out, span_str(text));
}

void term_put_addr(struct term_out *out, const struct addr *a)
{
    char text[ADDR_TEXT_MAX];

    addr_format(a, text);
    term_put_text(out, text);
}

void term_put_terms(struct term_out *out, const struct term_out *terms, size_t bytes)
{
    out->failed = out->failed || terms->failed || bytes > INT_MAX ||
                  ei_x_append_buf(&out->x, terms->x.buff, (int)bytes) != 0;
}
