/* The values of the Config map's keys (docs/control.md): read into their places, or refused. */
#ifndef CT_RELAY_CONFIG_VALUE_H
#define CT_RELAY_CONFIG_VALUE_H

#include "relay/config.h"

struct config_reader {
    struct relay_config *config;
    struct term_in in;
    struct term_in culprit; /* the term that a refusal is about */
    const char *right;      /* what it should have been */
    struct span cert, key;  /* views of the frame */
};

/* One key of the map. */
struct config_key {
    const char *name;
    const char *right; /* NULL: an integer from min to max, stored at offset */
    bool (*read)(struct config_reader *r, const struct config_key *key);
    size_t offset;
    uint32_t min, max;
    bool required;
    bool secret;
};

/* Each reads the next term; false when it is not what the key is to have. */
bool config_read_admission(struct config_reader *r, const struct config_key *key);
bool config_read_allow_peers(struct config_reader *r, const struct config_key *key);
bool config_read_alternate(struct config_reader *r, const struct config_key *key);
bool config_read_bool(struct config_reader *r, const struct config_key *key);
bool config_read_cert(struct config_reader *r, const struct config_key *key);
bool config_read_deny_peers(struct config_reader *r, const struct config_key *key);
bool config_read_line(struct config_reader *r, const struct config_key *key);
bool config_read_listen(struct config_reader *r, const struct config_key *key);
bool config_read_mode(struct config_reader *r, const struct config_key *key);
bool config_read_number(struct config_reader *r, const struct config_key *key);
bool config_read_oauth_keys(struct config_reader *r, const struct config_key *key);
bool config_read_ports(struct config_reader *r, const struct config_key *key);
bool config_read_proxies(struct config_reader *r, const struct config_key *key);
bool config_read_redirect(struct config_reader *r, const struct config_key *key);
bool config_read_relays(struct config_reader *r, const struct config_key *key);
bool config_read_secrets(struct config_reader *r, const struct config_key *key);
bool config_read_tls_key(struct config_reader *r, const struct config_key *key);

#endif
