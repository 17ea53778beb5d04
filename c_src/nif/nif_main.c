/* The library: the table of functions, and the private data from load to unload. */
#include "nif/nif.h"
#include "nif/nif_channel.h"
#include "nif/nif_credentials.h"
#include "nif/nif_signal.h"
#include "nif/nif_stun_auth.h"
#include "nif/nif_stun_decode.h"
#include "nif/nif_stun_encode.h"

static ErlNifFunc functions[] = {
    {"stun_parts", 1, nif_stun_parts, 0},
    {"stun_build", 6, nif_stun_build, 0},
    {"stun_verify", 3, nif_stun_verify, 0},
    {"channel_data_encode", 3, nif_channel_data_encode, 0},
    {"channel_data_decode", 1, nif_channel_data_decode, 0},
    {"frame_size", 1, nif_frame_size, 0},
    {"rest_credential", 4, nif_rest_credential, 0},
    {"rest_verify", 5, nif_rest_verify, 0},
    {"long_term_key", 4, nif_long_term_key, 0},
    {"userhash", 2, nif_userhash, 0},
    {"equal", 2, nif_equal, 0},
    {"sigint_to_sigterm", 0, nif_sigint_to_sigterm, 0},
};

static int load(ErlNifEnv *env, void **priv_data, ERL_NIF_TERM info)
{
    (void)info;
    struct nif_priv *priv = (struct nif_priv *)enif_alloc(sizeof *priv);
    if (!priv)
        return 1;
    priv->all = NULL;
    priv->lock = enif_mutex_create("cromulent_turn_nif");
    if (!priv->lock)
        goto no_lock;
    if (pthread_key_create(&priv->key, NULL) != 0)
        goto no_key;
    nif_atoms_init(&priv->atoms, env);
    *priv_data = priv;
    return 0;

no_key:
    enif_mutex_destroy(priv->lock);
no_lock:
    enif_free(priv);
    return 1;
}

/* Old and new code may run side by side for a while, so they share nothing. */
static int upgrade(ErlNifEnv *env, void **priv_data, void **old_priv_data, ERL_NIF_TERM info)
{
    (void)old_priv_data;
    return load(env, priv_data, info);
}

static void unload(ErlNifEnv *env, void *priv_data)
{
    (void)env;
    struct nif_priv *priv = (struct nif_priv *)priv_data;
    nif_signal_restore();
    nif_crypto_free_all(priv);
    (void)pthread_key_delete(priv->key);
    enif_mutex_destroy(priv->lock);
    enif_free(priv);
}

ERL_NIF_INIT(cromulent_turn_nif, functions, load, NULL, upgrade, unload)
