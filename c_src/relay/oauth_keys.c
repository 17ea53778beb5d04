#include "relay/oauth_keys.h"

/* Copies a binary of 1 to max bytes. */
static bool read_bytes(struct term_in *in, uint8_t *out, size_t max, uint8_t *len)
{
    struct span bytes;

    if (!term_binary(in, &bytes) || bytes.len == 0 || bytes.len > max)
        return false;
    memcpy(out, bytes.data, bytes.len);
    *len = (uint8_t)bytes.len;
    return true;
}

static bool read_member(struct term_in *in, struct turn_token_key *key)
{
    char name[TERM_ATOM_MAX];

    if (!term_atom(in, name))
        return false;
    if (strcmp(name, "kid") == 0)
        return read_bytes(in, key->kid, sizeof key->kid, &key->kid_len);
    if (strcmp(name, "key") == 0)
        return read_bytes(in, key->key, sizeof key->key, &key->key_len);
    if (strcmp(name, "not_before") == 0)
        return term_uint(in, INT64_MAX, &key->from);
    if (strcmp(name, "not_after") == 0)
        return term_uint(in, INT64_MAX, &key->until);
    return false;
}

static bool read_key(struct term_in *in, struct turn_token_key *key)
{
    int n = term_map(in);

    key->until = UINT64_MAX;
    for (int i = 0; i < n; i++)
        if (!read_member(in, key))
            return false;
    return n >= 0;
}

bool oauth_keys_read(struct term_in *in, struct turn_config *config)
{
    int n = term_list(in);

    if (n < 0 || n > TURN_TOKEN_KEYS_MAX)
        return false;
    for (int i = 0; i < n; i++)
        if (!read_key(in, &config->oauth_keys[config->oauth_key_count++]))
            return false;
    if (n > 0)
        term_list_end(in);
    return true;
}
