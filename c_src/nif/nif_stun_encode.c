#include "nif/nif_stun_encode.h"

#include "core/stun_msg.h"
#include "nif/nif.h"
#include "nif/nif_stun_auth.h"

/* Nearly every message fits here; longer ones are written again into heap memory. */
enum {
    PACKET_ON_STACK = 2048
};

struct encoder {
    ErlNifEnv *env;
    const struct nif_atoms *atoms;
    struct wbuf w;
};

/*
 * A variable value is written in place between these two; open returns where its attribute starts.
 * A failed cursor stays failed, so nothing is checked in between.
 */
static size_t attr_open(struct encoder *e, enum stun_attr_id id)
{
    size_t at = e->w.pos;
    stun_put(&e->w, stun_attr_def(id)->type, NULL, 0);
    return at;
}

/* False when the value's length is wrong for the attribute. */
static bool attr_close(struct encoder *e, enum stun_attr_id id, size_t at)
{
    if (e->w.failed)
        return true;
    size_t len = e->w.pos - at - STUN_ATTR_HEADER_SIZE;
    if (len > UINT16_MAX || !stun_attr_length_ok(id, len))
        return false;
    wbuf_zeros(&e->w, stun_padded(len) - len);
    wbuf_patch_u16(&e->w, at + 2, (uint16_t)len);
    wbuf_patch_u16(&e->w, 2, (uint16_t)(e->w.pos - STUN_HEADER_SIZE));
    return true;
}

static bool get_uint(struct encoder *e, ERL_NIF_TERM term, unsigned max, unsigned *out)
{
    return enif_get_uint(e->env, term, out) && *out <= max;
}

/* The elements of a tuple of exactly n. */
static const ERL_NIF_TERM *get_tuple(struct encoder *e, ERL_NIF_TERM term, int n)
{
    const ERL_NIF_TERM *elements;
    int arity;
    return enif_get_tuple(e->env, term, &arity, &elements) && arity == n ? elements : NULL;
}

/* The writers, one per enum stun_kind: false when the term is not a value of that kind. */
static bool put_flag(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    if (value != e->atoms->yes)
        return false;
    stun_put(&e->w, stun_attr_def(id)->type, NULL, 0);
    return true;
}

static bool put_bytes(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    struct span bytes;
    if (!nif_get_bytes(e->env, value, UINT16_MAX, &bytes) || !stun_attr_length_ok(id, bytes.len))
        return false;
    stun_put(&e->w, stun_attr_def(id)->type, bytes.data, bytes.len);
    return true;
}

static bool put_u32(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    unsigned v;
    if (!get_uint(e, value, UINT32_MAX, &v))
        return false;
    stun_put_u32(&e->w, stun_attr_def(id)->type, v);
    return true;
}

static bool put_u64(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    ErlNifUInt64 v;
    if (!enif_get_uint64(e->env, value, &v))
        return false;
    size_t at = attr_open(e, id);
    wbuf_u64(&e->w, v);
    return attr_close(e, id, at);
}

/* CHANNEL and PORT: 16 bits, then two zero bytes (RFC 8656 §18.1, RFC 5780 §7.5). */
static bool put_u16(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    unsigned v;
    if (!get_uint(e, value, UINT16_MAX, &v))
        return false;
    stun_put_u32(&e->w, stun_attr_def(id)->type, (uint32_t)v << 16);
    return true;
}

/* inet:ip_address() of four bytes or eight 16-bit groups. */
static bool get_ip(struct encoder *e, ERL_NIF_TERM term, uint16_t port, struct addr *out)
{
    const ERL_NIF_TERM *part;
    int n;
    uint8_t ip[16];
    struct wbuf w = wbuf_of(ip, sizeof ip);
    if (!enif_get_tuple(e->env, term, &n, &part) || (n != 4 && n != 8))
        return false;
    for (int i = 0; i < n; i++) {
        unsigned v;
        if (!get_uint(e, part[i], n == 4 ? UINT8_MAX : UINT16_MAX, &v))
            return false;
        if (n == 4)
            wbuf_u8(&w, (uint8_t)v);
        else
            wbuf_u16(&w, (uint16_t)v);
    }
    *out = n == 4 ? addr_v4(ip, port) : addr_v6(ip, port);
    return true;
}

static bool get_address(struct encoder *e, ERL_NIF_TERM term, struct addr *out)
{
    const ERL_NIF_TERM *pair = get_tuple(e, term, 2);
    unsigned port;
    return pair && get_uint(e, pair[1], UINT16_MAX, &port) &&
           get_ip(e, pair[0], (uint16_t)port, out);
}

