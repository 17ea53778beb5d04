/* STUN messages to terms. */
#ifndef CT_NIF_NIF_STUN_DECODE_H
#define CT_NIF_NIF_STUN_DECODE_H

#include <erl_nif.h>

/*
 * stun_parts(Packet) -> {ok, Class, Method, TransactionId, Attributes, Ignored}
 *                     | {error, {Reason, Offset}}
 * A flat tuple: each language makes its own map of it, faster than a NIF can.
 */
ERL_NIF_TERM nif_stun_parts(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
