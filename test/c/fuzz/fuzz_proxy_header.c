/*
 * Any bytes as the head of a proxied connection: what is said of a header stays true when more
 * bytes come, and until it is whole, more are asked for.
 */
#include "core/proxy_header.h"
#include "exact.h"
#include "fuzz.h"

static void check_prefixes(const uint8_t *data, size_t size, enum ct_err whole)
{
    for (size_t n = 0; n < size; n++) {
        struct proxy_header h;
        struct exact e = exact_of(data, n, n % 8);
        enum ct_err err = proxy_header_decode(e.data, e.len, &h);
        MUST(whole == CT_OK ? err == CT_ESHORT : err == CT_ESHORT || err == whole);
        exact_free(&e);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy_header h;
    struct exact e = exact_of(data, size, size % 8);
    enum ct_err err = proxy_header_decode(e.data, e.len, &h);

    MUST(err == CT_OK || err == CT_ESHORT || err == CT_ETYPE || err == CT_ELENGTH ||
         err == CT_EVALUE);
    if (err == CT_OK) {
        MUST(h.size > 0 && h.size <= size && h.size <= PROXY_HEADER_MAX);
        MUST(!h.known || (h.client.family != ADDR_NONE && h.client.family == h.server.family));
    }
    if (size <= 512)
        check_prefixes(data, err == CT_OK ? h.size : size, err);
    exact_free(&e);
    return 0;
}
