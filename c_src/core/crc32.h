/* CRC-32 of ITU V.42 (reflected, polynomial 0x04C11DB7), as in FINGERPRINT (RFC 8489 §14.7). */
#ifndef CT_CORE_CRC32_H
#define CT_CORE_CRC32_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32_of(const uint8_t *data, size_t len);

#endif
