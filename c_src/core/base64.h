/* Base64 of RFC 4648 §4, as REST credentials and the nonce cookie use it. */
#ifndef CT_CORE_BASE64_H
#define CT_CORE_BASE64_H

#include <stddef.h>
#include <stdint.h>

/* Characters that n bytes take, padding included, without a final zero. */
static inline size_t base64_len(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Writes base64_len(n) characters, standard alphabet with '=', no final zero. */
void base64_encode(const uint8_t *in, size_t n, char *out);

#endif
