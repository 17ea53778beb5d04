#include "core/proxy_header.h"

#include "core/buf.h"

enum {
    V1_MAX = 107, /* final CR and LF included */
    V2_FIXED = 16,
    V2_LOCAL = 0x20,
    V2_PROXY = 0x21,
    V2_TCP4 = 0x11,
    V2_TCP6 = 0x21,
};

static const uint8_t v1_start[] = {'P', 'R', 'O', 'X', 'Y', ' '};
static const uint8_t v2_signature[] = {'\r', '\n', '\r', '\n', 0,   '\r',
                                       '\n', 'Q',  'U',  'I',  'T', '\n'};

/* Whether the bytes that are there are those of `start`. */
static bool begins(struct span bytes, struct span start)
{
    size_t n = bytes.len < start.len ? bytes.len : start.len;

    return memcmp(bytes.data, start.data, n) == 0;
}

/* ---- version 1: words with one space between them ---- */

/* The next word of a line and the space behind it; empty when there is none. */
static struct span word(struct span *line)
{
    const uint8_t *space = line->len ? memchr(line->data, ' ', line->len) : NULL;
    size_t n = space ? (size_t)(space - line->data) : line->len;
    struct span w = span_of(line->data, n);

    n += space != NULL;
    *line = span_of(line->data + n, line->len - n);
    return w;
}

static bool read_ip(struct span text, uint8_t family, struct addr *out)
{
    return text.len && memchr(text.data, '[', text.len) == NULL &&
           addr_parse((const char *)text.data, text.len, out) == CT_OK && out->family == family &&
           out->port == 0;
}

static bool read_port(struct span text, uint16_t *out)
{
    uint32_t v = 0;

    if (text.len == 0 || text.len > 5 || (text.len > 1 && text.data[0] == '0'))
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        v = v * 10 + (uint32_t)(text.data[i] - '0');
    }
    *out = (uint16_t)v;
    return v <= UINT16_MAX;
}

static enum ct_err read_v1(struct span line, struct proxy_header *out)
{
    struct span protocol = word(&line);
    uint8_t family = span_eq(protocol, span_str("TCP4"))   ? ADDR_V4
                     : span_eq(protocol, span_str("TCP6")) ? ADDR_V6
                                                           : ADDR_NONE;

    if (span_eq(protocol, span_str("UNKNOWN")))
        return CT_OK;
    struct addr client, server;
    if (family == ADDR_NONE || !read_ip(word(&line), family, &client) ||
        !read_ip(word(&line), family, &server) || !read_port(word(&line), &client.port) ||
        !read_port(line, &server.port))
        return CT_EVALUE;
    out->known = true;
    out->client = client;
    out->server = server;
    return CT_OK;
}

static enum ct_err decode_v1(struct span bytes, struct proxy_header *out)
{
    size_t most = bytes.len < V1_MAX ? bytes.len : V1_MAX;
    const uint8_t *lf = memchr(bytes.data, '\n', most);

    if (!lf)
        return bytes.len < V1_MAX ? CT_ESHORT : CT_EVALUE;
    size_t end = (size_t)(lf - bytes.data);
    if (end < sizeof v1_start + 1 || bytes.data[end - 1] != '\r')
        return CT_EVALUE;
    out->size = end + 1;
    return read_v1(span_of(bytes.data + sizeof v1_start, end - 1 - sizeof v1_start), out);
}

/* ---- version 2 ---- */

static void take_addr(struct rbuf *r, uint8_t family, struct addr *out)
{
    const uint8_t *ip = rbuf_take(r, addr_ip_len(family));

    if (ip)
        *out = family == ADDR_V4 ? addr_v4(ip, 0) : addr_v6(ip, 0);
}

/* What lies behind the addresses (TLVs) does not matter here. */
static enum ct_err read_v2(struct rbuf r, uint8_t family, struct proxy_header *out)
{
    struct addr client, server;

    take_addr(&r, family, &client);
    take_addr(&r, family, &server);
    uint16_t from = rbuf_u16(&r), to = rbuf_u16(&r);
    if (r.failed)
        return CT_EVALUE;
    client.port = from;
    server.port = to;
    out->known = true;
    out->client = client;
    out->server = server;
    return CT_OK;
}

/* Families that TURN has no use for count as unknown, as the specification wants it. */
static enum ct_err decode_v2(struct span bytes, struct proxy_header *out)
{
    struct rbuf r = rbuf_of(bytes.data, bytes.len);

    rbuf_take(&r, sizeof v2_signature);
    uint8_t command = rbuf_u8(&r), family = rbuf_u8(&r);
    uint16_t length = rbuf_u16(&r);
    if (r.failed)
        return CT_ESHORT;
    if (command != V2_LOCAL && command != V2_PROXY)
        return CT_EVALUE;
    if (length > PROXY_HEADER_MAX - V2_FIXED)
        return CT_ELENGTH;
    const uint8_t *body = rbuf_take(&r, length);
    if (!body)
        return CT_ESHORT;
    out->size = r.pos;
    if (command == V2_LOCAL || (family != V2_TCP4 && family != V2_TCP6))
        return CT_OK;
    return read_v2(rbuf_of(body, length), family == V2_TCP4 ? ADDR_V4 : ADDR_V6, out);
}

enum ct_err proxy_header_decode(const uint8_t *data, size_t len, struct proxy_header *out)
{
    struct span bytes = span_of(data, len);
    struct span first = span_of(v1_start, sizeof v1_start);
    struct span second = span_of(v2_signature, sizeof v2_signature);
    struct proxy_header header = {.size = 0};

    if (len == 0)
        return CT_ESHORT;
    if (!begins(bytes, first) && !begins(bytes, second))
        return CT_ETYPE;
    enum ct_err err = CT_ESHORT;
    if (begins(bytes, second))
        err = decode_v2(bytes, &header);
    else if (len >= first.len)
        err = decode_v1(bytes, &header);
    if (err == CT_OK)
        *out = header;
    return err;
}