static bool put_addr(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    struct addr addr;
    if (!get_address(e, value, &addr))
        return false;
    stun_put_addr(&e->w, stun_attr_def(id)->type, &addr);
    return true;
}

static bool put_xaddr(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    struct addr addr;
    if (!get_address(e, value, &addr))
        return false;
    stun_put_xaddr(&e->w, stun_attr_def(id)->type, &addr);
    return true;
}

static bool get_family(struct encoder *e, ERL_NIF_TERM term, unsigned *out)
{
    if (term == e->atoms->ipv4)
        *out = ADDR_V4;
    else if (term == e->atoms->ipv6)
        *out = ADDR_V6;
    else
        return get_uint(e, term, UINT8_MAX, out);
    return true;
}

static bool put_family(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    unsigned family;
    if (!get_family(e, value, &family))
        return false;
    stun_put_u32(&e->w, stun_attr_def(id)->type, (uint32_t)family << 24);
    return true;
}

static bool put_protocol(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    unsigned protocol;
    if (value == e->atoms->udp)
        protocol = NIF_IP_UDP;
    else if (value == e->atoms->tcp)
        protocol = NIF_IP_TCP;
    else if (!get_uint(e, value, UINT8_MAX, &protocol))
        return false;
    stun_put_u32(&e->w, stun_attr_def(id)->type, (uint32_t)protocol << 24);
    return true;
}

static bool put_even_port(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    if (value != e->atoms->yes && value != e->atoms->no)
        return false;
    uint8_t bits = value == e->atoms->yes ? 0x80 : 0;
    stun_put(&e->w, stun_attr_def(id)->type, &bits, 1);
    return true;
}

static bool put_change(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    uint32_t bits = 0;
    ERL_NIF_TERM head;
    while (enif_get_list_cell(e->env, value, &head, &value)) {
        uint32_t bit = head == e->atoms->ip ? 0x04 : head == e->atoms->port ? 0x02 : 0;
        if (bit == 0 || (bits & bit))
            return false;
        bits |= bit;
    }
    stun_put_u32(&e->w, stun_attr_def(id)->type, bits);
    return enif_is_empty_list(e->env, value);
}

/* Family (0 in ERROR-CODE), class and number, reason (RFC 8489 §14.8, RFC 8656 §18.12). */
static bool put_code(struct encoder *e, enum stun_attr_id id, unsigned family,
                     const ERL_NIF_TERM code_and_reason[2])
{
    unsigned code;
    struct span reason;
    if (!get_uint(e, code_and_reason[0], 699, &code) || code < 300)
        return false;
    if (!nif_get_bytes(e->env, code_and_reason[1], STUN_TEXT_MAX, &reason))
        return false;
    size_t at = attr_open(e, id);
    wbuf_u8(&e->w, (uint8_t)family);
    wbuf_u8(&e->w, 0);
    wbuf_u8(&e->w, (uint8_t)(code / 100));
    wbuf_u8(&e->w, (uint8_t)(code % 100));
    wbuf_bytes(&e->w, reason.data, reason.len);
    return attr_close(e, id, at);
}

static bool put_error(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    const ERL_NIF_TERM *pair = get_tuple(e, value, 2);
    return pair && put_code(e, id, 0, pair);
}

static bool put_addr_error(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    const ERL_NIF_TERM *triple = get_tuple(e, value, 3);
    unsigned family;
    return triple && get_family(e, triple[0], &family) && put_code(e, id, family, triple + 1);
}

static bool put_types(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    ERL_NIF_TERM head;
    size_t at = attr_open(e, id);
    while (!e->w.failed && enif_get_list_cell(e->env, value, &head, &value)) {
        unsigned type;
        if (!get_uint(e, head, UINT16_MAX, &type))
            return false;
        wbuf_u16(&e->w, (uint16_t)type);
    }
    return (e->w.failed || enif_is_empty_list(e->env, value)) && attr_close(e, id, at);
}

