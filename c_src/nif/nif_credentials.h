/* Time-limited credentials, and constant-time equality. */
#ifndef CT_NIF_NIF_CREDENTIALS_H
#define CT_NIF_NIF_CREDENTIALS_H

#include <erl_nif.h>

/*
 * rest_credential(sha | sha256, Secret, UserId, Expiry) -> {Username, Password}
 * Username is "<Expiry>:<UserId>", or "<Expiry>" when UserId is empty; at most STUN_USERNAME_MAX
 * bytes. UserId is UTF-8 without control characters. draft-uberti-rtcweb-turn-rest §2.2
 */
ERL_NIF_TERM nif_rest_credential(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/*
 * rest_verify(sha | sha256, [Secret], Username, Password, Now)
 *     -> ok | {error, expired | invalid | malformed}
 * Every secret is tried, and in constant time. 1 to NIF_SECRETS_MAX secrets.
 */
ERL_NIF_TERM nif_rest_verify(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* equal(A, B) -> boolean(), in a time that depends on the lengths alone */
ERL_NIF_TERM nif_equal(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
