/* From a struct embedded in another to the other: libuv's handles live in their owners. */
#ifndef CT_RELAY_OWNER_H
#define CT_RELAY_OWNER_H

#include <stddef.h>

#define OWNER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#endif
