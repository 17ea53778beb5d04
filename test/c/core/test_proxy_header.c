#include "check.h"
#include "core/buf.h"
#include "core/proxy_header.h"

static const char signature[] = "\r\n\r\n\0\r\nQUIT\n";

/* Every prefix asks for more; what follows the header is not looked at. */
static void check_header(const void *bytes, size_t len, const char *client, const char *server)
{
    struct proxy_header h;
    uint8_t longer[PROXY_HEADER_MAX + 8];
    char text[ADDR_TEXT_MAX];

    for (size_t n = 0; n < len; n++)
        CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_ESHORT);
    memcpy(longer, bytes, len);
    memcpy(longer + len, "\0\1\0\0more", 8);
    CHECK_EQ(proxy_header_decode(longer, len + 8, &h), CT_OK);
    CHECK_EQ(proxy_header_decode(bytes, len, &h), CT_OK);
    CHECK_EQ(h.size, len);
    CHECK_EQ(h.known, client != NULL);
    if (!client || !h.known)
        return;
    addr_format(&h.client, text);
    CHECK_STR(text, client);
    addr_format(&h.server, text);
    CHECK_STR(text, server);
}

static void check_line(const char *line, const char *client, const char *server)
{
    check_header(line, strlen(line), client, server);
}

static void test_version_1(void)
{
    check_line("PROXY TCP4 192.0.2.1 198.51.100.2 56324 3478\r\n", "192.0.2.1:56324",
               "198.51.100.2:3478");
    check_line("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", "[2001:db8::1]:0",
               "[2001:db8::2]:65535");
    check_line("PROXY UNKNOWN\r\n", NULL, NULL);
    check_line("PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", NULL, NULL);
}

static void test_version_1_is_strict(void)
{
    static const char *const wrong[] = {
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 3478 1\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 56324 3478 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 56324 3478\r\n",
        "PROXY TCP4 192.0.2.1:1 198.51.100.2 56324 3478\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 56324 3478\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 [2001:db8::1] 2001:db8::2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 3478\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 056 3478\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 3478\r\n",
        "PROXY UDP4 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 1 2\n",
        "PROXY UNKNOWNxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
        "xxxxxxxxxxxxxxxxxxx",
    };
    struct proxy_header h;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK_EQ(proxy_header_decode((const uint8_t *)wrong[i], strlen(wrong[i]), &h), CT_EVALUE);
}

static size_t version_2(uint8_t out[PROXY_HEADER_MAX + 64], uint8_t command, uint8_t family,
                        struct span body)
{
    memcpy(out, signature, 12);
    out[12] = command;
    out[13] = family;
    out[14] = (uint8_t)(body.len >> 8);
    out[15] = (uint8_t)body.len;
    memcpy(out + 16, body.data, body.len);
    return 16 + body.len;
}

static void test_version_2(void)
{
    static const uint8_t v4[] = {192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 4, 0x0d, 0x96, 4, 0, 1, 'x'};
    static const uint8_t v6[] = {0x20, 1, 0xd, 0xb8, 0,    0, 0,   0,    0, 0, 0, 0,
                                 0,    0, 0,   1,    0x20, 1, 0xd, 0xb8, 0, 0, 0, 0,
                                 0,    0, 0,   0,    0,    0, 0,   2,    0, 9, 0, 10};
    static const uint8_t path[216] = "/tmp/socket";
    uint8_t bytes[PROXY_HEADER_MAX + 64];

    size_t n = version_2(bytes, 0x21, 0x11, span_of(v4, 12));
    check_header(bytes, n, "192.0.2.1:56324", "198.51.100.2:3478");
    n = version_2(bytes, 0x21, 0x11, span_of(v4, sizeof v4));
    check_header(bytes, n, "192.0.2.1:56324", "198.51.100.2:3478");
    n = version_2(bytes, 0x21, 0x21, span_of(v6, sizeof v6));
    check_header(bytes, n, "[2001:db8::1]:9", "[2001:db8::2]:10");
    n = version_2(bytes, 0x20, 0x00, span_str(""));
    check_header(bytes, n, NULL, NULL);
    n = version_2(bytes, 0x20, 0x11, span_of(v4, 12));
    check_header(bytes, n, NULL, NULL);
    n = version_2(bytes, 0x21, 0x31, span_of(path, sizeof path));
    check_header(bytes, n, NULL, NULL);
}

static void test_version_2_is_strict(void)
{
    static const uint8_t body[PROXY_HEADER_MAX] = {0};
    uint8_t bytes[PROXY_HEADER_MAX + 64];
    struct proxy_header h;

    size_t n = version_2(bytes, 0x11, 0x11, span_of(body, 12));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_EVALUE);
    n = version_2(bytes, 0x22, 0x11, span_of(body, 12));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_EVALUE);
    n = version_2(bytes, 0x21, 0x11, span_of(body, 11));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_EVALUE);
    n = version_2(bytes, 0x21, 0x21, span_of(body, 35));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_EVALUE);
    n = version_2(bytes, 0x21, 0x11, span_of(body, PROXY_HEADER_MAX - 15));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_ELENGTH);
    n = version_2(bytes, 0x21, 0x11, span_of(body, PROXY_HEADER_MAX - 16));
    CHECK_EQ(proxy_header_decode(bytes, n, &h), CT_OK);
}

static void test_anything_else_is_none(void)
{
    static const char *const others[] = {"\26\3\1", "GET /",   "\0\1",
                                         "PROXIED", "PROXY\t", "\r\nQUIT"};
    struct proxy_header h;

    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        CHECK_EQ(
            proxy_header_decode((const uint8_t *)others[i], i == 2 ? 2 : strlen(others[i]), &h),
            CT_ETYPE);
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_version_1),
        CHECK_TEST(test_version_1_is_strict),
        CHECK_TEST(test_version_2),
        CHECK_TEST(test_version_2_is_strict),
        CHECK_TEST(test_anything_else_is_none),
    };
    return CHECK_RUN(tests);
}
