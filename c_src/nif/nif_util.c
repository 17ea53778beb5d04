#include "nif/nif.h"

struct nif_crypto {
    struct nif_crypto *next;
    struct crypto *crypto;
};

void nif_atoms_init(struct nif_atoms *atoms, ErlNifEnv *env)
{
#define NIF_ATOM(field, text) atoms->field = enif_make_atom(env, text);
    NIF_ATOMS(NIF_ATOM)
#undef NIF_ATOM
#define NIF_ERR(sym, val, name)                                     \
    _Static_assert(-(val) < NIF_ERR_SLOTS, "room for every error"); \
    atoms->err[-(val)] = enif_make_atom(env, name);
    CT_ERRS(NIF_ERR)
#undef NIF_ERR
#define NIF_METHOD(sym, num, text) \
    atoms->method[NIF_METHOD_##sym] = (struct nif_method){enif_make_atom(env, text), (num)};
    STUN_METHODS(NIF_METHOD)
#undef NIF_METHOD
#define NIF_ATTR(id, type, text, kind, least, most) \
    atoms->attr[STUN_ID_##id] = enif_make_atom(env, text);
    STUN_ATTRS(NIF_ATTR)
#undef NIF_ATTR
}

static struct crypto *crypto_of_thread(struct nif_priv *priv)
{
    struct nif_crypto *node = (struct nif_crypto *)enif_alloc(sizeof *node);
    if (!node)
        return NULL;
    node->crypto = crypto_new();
    if (!node->crypto) {
        enif_free(node);
        return NULL;
    }
    if (pthread_setspecific(priv->key, node->crypto) != 0) {
        crypto_free(node->crypto);
        enif_free(node);
        return NULL;
    }
    enif_mutex_lock(priv->lock);
    node->next = priv->all;
    priv->all = node;
    enif_mutex_unlock(priv->lock);
    return node->crypto;
}

struct crypto *nif_crypto(ErlNifEnv *env)
{
    struct nif_priv *priv = nif_priv(env);
    struct crypto *c = (struct crypto *)pthread_getspecific(priv->key);
    return c ? c : crypto_of_thread(priv);
}

void nif_crypto_free_all(struct nif_priv *priv)
{
    struct nif_crypto *node = priv->all;
    while (node) {
        struct nif_crypto *next = node->next;
        crypto_free(node->crypto);
        enif_free(node);
        node = next;
    }
    priv->all = NULL;
}

bool nif_get_bytes(ErlNifEnv *env, ERL_NIF_TERM term, size_t max, struct span *out)
{
    ErlNifBinary bin;
    if (!enif_inspect_binary(env, term, &bin) || bin.size > max)
        return false;
    *out = span_of(bin.data, bin.size);
    return true;
}

ERL_NIF_TERM nif_make_bytes(ErlNifEnv *env, const void *data, size_t len)
{
    ERL_NIF_TERM term;
    uint8_t *to = enif_make_new_binary(env, len, &term);
    if (len)
        memcpy(to, data, len);
    return term;
}

ERL_NIF_TERM nif_error(ErlNifEnv *env, enum ct_err err, size_t offset)
{
    const struct nif_atoms *atoms = nif_atoms(env);
    ERL_NIF_TERM where = enif_make_tuple2(env, atoms->err[-err], enif_make_uint64(env, offset));
    return enif_make_tuple2(env, atoms->error, where);
}

ERL_NIF_TERM nif_crypto_failed(ErlNifEnv *env)
{
    return enif_raise_exception(env, nif_atoms(env)->crypto_error);
}

void nif_account(ErlNifEnv *env, size_t len)
{
    if (len > 1024)
        (void)enif_consume_timeslice(env, (int)(1 + len / 1024));
}