/* Without the padding that follows the parameters in a list. */
static bool put_one_algorithm(struct encoder *e, ERL_NIF_TERM value, size_t *params)
{
    const ERL_NIF_TERM *pair = get_tuple(e, value, 2);
    struct span bytes;
    unsigned number;
    if (!pair || !nif_get_bytes(e->env, pair[1], UINT16_MAX, &bytes))
        return false;
    if (pair[0] == e->atoms->md5)
        number = STUN_PASSWORD_MD5;
    else if (pair[0] == e->atoms->sha256)
        number = STUN_PASSWORD_SHA256;
    else if (!get_uint(e, pair[0], UINT16_MAX, &number))
        return false;
    wbuf_u16(&e->w, (uint16_t)number);
    wbuf_u16(&e->w, (uint16_t)bytes.len);
    wbuf_bytes(&e->w, bytes.data, bytes.len);
    *params = bytes.len;
    return true;
}

static bool put_algorithm(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    size_t params;
    size_t at = attr_open(e, id);
    return put_one_algorithm(e, value, &params) && attr_close(e, id, at);
}

static bool put_algorithms(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    ERL_NIF_TERM head;
    size_t at = attr_open(e, id);
    while (!e->w.failed && enif_get_list_cell(e->env, value, &head, &value)) {
        size_t params;
        if (!put_one_algorithm(e, head, &params))
            return false;
        wbuf_zeros(&e->w, stun_padded(params) - params);
    }
    return (e->w.failed || enif_is_empty_list(e->env, value)) && attr_close(e, id, at);
}

static bool put_icmp(struct encoder *e, enum stun_attr_id id, ERL_NIF_TERM value)
{
    const ERL_NIF_TERM *triple = get_tuple(e, value, 3);
    unsigned type, code, data;
    if (!triple || !get_uint(e, triple[0], UINT8_MAX, &type) ||
        !get_uint(e, triple[1], UINT8_MAX, &code) || !get_uint(e, triple[2], UINT32_MAX, &data))
        return false;
    size_t at = attr_open(e, id);
    wbuf_u16(&e->w, 0);
    wbuf_u8(&e->w, (uint8_t)type);
    wbuf_u8(&e->w, (uint8_t)code);
    wbuf_u32(&e->w, data);
    return attr_close(e, id, at);
}

static bool (*const writers[])(struct encoder *, enum stun_attr_id, ERL_NIF_TERM) = {
    [STUN_KIND_FLAG] = put_flag,
    [STUN_KIND_BYTES] = put_bytes,
    [STUN_KIND_TEXT] = put_bytes,
    [STUN_KIND_U32] = put_u32,
    [STUN_KIND_U64] = put_u64,
    [STUN_KIND_ADDR] = put_addr,
    [STUN_KIND_XADDR] = put_xaddr,
    [STUN_KIND_ERROR] = put_error,
    [STUN_KIND_TYPES] = put_types,
    [STUN_KIND_CHANNEL] = put_u16,
    [STUN_KIND_FAMILY] = put_family,
    [STUN_KIND_PROTOCOL] = put_protocol,
    [STUN_KIND_EVEN_PORT] = put_even_port,
    [STUN_KIND_ALGORITHM] = put_algorithm,
    [STUN_KIND_ALGORITHMS] = put_algorithms,
    [STUN_KIND_ADDR_ERROR] = put_addr_error,
    [STUN_KIND_ICMP] = put_icmp,
    [STUN_KIND_CHANGE] = put_change,
    [STUN_KIND_PORT] = put_u16,
};

/* {Name, Value}, or {Type, Bytes}, which is written as it stands whatever the type. */
static bool put_attr(struct encoder *e, ERL_NIF_TERM attr)
{
    const ERL_NIF_TERM *pair = get_tuple(e, attr, 2);
    unsigned type;
    struct span bytes;
    if (!pair)
        return false;
    for (unsigned id = 0; id < STUN_ID_COUNT; id++) {
        if (pair[0] == e->atoms->attr[id])
            return writers[stun_attr_def((enum stun_attr_id)id)->kind](e, (enum stun_attr_id)id,
                                                                       pair[1]);
    }
    if (!get_uint(e, pair[0], UINT16_MAX, &type) ||
        !nif_get_bytes(e->env, pair[1], UINT16_MAX, &bytes))
        return false;
    stun_put(&e->w, (uint16_t)type, bytes.data, bytes.len);
    return true;
}

static bool put_attrs(struct encoder *e, ERL_NIF_TERM list)
{
    ERL_NIF_TERM head;
    while (!e->w.failed && enif_get_list_cell(e->env, list, &head, &list)) {
        if (!put_attr(e, head))
            return false;
    }
    return e->w.failed || enif_is_empty_list(e->env, list);
}

