/*
 * Preloaded into turnutils_uclient, which takes channel numbers at random from all that RFC 5766
 * allowed, 0x4000 to 0x7FFF. RFC 8656 §12 left 0x4000 to 0x4FFF of them, and a server must refuse
 * the rest. uclient asks OpenSSL for a long only to choose a channel, and adds it to 0x4000, modulo
 * 0x4000: here it gets 0 to 0xFFF in turn, so that no two channels clash by chance either.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>

int RAND_bytes(unsigned char *out, int n)
{
    static _Atomic long calls;
    int (*openssl)(unsigned char *, int);
    long offset = atomic_fetch_add(&calls, 1) & 0xFFF;
    if (n == (int)sizeof offset) {
        memcpy(out, &offset, sizeof offset);
        return 1;
    }
    *(void **)&openssl = dlsym(RTLD_NEXT, "RAND_bytes");
    return openssl(out, n);
}
