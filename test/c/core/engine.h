/*
 * An engine in a bottle: its effects land in arrays, its clock is the test's. And clients that
 * speak to it with real credentials.
 */
#ifndef CT_TEST_ENGINE_H
#define CT_TEST_ENGINE_H

#include "check.h"
#include "core/stun_auth.h"
#include "core/stun_msg.h"
#include "core/turn_commons.h"
#include "core/turn_server.h"

enum {
    ENGINE_OUT_MAX = 64, /* effects kept between two looks */
    ENGINE_RELAYS_MAX = 4096,
    ENGINE_TCP_MAX = 64,
    ENGINE_BYTES_MAX = 2048,
    NO_REPLY = -1, /* client_request(): nothing came back */
};

struct turn_relay {
    struct addr at;
    uint32_t alloc;
    bool open;
};

/* RFC 6062: a listening socket, and a connection with a peer. */
struct turn_acceptor {
    struct addr at;
    uint32_t alloc;
    bool open;
};

struct turn_pipe {
    struct addr from, to;
    uint32_t tcp;
    bool open, joined;
    struct turn_tuple client; /* that it is joined to */
};

/* A datagram on its way out of the engine. */
struct sent {
    struct turn_tuple tuple; /* to a client */
    struct addr from, to;    /* from a relay to a peer */
    unsigned flags;
    size_t whole, len; /* of what is longer than ENGINE_BYTES_MAX the beginning is kept */
    uint8_t bytes[ENGINE_BYTES_MAX];
};

struct engine {
    struct turn_io io;
    struct turn_config config;
    struct turn_commons *commons;
    struct crypto *crypto;
    struct turn_server *server;
    struct turn_now now;
    uint16_t worker;       /* before engine_start() */
    struct engine *others; /* engines that packets may be handed to, by number */
    unsigned handed;       /* how many were */
    struct engine *host;   /* before engine_start(): whose commons are this one's too */
    unsigned paired_over;  /* datagrams given to other engines */
    bool ring_full;        /* none of them arrives */
    struct turn_relay relays[ENGINE_RELAYS_MAX];
    struct turn_acceptor acceptors[ENGINE_TCP_MAX];
    struct turn_pipe pipes[ENGINE_TCP_MAX];
    enum ct_err tcp_fails;   /* what tcp_connect answers, when it is not CT_OK */
    unsigned tcp_away;       /* connections handed over, */
    struct turn_tuple moved; /* the last one, */
    unsigned moved_to;       /* and the worker that got it */
    struct sent to_client[ENGINE_OUT_MAX], to_peer[ENGINE_OUT_MAX];
    size_t to_clients, to_peers; /* how many since engine_clear() */
    uint16_t busy_ports[8];      /* ports that relay_open refuses as in use */
    bool no_sockets;             /* relay_open fails with CT_ESYS */
    unsigned locked;
    uint64_t random_state;
    unsigned created, ended, forbidden, permitted, auth_failed; /* events */
    unsigned not_admitted;
    enum turn_end last_end;
    char last_reason[32];
    struct addr last_peer; /* that was permitted */
    uint64_t ended_up_bytes, ended_down_bytes;
    uint8_t scratch[TURN_RESERVE_MAX];
};

/*
 * Defaults, realm "example.org", secret "north", relay IPs 192.0.2.1 and 2001:db8::1 (announced as
 * they are), peers in documentation ranges allowed. Change e->config, then engine_start().
 */
void engine_init(struct engine *e);
void engine_start(struct engine *e);
/* Stops and checks that nothing is left: no relay open, no port taken, no lock held. */
void engine_stop(struct engine *e);
/* Lets virtual time pass, with turn_server_expire() at every deadline on the way. */
void engine_pass(struct engine *e, uint64_t ms);
void engine_clear(struct engine *e);
unsigned engine_open_relays(const struct engine *e);
uint64_t engine_counter(const struct engine *e, enum turn_counter which);

/* The effects of TCP allocations, and what is left of them (engine_tcp.c). */
enum ct_err engine_tcp_listen(struct turn_io *io, const struct addr *at, uint32_t alloc,
                              struct turn_acceptor **out);
void engine_tcp_unlisten(struct turn_io *io, struct turn_acceptor *acceptor);
enum ct_err engine_tcp_connect(struct turn_io *io, struct turn_acceptor *from,
                               const struct addr *to, uint32_t tcp, struct turn_pipe **out);
void engine_tcp_join(struct turn_io *io, struct turn_pipe *pipe, const struct turn_tuple *client);
void engine_tcp_close(struct turn_io *io, struct turn_pipe *pipe);
bool engine_tcp_hand_over(struct turn_io *io, unsigned worker, const struct turn_tuple *client);
unsigned engine_open_acceptors(const struct engine *e);
unsigned engine_open_pipes(const struct engine *e);

/* "192.0.2.9:5000" as an address; the text must be right. */
struct addr addr_of(const char *text);