static bool get_class(const struct nif_atoms *atoms, ERL_NIF_TERM term, enum stun_class *out)
{
    if (term == atoms->request)
        *out = STUN_REQUEST;
    else if (term == atoms->indication)
        *out = STUN_INDICATION;
    else if (term == atoms->success)
        *out = STUN_SUCCESS;
    else if (term == atoms->error)
        *out = STUN_ERROR;
    else
        return false;
    return true;
}

static bool get_method(struct encoder *e, ERL_NIF_TERM term, unsigned *out)
{
    for (size_t i = 0; i < NIF_METHOD_COUNT; i++) {
        if (term == e->atoms->method[i].name) {
            *out = e->atoms->method[i].number;
            return true;
        }
    }
    return get_uint(e, term, 0xFFF, out);
}

static bool put_header(struct encoder *e, const ERL_NIF_TERM argv[3])
{
    enum stun_class cls;
    unsigned method;
    struct span tid;
    if (!get_class(e->atoms, argv[0], &cls) || !get_method(e, argv[1], &method) ||
        !nif_get_bytes(e->env, argv[2], STUN_TID_SIZE, &tid) || tid.len != STUN_TID_SIZE)
        return false;
    stun_begin(&e->w, stun_type((uint16_t)method, cls), tid.data);
    return true;
}

/* {sha1 | sha256, Key}. CT_EARG for anything else. */
static enum ct_err put_integrity(struct encoder *e, ERL_NIF_TERM term)
{
    const ERL_NIF_TERM *pair = get_tuple(e, term, 2);
    enum stun_integrity which;
    struct stun_key key;
    if (!pair)
        return CT_EARG;
    enum ct_err err = nif_get_integrity(e->env, pair[0], pair[1], &which, &key);
    if (err != CT_OK)
        return err;
    struct crypto *c = nif_crypto(e->env);
    err = c ? stun_put_integrity(&e->w, c, which, &key) : CT_ECRYPTO;
    crypto_wipe(&key, sizeof key);
    return err;
}

/* A list of them, written in its order; nothing more once the cursor has failed. */
static enum ct_err put_integrities(struct encoder *e, ERL_NIF_TERM list)
{
    ERL_NIF_TERM head;
    while (!e->w.failed && enif_get_list_cell(e->env, list, &head, &list)) {
        enum ct_err err = put_integrity(e, head);
        if (err != CT_OK && !e->w.failed)
            return err;
    }
    return e->w.failed || enif_is_empty_list(e->env, list) ? CT_OK : CT_EARG;
}

/* Writes the whole message; CT_OK with a failed cursor means that it did not fit. */
static enum ct_err put_message(struct encoder *e, const ERL_NIF_TERM argv[6])
{
    bool fingerprint = argv[5] == e->atoms->yes;
    if (!fingerprint && argv[5] != e->atoms->no)
        return CT_EARG;
    if (!put_header(e, argv) || !put_attrs(e, argv[3]))
        return CT_EARG;
    enum ct_err err = put_integrities(e, argv[4]);
    if (err == CT_OK && fingerprint)
        stun_put_fingerprint(&e->w);
    return err;
}

static ERL_NIF_TERM answer(struct encoder *e, enum ct_err err)
{
    if (err == CT_ECRYPTO)
        return nif_crypto_failed(e->env);
    if (err != CT_OK || e->w.failed)
        return enif_make_badarg(e->env);
    return nif_make_bytes(e->env, e->w.data, e->w.pos);
}

static ERL_NIF_TERM build_long(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct encoder e = {.env = env, .atoms = nif_atoms(env)};
    uint8_t *data = (uint8_t *)enif_alloc(NIF_PACKET_MAX);
    if (!data)
        return enif_raise_exception(env, e.atoms->system_limit);
    e.w = wbuf_of(data, NIF_PACKET_MAX);
    ERL_NIF_TERM term = answer(&e, put_message(&e, argv));
    enif_free(data);
    return term;
}

ERL_NIF_TERM nif_stun_build(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    uint8_t data[PACKET_ON_STACK];
    struct encoder e = {.env = env, .atoms = nif_atoms(env), .w = wbuf_of(data, sizeof data)};
    enum ct_err err = put_message(&e, argv);
    if (err == CT_OK && e.w.failed)
        return enif_schedule_nif(env, "stun_build", ERL_NIF_DIRTY_JOB_CPU_BOUND, build_long, argc,
                                 argv);
    nif_account(env, e.w.pos);
    return answer(&e, err);
}
