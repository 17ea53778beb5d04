/* STUN messages from terms. */
#ifndef CT_NIF_NIF_STUN_ENCODE_H
#define CT_NIF_NIF_STUN_ENCODE_H

#include <erl_nif.h>

/*
 * stun_build(Class, Method, TransactionId, Attributes, [{sha1 | sha256, Key}], Fingerprint) ->
 * Packet badarg when a value does not fit its attribute or the message would exceed 65535 bytes.
 */
ERL_NIF_TERM nif_stun_build(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
