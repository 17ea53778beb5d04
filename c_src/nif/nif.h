/*
 * What the files of the NIF share: the library's private data, atoms made once, and the few helpers
 * for arguments and answers.
 *
 * Every NIF here goes the same way: arguments -> badarg; call the core; build the term. None keeps
 * state between calls, and none works longer than about 100 us on a scheduler: input of more than
 * NIF_DIRECT_MAX bytes is handed to a dirty CPU scheduler.
 */
#ifndef CT_NIF_NIF_H
#define CT_NIF_NIF_H

#include "core/buf.h"
#include "core/err.h"
#include "core/stun_wire.h"
#include "crypto/crypto.h"

#include <erl_nif.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NIF_DIRECT_MAX = 8192,  /* bytes of input worked on without leaving the scheduler */
    NIF_PACKET_MAX = 65555, /* the longest STUN message: header and 65535 bytes of attributes */
    NIF_STRING_MAX = 1024,  /* bytes of a secret, password, user name or realm */
    NIF_KEY_MAX = 1024,     /* bytes of an HMAC key */
    NIF_SECRETS_MAX = 16,
    NIF_IP_TCP = 6, /* IP protocol numbers, RFC 8656 §18.8 */
    NIF_IP_UDP = 17,
    NIF_ERR_SLOTS = 32,
};

/* Places of the methods that have a name. */
enum {
#define NIF_METHOD_INDEX(sym, number, name) NIF_METHOD_##sym,
    STUN_METHODS(NIF_METHOD_INDEX)
#undef NIF_METHOD_INDEX
    NIF_METHOD_COUNT
};

/* X(field, text) */
#define NIF_ATOMS(X)                \
    X(ok, "ok")                     \
    X(error, "error")               \
    X(no, "false")                  \
    X(yes, "true")                  \
    X(more, "more")                 \
    X(request, "request")           \
    X(indication, "indication")     \
    X(success, "success")           \
    X(ipv4, "ipv4")                 \
    X(ipv6, "ipv6")                 \
    X(udp, "udp")                   \
    X(tcp, "tcp")                   \
    X(ip, "ip")                     \
    X(port, "port")                 \
    X(md5, "md5")                   \
    X(sha, "sha")                   \
    X(sha1, "sha1")                 \
    X(sha256, "sha256")             \
    X(expired, "expired")           \
    X(invalid, "invalid")           \
    X(malformed, "malformed")       \
    X(crypto_error, "crypto_error") \
    X(system_limit, "system_limit")

struct nif_method {
    ERL_NIF_TERM name;
    uint16_t number;
};

/* Atoms are the only terms that outlive a call, and == compares them. */
struct nif_atoms {
#define NIF_ATOM_FIELD(field, text) ERL_NIF_TERM field;
    NIF_ATOMS(NIF_ATOM_FIELD)
#undef NIF_ATOM_FIELD
    ERL_NIF_TERM err[NIF_ERR_SLOTS];  /* by the negated enum ct_err */
    ERL_NIF_TERM attr[STUN_ID_COUNT]; /* by enum stun_attr_id */
    struct nif_method method[NIF_METHOD_COUNT];
};

struct nif_crypto;

/*
 * One per loaded library; an upgrade makes a new one, and the old one lives on until the old code
 * is purged. A struct crypto belongs to one thread, so each scheduler thread makes its own at its
 * first use and keeps it under `key`; `all` owns them, under `lock`. The key is POSIX's, not one of
 * enif_tsd_key_create(): those are given out again with the values they had in each thread.
 */
struct nif_priv {
    struct nif_atoms atoms;
    pthread_key_t key;
    ErlNifMutex *lock;
    struct nif_crypto *all;
};

static inline struct nif_priv *nif_priv(ErlNifEnv *env)
{
    return (struct nif_priv *)enif_priv_data(env);
}

static inline const struct nif_atoms *nif_atoms(ErlNifEnv *env)
{
    return &nif_priv(env)->atoms;
}

/* Makes every atom. */
void nif_atoms_init(struct nif_atoms *atoms, ErlNifEnv *env);

/* The calling thread's struct crypto; NULL when there is no memory or libcrypto lacks a hash. */
struct crypto *nif_crypto(ErlNifEnv *env);
/* Frees those of all threads; no NIF of this library may be running. */
void nif_crypto_free_all(struct nif_priv *priv);

/* A binary of at most max bytes; valid until the NIF returns. */
bool nif_get_bytes(ErlNifEnv *env, ERL_NIF_TERM term, size_t max, struct span *out);

/* A new binary with a copy of these bytes. */
ERL_NIF_TERM nif_make_bytes(ErlNifEnv *env, const void *data, size_t len);

/* {error, {Reason, Offset}}; offset in bytes. */
ERL_NIF_TERM nif_error(ErlNifEnv *env, enum ct_err err, size_t offset);

/* Raises error:crypto_error: libcrypto refused, which no argument can cause. */
ERL_NIF_TERM nif_crypto_failed(ErlNifEnv *env);

/* Tells the scheduler what a call over this many bytes has cost of its millisecond. */
void nif_account(ErlNifEnv *env, size_t len);

#endif
