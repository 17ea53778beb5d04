#include "nif/nif_stun_auth.h"

#include "core/stun_msg.h"
#include "nif/nif.h"

enum ct_err nif_get_integrity(ErlNifEnv *env, ERL_NIF_TERM algorithm, ERL_NIF_TERM key,
                              enum stun_integrity *which, struct stun_key *out)
{
    const struct nif_atoms *atoms = nif_atoms(env);
    struct span bytes;
    if (algorithm != atoms->sha1 && algorithm != atoms->sha256)
        return CT_EARG;
    if (!nif_get_bytes(env, key, NIF_KEY_MAX, &bytes))
        return CT_EARG;
    *which = algorithm == atoms->sha1 ? STUN_INTEGRITY_SHA1 : STUN_INTEGRITY_SHA256;
    if (bytes.len <= sizeof out->bytes) {
        if (bytes.len)
            memcpy(out->bytes, bytes.data, bytes.len);
        out->len = (uint8_t)bytes.len;
        return CT_OK;
    }
    struct crypto *c = nif_crypto(env);
    enum crypto_hash hash = *which == STUN_INTEGRITY_SHA1 ? CRYPTO_SHA1 : CRYPTO_SHA256;
    out->len = (uint8_t)crypto_hash_size(hash);
    return c ? crypto_digest(c, hash, &bytes, 1, out->bytes) : CT_ECRYPTO;
}

/* Where the message breaks the rule that err names. */
static size_t integrity_offset(const struct stun_msg *m, enum stun_integrity which)
{
    enum stun_attr_id id =
        which == STUN_INTEGRITY_SHA1 ? STUN_ID_MESSAGE_INTEGRITY : STUN_ID_MESSAGE_INTEGRITY_SHA256;
    return stun_msg_has(m, id) ? m->at[id] : m->len;
}

static ERL_NIF_TERM verify(ErlNifEnv *env, struct span packet, enum stun_integrity which,
                           const struct stun_key *key)
{
    struct stun_msg msg;
    size_t err_at = 0;
    struct crypto *c = nif_crypto(env);
    if (!c)
        return nif_crypto_failed(env);
    enum ct_err err = stun_msg_decode(&msg, packet.data, packet.len, &err_at);
    if (err != CT_OK)
        return nif_error(env, err, err_at);
    err = stun_check_integrity(c, &msg, which, key);
    if (err == CT_OK)
        return nif_atoms(env)->ok;
    if (err == CT_ECRYPTO)
        return nif_crypto_failed(env);
    return nif_error(env, err, integrity_offset(&msg, which));
}

static ERL_NIF_TERM verify_now(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct span packet;
    enum stun_integrity which;
    struct stun_key key;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &packet))
        return enif_make_badarg(env);
    enum ct_err err = nif_get_integrity(env, argv[2], argv[1], &which, &key);
    if (err != CT_OK)
        return err == CT_ECRYPTO ? nif_crypto_failed(env) : enif_make_badarg(env);
    ERL_NIF_TERM answer = verify(env, packet, which, &key);
    crypto_wipe(&key, sizeof key);
    return answer;
}

ERL_NIF_TERM nif_stun_verify(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct span packet;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &packet))
        return enif_make_badarg(env);
    if (packet.len > NIF_DIRECT_MAX)
        return enif_schedule_nif(env, "stun_verify", ERL_NIF_DIRTY_JOB_CPU_BOUND, verify_now, argc,
                                 argv);
    nif_account(env, packet.len);
    return verify_now(env, argc, argv);
}

ERL_NIF_TERM nif_long_term_key(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    const struct nif_atoms *atoms = nif_atoms(env);
    struct stun_long_term cred;
    struct stun_key key;
    if ((argv[0] != atoms->md5 && argv[0] != atoms->sha256) ||
        !nif_get_bytes(env, argv[1], NIF_STRING_MAX, &cred.username) ||
        !nif_get_bytes(env, argv[2], NIF_STRING_MAX, &cred.realm) ||
        !nif_get_bytes(env, argv[3], NIF_STRING_MAX, &cred.password))
        return enif_make_badarg(env);
    struct crypto *c = nif_crypto(env);
    enum stun_password_algorithm algorithm =
        argv[0] == atoms->md5 ? STUN_PASSWORD_MD5 : STUN_PASSWORD_SHA256;
    if (!c || stun_key_long_term(c, algorithm, &cred, &key) != CT_OK)
        return nif_crypto_failed(env);
    ERL_NIF_TERM term = nif_make_bytes(env, key.bytes, key.len);
    crypto_wipe(&key, sizeof key);
    return term;
}

ERL_NIF_TERM nif_userhash(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct span username, realm;
    uint8_t hash[CRYPTO_SHA256_SIZE];
    if (!nif_get_bytes(env, argv[0], NIF_STRING_MAX, &username) ||
        !nif_get_bytes(env, argv[1], NIF_STRING_MAX, &realm))
        return enif_make_badarg(env);
    struct crypto *c = nif_crypto(env);
    if (!c || stun_userhash(c, username, realm, hash) != CT_OK)
        return nif_crypto_failed(env);
    return nif_make_bytes(env, hash, sizeof hash);
}
