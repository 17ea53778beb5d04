/*
 * The PROXY protocol, versions 1 and 2 (haproxy's doc/proxy-protocol.txt): what a load balancer
 * says at the head of a connection about the client that it speaks for.
 *
 *  Version 1: "PROXY TCP4 192.0.2.1 198.51.100.2 56324 3478\r\n", at most 107 bytes
 *
 *  Version 2:
 *  +-----------------+---------------+-----------------+--------+---------------------------+
 *  | signature (12)  | version, cmd  | family, protocol| length | addresses (length bytes)  |
 *  +-----------------+---------------+-----------------+--------+---------------------------+
 */
#ifndef CT_CORE_PROXY_HEADER_H
#define CT_CORE_PROXY_HEADER_H

#include "core/addr.h"

enum {
    PROXY_HEADER_MAX = 4096 /* version 2 with whatever it adds to the addresses */
};

struct proxy_header {
    size_t size;                /* bytes that it takes */
    bool known;                 /* false: of the connection itself, such as a health check */
    struct addr client, server; /* when known: both ends as the proxy saw them, of one family */
};

/*
 * Reads the header at the beginning of a stream. CT_ESHORT when more bytes are needed to tell,
 * CT_ETYPE when it is none, CT_ELENGTH when it is longer than PROXY_HEADER_MAX, CT_EVALUE when it
 * breaks the format.
 */
enum ct_err proxy_header_decode(const uint8_t *data, size_t len, struct proxy_header *out);

#endif