struct client {
    struct engine *e;
    struct turn_tuple tuple;
    char username[STUN_USERNAME_MAX + 1];
    char realm[128];
    char nonce[128];
    struct stun_key key;
    enum stun_integrity integrity;
    bool algorithms; /* sends PASSWORD-ALGORITHMS and PASSWORD-ALGORITHM (SHA-256) */
    bool fingerprint;
    bool hashed;                /* USERHASH instead of USERNAME */
    uint8_t token[128];         /* ACCESS-TOKEN of Allocate and Refresh requests, */
    size_t token_len;           /* if there is one */
    uint8_t tid[STUN_TID_SIZE]; /* of the last request, */
    uint16_t method;            /* and what it was */
    struct addr relayed;        /* after a successful client_allocate() */
    uint8_t reply[ENGINE_BYTES_MAX];
    size_t reply_len;
    struct stun_msg msg; /* the last response */
};

/* A client at this address with a time-limited username valid for an hour. */
struct client client_at(struct engine *e, const char *address, const char *user);
/* The same with the secret and expiry of the test's choice. */
struct client client_with(struct engine *e, const char *address, const char *username,
                          const char *secret);

/* A key that is shared with an authorization server: kid "keys-1", A256GCM, for all time. */
struct turn_token_key token_key(void);
/* The value of an ACCESS-TOKEN of `lifetime` seconds from now (test_turn_token.c has others). */
size_t token_seal(struct engine *e, const struct turn_token_key *key, struct span server_name,
                  const struct turn_token *token, uint8_t out[128]);
/* A client with a token of the engine's first key, and the mac_key `secret`, of 20 bytes. */
struct client client_by_token(struct engine *e, const char *address, const char *secret,
                              uint32_t lifetime);
/* Another token for it: what it has from now on. */
void client_take_token(struct client *c, const struct turn_token_key *key, const char *secret,
                       uint32_t lifetime);

/* Attributes of a request under construction. */
struct attrs {
    struct wbuf w;
    uint8_t bytes[ENGINE_BYTES_MAX];
};
void attrs_init(struct attrs *a);
/* Values of XOR addresses are made for the transaction id that client_request() will use. */
void attrs_peer(struct attrs *a, struct client *c, const char *address);
void attrs_u32(struct attrs *a, uint16_t type, uint32_t v);
void attrs_bytes(struct attrs *a, uint16_t type, const void *v, size_t len);

/* Chooses the transaction id of the next request. */
void client_new_tid(struct client *c);

/* The bytes of a request as it stands, with credentials unless `nonce` is empty; how many. */
size_t client_encode(struct client *c, uint16_t method, const struct attrs *a,
                     uint8_t bytes[ENGINE_BYTES_MAX]);
/* Reads the answer to request c->tid: 0 for success or the error code. Checks its integrity. */
int client_read(struct client *c, struct span reply);
/* Takes realm and nonce from the last answer, a 401 or 438. */
void client_learn(struct client *c);

/*
 * Sends a request as it stands (without credentials when `nonce` is empty) and reads the answer: 0
 * for success, the error code, or NO_REPLY. Checks the response's integrity when there is one.
 */
int client_send_request(struct client *c, uint16_t method, const struct attrs *a);
/* The same, but takes realm and nonce from a 401 or 438 and tries once more. */
int client_request(struct client *c, uint16_t method, const struct attrs *a);

/* Allocate with UDP and nothing else, or with these attributes too. */
int client_allocate(struct client *c);
int client_allocate_with(struct client *c, const struct attrs *more);
int client_refresh(struct client *c, uint32_t lifetime);
int client_permit(struct client *c, const char *peer);
int client_bind(struct client *c, uint16_t channel, const char *peer);

/* Sends raw bytes from the client's 5-tuple. */
void client_send(struct client *c, const void *data, size_t len);
void client_channel_data(struct client *c, uint16_t channel, const char *payload);
void client_indication(struct client *c, const char *peer, const char *payload);
/* A peer's datagram to the client's relayed address; nothing happens when that is closed. */
void peer_send(struct client *c, const char *peer, const char *payload);

/* How the last datagram to a client reads: as ChannelData or as a Data indication. */
bool got_channel_data(const struct client *c, uint16_t channel, const char *payload);
bool got_indication(const struct client *c, const char *peer, const char *payload);
/*
 * With relay sockets between allocations: takes the last datagram to a peer to the relayed address
 * that it is for, by the addresses that sockets are bound to. False when there is none such.
 */
bool engine_carry(struct engine *e);
/* The last datagram to a peer. */
bool peer_got(const struct client *c, const char *peer, const char *payload);

/* ---- TCP allocations (engine_tcp.c) ---- */

/* Allocate with TCP, these attributes or this one too; 0 or the error code. */
int tcp_allocate(struct client *c, const struct attrs *more);
int tcp_allocate_and(struct client *c, uint16_t type, const char *value, size_t len);
/* The error of a Connect request; NO_REPLY while it is under way. */
int tcp_connect(struct client *c, const char *to);
/* Ends that attempt as the system would: what the client is told. */
int tcp_connected(struct client *c, struct turn_pipe *pipe, bool ok);
/* Both, successfully: the CONNECTION-ID. */
uint32_t tcp_opened(struct client *c, const char *to);
int tcp_bind(struct client *c, uint32_t id);
/* A peer connects to the client's relayed address: the pipe, or NULL when it is refused. */
struct turn_pipe *tcp_accepted(const struct client *c, const char *from);

uint32_t tcp_id(const struct stun_msg *m);
/* The open pipe with this peer; NULL: none. */
struct turn_pipe *tcp_pipe_to(struct engine *e, const char *to);
/* The last message to a client; it must be to this one. */
struct span tcp_last(const struct client *c);

#endif
