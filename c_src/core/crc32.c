#include "core/crc32.h"

#include "core/crc32_table.h"

/* Eight bytes a step: table k holds the CRC of a byte followed by k zero bytes. */
uint32_t crc32_of(const uint8_t *data, size_t len)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (; len >= 8; len -= 8, data += 8) {
        uint32_t lo = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                             (uint32_t)data[3] << 24);
        crc = crc32_table[7][lo & 0xFF] ^ crc32_table[6][lo >> 8 & 0xFF] ^
              crc32_table[5][lo >> 16 & 0xFF] ^ crc32_table[4][lo >> 24] ^ crc32_table[3][data[4]] ^
              crc32_table[2][data[5]] ^ crc32_table[1][data[6]] ^ crc32_table[0][data[7]];
    }
    for (; len; len--, data++)
        crc = crc >> 8 ^ crc32_table[0][(crc ^ *data) & 0xFF];
    return crc ^ 0xFFFFFFFFu;
}
