/*
 * Base64 of RFC 4648 §4, as REST credentials and the nonce cookie use it, and with the alphabet of
 * §5 ("base64url"), as mobility tickets do.
 */
#ifndef CT_CORE_BASE64_H
#define CT_CORE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Characters that n bytes take, padding included, without a final zero. */
static inline size_t base64_len(size_t n)
{
    return (n + 2) / 3 * 4;
}

/* Writes base64_len(n) characters, standard alphabet with '=', no final zero. */
void base64_encode(const uint8_t *in, size_t n, char *out);

/* Writes n / 3 * 4 characters of base64url, no final zero; n must be a multiple of three. */
void base64url_encode(const uint8_t *in, size_t n, uint8_t *out);

/*
 * Reads n characters of base64url into n / 4 * 3 bytes. False when n is no multiple of four or a
 * character is not of the alphabet, '=' included; out is then undefined.
 */
bool base64url_decode(const uint8_t *in, size_t n, uint8_t *out);

#endif
