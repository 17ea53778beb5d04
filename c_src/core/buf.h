/*
 * Bounded cursors. Every byte that comes from or goes to the wire passes through one of these.
 *
 * Both are sticky: the first access out of bounds sets `failed`, moves nothing and touches no
 * memory; everything after it fails too and reads as zero. So a decoder reads a whole structure
 * and looks at `failed` once. Integers are big-endian (RFC 8489 §5). No alignment is assumed.
 */
#ifndef CT_CORE_BUF_H
#define CT_CORE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A view of bytes that somebody else owns. */
struct span {
    const uint8_t *data;
    size_t len;
};

struct rbuf {
    const uint8_t *data;
    size_t len;
    size_t pos;
    bool failed;
};

struct wbuf {
    uint8_t *data;
    size_t cap;
    size_t pos;
    bool failed;
};

static inline struct span span_of(const void *data, size_t len)
{
    return (struct span){.data = (const uint8_t *)data, .len = len};
}

/* A view of a C string without its final zero. */
static inline struct span span_str(const char *s)
{
    return span_of(s, strlen(s));
}

static inline bool span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

static inline struct rbuf rbuf_of(const void *data, size_t len)
{
    return (struct rbuf){.data = (const uint8_t *)data, .len = len};
}

static inline size_t rbuf_left(const struct rbuf *r)
{
    return r->failed ? 0 : r->len - r->pos;
}

/* The next n bytes, or NULL when fewer are left (also for n == 0 after a failure). */
static inline const uint8_t *rbuf_take(struct rbuf *r, size_t n)
{
    if (r->failed || n > r->len - r->pos) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *p = r->data + r->pos;
    r->pos += n;
    return p;
}

static inline uint8_t rbuf_u8(struct rbuf *r)
{
    const uint8_t *p = rbuf_take(r, 1);
    return p ? p[0] : 0;
}

static inline uint16_t rbuf_u16(struct rbuf *r)
{
    const uint8_t *p = rbuf_take(r, 2);
    if (!p)
        return 0;
    return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t rbuf_u32(struct rbuf *r)
{
    const uint8_t *p = rbuf_take(r, 4);
    return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}

static inline uint64_t rbuf_u64(struct rbuf *r)
{
    uint64_t hi = rbuf_u32(r);
    return hi << 32 | rbuf_u32(r);
}

static inline struct wbuf wbuf_of(void *data, size_t cap)
{
    return (struct wbuf){.data = (uint8_t *)data, .cap = cap};
}

/* Room for the next n bytes, not initialised; NULL when there is not enough. */
static inline uint8_t *wbuf_room(struct wbuf *w, size_t n)
{
    if (w->failed || n > w->cap - w->pos) {
        w->failed = true;
        return NULL;
    }
    uint8_t *p = w->data + w->pos;
    w->pos += n;
    return p;
}

static inline void wbuf_u8(struct wbuf *w, uint8_t v)
{
    uint8_t *p = wbuf_room(w, 1);
    if (p)
        p[0] = v;
}

static inline void wbuf_u16(struct wbuf *w, uint16_t v)
{
    uint8_t *p = wbuf_room(w, 2);
    if (!p)
        return;
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void wbuf_u32(struct wbuf *w, uint32_t v)
{
    wbuf_u16(w, (uint16_t)(v >> 16));
    wbuf_u16(w, (uint16_t)v);
}

static inline void wbuf_u64(struct wbuf *w, uint64_t v)
{
    wbuf_u32(w, (uint32_t)(v >> 32));
    wbuf_u32(w, (uint32_t)v);
}

static inline void wbuf_bytes(struct wbuf *w, const void *data, size_t n)
{
    uint8_t *p = wbuf_room(w, n);
    if (p && n)
        memcpy(p, data, n);
}

static inline void wbuf_zeros(struct wbuf *w, size_t n)
{
    uint8_t *p = wbuf_room(w, n);
    if (p && n)
        memset(p, 0, n);
}

/* Overwrites two bytes written earlier; at + 2 must not lie beyond pos. */
static inline void wbuf_patch_u16(struct wbuf *w, size_t at, uint16_t v)
{
    if (w->failed || w->pos < 2 || at > w->pos - 2) {
        w->failed = true;
        return;
    }
    w->data[at] = (uint8_t)(v >> 8);
    w->data[at + 1] = (uint8_t)v;
}

#endif
