/* Keys and message integrity (core/stun_auth.h) for Erlang. */
#ifndef CT_NIF_NIF_STUN_AUTH_H
#define CT_NIF_NIF_STUN_AUTH_H

#include "core/err.h"
#include "core/stun_auth.h"

#include <erl_nif.h>

/* stun_verify(Packet, Key, sha1 | sha256) -> ok | {error, {Reason, Offset}}, RFC 8489 §14.5, §14.6
 */
ERL_NIF_TERM nif_stun_verify(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* long_term_key(md5 | sha256, Username, Realm, Password) -> Key, RFC 8489 §9.2.2, §18.5.1 */
ERL_NIF_TERM nif_long_term_key(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* userhash(Username, Realm) -> <<_:32/binary>>, RFC 8489 §14.4 */
ERL_NIF_TERM nif_userhash(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/*
 * The hash and HMAC key of `sha1 | sha256` and a binary of up to NIF_KEY_MAX bytes. HMAC replaces a
 * key longer than the hash's block by the key's hash (RFC 2104 §2); doing that here lets struct
 * stun_key stay small. CT_EARG for other terms, CT_ECRYPTO.
 */
enum ct_err nif_get_integrity(ErlNifEnv *env, ERL_NIF_TERM algorithm, ERL_NIF_TERM key,
                              enum stun_integrity *which, struct stun_key *out);

#endif
