/* ChannelData, and where frames end on a stream (RFC 8656 §12). */
#ifndef CT_NIF_NIF_CHANNEL_H
#define CT_NIF_NIF_CHANNEL_H

#include <erl_nif.h>

/* channel_data_encode(Channel, Data, Stream :: boolean()) -> Frame */
ERL_NIF_TERM nif_channel_data_encode(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* channel_data_decode(Frame) -> {ok, {Channel, Data}} | {error, {Reason, Offset}} */
ERL_NIF_TERM nif_channel_data_decode(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* frame_size(Bytes) -> {ok, Size} | more | {error, {Reason, Offset}} */
ERL_NIF_TERM nif_frame_size(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

#endif
