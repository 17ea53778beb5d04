#include "nif/nif_channel.h"

#include "core/turn_frame.h"
#include "nif/nif.h"

ERL_NIF_TERM nif_channel_data_encode(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    const struct nif_atoms *atoms = nif_atoms(env);
    unsigned channel;
    struct span data;
    bool stream = argv[2] == atoms->yes;
    if (!enif_get_uint(env, argv[0], &channel) || channel < STUN_CHANNEL_MIN ||
        channel > STUN_CHANNEL_MAX)
        return enif_make_badarg(env);
    if (!nif_get_bytes(env, argv[1], UINT16_MAX, &data))
        return enif_make_badarg(env);
    if (!stream && argv[2] != atoms->no)
        return enif_make_badarg(env);

    ERL_NIF_TERM term;
    size_t size = STUN_CHANNEL_HEADER_SIZE + (stream ? stun_padded(data.len) : data.len);
    struct wbuf w = wbuf_of(enif_make_new_binary(env, size, &term), size);
    turn_channel_data_encode(&w, (uint16_t)channel, data, stream);
    nif_account(env, data.len / 8); /* one copy */
    return w.failed ? enif_make_badarg(env) : term;
}

ERL_NIF_TERM nif_channel_data_decode(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct span frame;
    struct turn_channel_data out;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &frame))
        return enif_make_badarg(env);
    enum ct_err err = turn_channel_data_decode(frame.data, frame.len, &out);
    if (err != CT_OK) /* what is missing is missed where the bytes end; the channel stands first */
        return nif_error(env, err, err == CT_ESHORT ? frame.len : 0);
    ERL_NIF_TERM data = enif_make_sub_binary(env, argv[0], STUN_CHANNEL_HEADER_SIZE, out.data.len);
    ERL_NIF_TERM pair = enif_make_tuple2(env, enif_make_uint(env, out.channel), data);
    return enif_make_tuple2(env, nif_atoms(env)->ok, pair);
}

/* The field that a stream breaks the framing with: cookie, length, or the first byte. */
static size_t frame_error_offset(enum ct_err err)
{
    return err == CT_ECOOKIE ? 4 : err == CT_ELENGTH ? 2 : 0;
}

ERL_NIF_TERM nif_frame_size(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    const struct nif_atoms *atoms = nif_atoms(env);
    struct span bytes;
    size_t size = 0;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &bytes))
        return enif_make_badarg(env);
    enum ct_err err = turn_frame_size(bytes.data, bytes.len, &size);
    if (err != CT_OK)
        return nif_error(env, err, frame_error_offset(err));
    if (size == 0)
        return atoms->more;
    return enif_make_tuple2(env, atoms->ok, enif_make_uint64(env, size));
}
