/* What the compiler is told about a branch of the packet path, where it can be told. */
#ifndef CT_CORE_LIKELY_H
#define CT_CORE_LIKELY_H

#ifdef __GNUC__
#define likely(x)   (__builtin_expect(!!(x), 1))
#define unlikely(x) (__builtin_expect(!!(x), 0))
#define prefetch(p) (__builtin_prefetch((p), 1))
#define APART       __attribute__((noinline)) /* keeps its registers and stack out of its caller */
#define COLD        __attribute__((noinline, cold)) /* and its speed does not matter */
#else
#define likely(x)   (x)
#define unlikely(x) (x)
#define prefetch(p) ((void)(p))
#define APART
#define COLD
#endif

#endif
