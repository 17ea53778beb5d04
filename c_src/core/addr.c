#include "core/addr.h"

#include "core/buf.h"

enum {
    GROUPS = 8
};

struct addr addr_v4(const uint8_t ip[4], uint16_t port)
{
    struct addr a = {.port = port, .family = ADDR_V4};
    memcpy(a.ip, ip, 4);
    return a;
}

struct addr addr_v6(const uint8_t ip[16], uint16_t port)
{
    struct addr a = {.port = port, .family = ADDR_V6};
    memcpy(a.ip, ip, 16);
    return a;
}

static bool all_zero(const uint8_t *p, size_t n)
{
    while (n && p[n - 1] == 0)
        n--;
    return n == 0;
}

bool addr_is_any(const struct addr *a)
{
    return all_zero(a->ip, sizeof a->ip);
}

struct addr addr_canonical(const struct addr *a)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};
    static const uint8_t local_nat64[6] = {0, 0x64, 0xff, 0x9b, 0, 1};
    if (a->family != ADDR_V6)
        return *a;
    bool compatible = all_zero(a->ip, 12) && (!all_zero(a->ip + 12, 3) || a->ip[15] > 1);
    if (compatible || memcmp(a->ip, mapped, sizeof mapped) == 0 ||
        memcmp(a->ip, nat64, sizeof nat64) == 0 ||
        memcmp(a->ip, local_nat64, sizeof local_nat64) == 0)
        return addr_v4(a->ip + 12, a->port);
    return *a;
}

/* ---- text out ---- */

static void put_char(struct wbuf *w, char c)
{
    wbuf_u8(w, (uint8_t)c);
}

static void put_decimal(struct wbuf *w, unsigned v)
{
    if (v >= 10)
        put_decimal(w, v / 10);
    put_char(w, (char)('0' + v % 10));
}

static void put_hex(struct wbuf *w, unsigned v)
{
    if (v >= 16)
        put_hex(w, v / 16);
    put_char(w, "0123456789abcdef"[v % 16]);
}

static void put_v4(struct wbuf *w, const uint8_t *ip)
{
    for (size_t i = 0; i < 4; i++) {
        if (i)
            put_char(w, '.');
        put_decimal(w, ip[i]);
    }
}

static unsigned group(const uint8_t *ip, size_t i)
{
    return (unsigned)ip[2 * i] << 8 | ip[2 * i + 1];
}

/* The longest run of two or more zero groups, the first of equals (RFC 5952 §4.2). */
static size_t zero_run(const uint8_t *ip, size_t *start)
{
    size_t best = 1;
    for (size_t i = 0; i < GROUPS; i++) {
        size_t n = 0;
        while (i + n < GROUPS && group(ip, i + n) == 0)
            n++;
        if (n > best) {
            best = n;
            *start = i;
        }
    }
    return best > 1 ? best : 0;
}

static void put_v6(struct wbuf *w, const uint8_t *ip)
{
    size_t start = GROUPS, run = zero_run(ip, &start);
    bool mapped = run == 5 && start == 0 && group(ip, 5) == 0xffff;
    for (size_t i = 0; i < (mapped ? GROUPS - 2 : GROUPS); i++) {
        if (i == start) {
            put_char(w, ':');
            put_char(w, ':');
            i += run - 1;
            continue;
        }
        if (i && i != start + run)
            put_char(w, ':');
        put_hex(w, group(ip, i));
    }
    if (mapped) {
        put_char(w, ':');
        put_v4(w, ip + 12);
    }
}

static void put_ip(struct wbuf *w, const struct addr *a)
{
    if (a->family == ADDR_V4)
        put_v4(w, a->ip);
    else if (a->family == ADDR_V6)
        put_v6(w, a->ip);
    else
        put_char(w, '-');
}

void addr_format_ip(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    struct wbuf w = wbuf_of(out, ADDR_TEXT_MAX);
    put_ip(&w, a);
    put_char(&w, '\0');
}

void addr_format(const struct addr *a, char out[ADDR_TEXT_MAX])
{
    struct wbuf w = wbuf_of(out, ADDR_TEXT_MAX);
    if (a->family == ADDR_V6)
        put_char(&w, '[');
    put_ip(&w, a);
    if (a->family == ADDR_V6)
        put_char(&w, ']');
    put_char(&w, ':');
    put_decimal(&w, a->port);
    put_char(&w, '\0');
}

/* ---- text in: a cursor over characters ---- */

static int peek(const struct rbuf *r)
{
    return rbuf_left(r) ? r->data[r->pos] : -1;
}

static bool accept(struct rbuf *r, char c)
{
    if (peek(r) != c)
        return false;
    r->pos++;
    return true;
}

/* One to `digits` decimal digits without a leading zero, at most `most`. */
static unsigned read_decimal(struct rbuf *r, unsigned digits, unsigned most)
{
    unsigned v = 0, n = 0;
    for (; n < digits && peek(r) >= '0' && peek(r) <= '9'; n++) {
        if (n && v == 0)
            r->failed = true;
        v = v * 10 + (unsigned)(rbuf_u8(r) - '0');
    }
    if (n == 0 || v > most)
        r->failed = true;
    return v;
}

static void read_v4(struct rbuf *r, uint8_t *ip)
{
    for (size_t i = 0; i < 4; i++) {
        if (i && !accept(r, '.'))
            r->failed = true;
        ip[i] = (uint8_t)read_decimal(r, 3, 255);
    }
}

static int hex_digit(int c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One group of one to four hexadecimal digits. */
static unsigned read_group(struct rbuf *r)
{
    unsigned v = 0, n = 0;
    for (; n < 4 && hex_digit(peek(r)) >= 0; n++)
        v = v << 4 | (unsigned)hex_digit(rbuf_u8(r));
    if (n == 0)
        r->failed = true;
    return v;
}

/* Whether the text at the cursor is dotted IPv4 up to the end of the address. */
static bool at_v4(const struct rbuf *r)
{
    for (size_t i = r->pos; i < r->len && hex_digit(r->data[i]) >= 0; i++)
        if (i + 1 < r->len && r->data[i + 1] == '.')
            return true;
    return false;
}

/* Groups of eight with at most one "::", the last two perhaps as IPv4 (RFC 4291 §2.2). */
static void read_v6(struct rbuf *r, uint8_t *ip)
{
    uint8_t bytes[16] = {0};
    size_t n = 0, gap = SIZE_MAX;
    if (accept(r, ':')) {
        if (peek(r) != ':')
            r->failed = true;
        gap = 0;
        accept(r, ':');
    }
    while (!r->failed && n < sizeof bytes && (hex_digit(peek(r)) >= 0)) {
        if (n <= 12 && at_v4(r)) {
            read_v4(r, bytes + n);
            n += 4;
            break;
        }
        unsigned g = read_group(r);
        bytes[n++] = (uint8_t)(g >> 8);
        bytes[n++] = (uint8_t)g;
        if (!accept(r, ':'))
            break;
        if (accept(r, ':')) {
            if (gap != SIZE_MAX)
                r->failed = true;
            gap = n;
        } else if (hex_digit(peek(r)) < 0) {
            r->failed = true;
        }
    }
    if (gap == SIZE_MAX ? n != sizeof bytes : n > sizeof bytes - 2)
        r->failed = true;
    if (r->failed)
        return;
    size_t head = gap == SIZE_MAX ? n : gap;
    memcpy(ip, bytes, head);
    memcpy(ip + 16 - (n - head), bytes + head, n - head);
}

static bool looks_v6(const char *text, size_t len)
{
    return memchr(text, ':', len) &&
           (memchr(text, '.', len) == NULL || text[0] == ':' ||
            (const char *)memchr(text, ':', len) < (const char *)memchr(text, '.', len));
}

static void read_ip(struct rbuf *r, bool v6, struct addr *out)
{
    *out = (struct addr){.family = v6 ? ADDR_V6 : ADDR_V4};
    if (v6)
        read_v6(r, out->ip);
    else
        read_v4(r, out->ip);
}

enum ct_err addr_parse(const char *text, size_t len, struct addr *out)
{
    struct rbuf r = rbuf_of(text, len);
    struct addr a;
    if (len == 0)
        return CT_EVALUE;
    bool bracket = accept(&r, '[');
    bool v6 = bracket || looks_v6(text, len);
    read_ip(&r, v6, &a);
    if (bracket && !accept(&r, ']'))
        r.failed = true;
    if ((bracket || !v6) && accept(&r, ':'))
        a.port = (uint16_t)read_decimal(&r, 5, 65535);
    if (r.failed || rbuf_left(&r))
        return CT_EVALUE;
    *out = a;
    return CT_OK;
}

/* ---- prefixes ---- */

/* True when all bits of ip from `bits` on are zero. */
static bool host_bits_zero(const uint8_t *ip, size_t len, unsigned bits)
{
    size_t full = bits / 8;
    unsigned rest = bits % 8;
    if (rest && (ip[full] & (0xFFu >> rest)))
        return false;
    size_t from = full + (rest != 0);
    return all_zero(ip + from, len - from);
}

enum ct_err addr_prefix_parse(const char *text, size_t len, struct addr_prefix *out)
{
    struct rbuf r = rbuf_of(text, len);
    struct addr a;
    if (len == 0)
        return CT_EVALUE;
    read_ip(&r, memchr(text, ':', len) != NULL, &a);
    unsigned most = a.family == ADDR_V4 ? 32 : 128, bits = most;
    if (accept(&r, '/'))
        bits = read_decimal(&r, 3, most);
    if (r.failed || rbuf_left(&r) || !host_bits_zero(a.ip, addr_ip_len(a.family), bits))
        return CT_EVALUE;
    *out = (struct addr_prefix){.family = a.family, .bits = (uint8_t)bits};
    memcpy(out->ip, a.ip, sizeof out->ip);
    return CT_OK;
}

bool addr_prefix_has(const struct addr_prefix *p, const struct addr *a)
{
    size_t full = p->bits / 8;
    unsigned rest = p->bits % 8;
    if (p->family != a->family || memcmp(p->ip, a->ip, full) != 0)
        return false;
    return rest == 0 || ((p->ip[full] ^ a->ip[full]) & 0xFF00u >> rest & 0xFFu) == 0;
}
