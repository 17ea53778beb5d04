#include "nif/nif_stun_decode.h"

#include "core/stun_msg.h"
#include "nif/nif.h"

/* Room on the stack for the attributes of a packet of 1500 bytes; longer ones take heap memory. */
enum {
    TERMS_ON_STACK = (1500 - STUN_HEADER_SIZE) / STUN_ATTR_HEADER_SIZE
};

struct decoder {
    ErlNifEnv *env;
    const struct nif_atoms *atoms;
    ERL_NIF_TERM packet;
    const struct stun_msg *msg;
};

/* Bytes of the packet; at is an offset into it. */
static ERL_NIF_TERM slice(const struct decoder *d, size_t at, size_t len)
{
    return enif_make_sub_binary(d->env, d->packet, at, len);
}

/*
 * The readers, one per enum stun_kind: false when the value breaks its format. Lengths were checked
 * with stun_attr_length_ok() before.
 */
static bool read_flag(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    (void)a;
    *out = d->atoms->yes;
    return true;
}

static bool read_bytes(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    *out = slice(d, a->at, a->value.len);
    return true;
}

static bool read_u32(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    *out = enif_make_uint(d->env, rbuf_u32(&r));
    return true;
}

static bool read_u64(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    *out = enif_make_uint64(d->env, rbuf_u64(&r));
    return true;
}

/* CHANNEL and PORT: 16 bits, and two bytes that do not count. */
static bool read_u16(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    *out = enif_make_uint(d->env, rbuf_u16(&r));
    return true;
}

/* inet:ip_address(): four bytes or eight 16-bit groups. */
static ERL_NIF_TERM make_ip(ErlNifEnv *env, const struct addr *addr)
{
    struct rbuf r = rbuf_of(addr->ip, sizeof addr->ip);
    ERL_NIF_TERM part[8];
    unsigned n = addr->family == ADDR_V4 ? 4 : 8;
    for (unsigned i = 0; i < n; i++)
        part[i] = enif_make_uint(env, n == 4 ? rbuf_u8(&r) : rbuf_u16(&r));
    return enif_make_tuple_from_array(env, part, n);
}

static bool read_address(const struct decoder *d, const struct stun_attr *a, bool xored,
                         ERL_NIF_TERM *out)
{
    struct addr addr;
    if (stun_addr_decode(a->value, xored, stun_msg_tid(d->msg), &addr) != CT_OK)
        return false;
    ERL_NIF_TERM pair[] = {make_ip(d->env, &addr), enif_make_uint(d->env, addr.port)};
    *out = enif_make_tuple_from_array(d->env, pair, 2);
    return true;
}

static bool read_addr(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    return read_address(d, a, false, out);
}

static bool read_xaddr(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    return read_address(d, a, true, out);
}

static ERL_NIF_TERM make_family(const struct decoder *d, uint8_t family)
{
    if (family == ADDR_V4)
        return d->atoms->ipv4;
    return family == ADDR_V6 ? d->atoms->ipv6 : enif_make_uint(d->env, family);
}

static bool read_family(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    *out = make_family(d, rbuf_u8(&r));
    return true;
}

static bool read_protocol(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    uint8_t protocol = rbuf_u8(&r);
    if (protocol == NIF_IP_UDP)
        *out = d->atoms->udp;
    else
        *out = protocol == NIF_IP_TCP ? d->atoms->tcp : enif_make_uint(d->env, protocol);
    return true;
}

static bool read_even_port(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    *out = rbuf_u8(&r) & 0x80 ? d->atoms->yes : d->atoms->no;
    return true;
}

/* [ip], [port], [ip, port] or []. */
static bool read_change(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    uint32_t bits = rbuf_u32(&r);
    ERL_NIF_TERM flags[2];
    unsigned n = 0;
    if (bits & 0x04)
        flags[n++] = d->atoms->ip;
    if (bits & 0x02)
        flags[n++] = d->atoms->port;
    *out = enif_make_list_from_array(d->env, flags, n);
    return true;
}

/* The two bytes with class and number of an error code (RFC 8489 §14.8). */
static bool read_code(struct rbuf *r, unsigned *code)
{
    unsigned hundreds = rbuf_u8(r) & 7;
    unsigned number = rbuf_u8(r);
    *code = hundreds * 100 + number;
    return hundreds >= 3 && hundreds <= 6 && number <= 99;
}

static bool read_error(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    unsigned code;
    (void)rbuf_u16(&r);
    if (!read_code(&r, &code))
        return false;
    *out = enif_make_tuple2(d->env, enif_make_uint(d->env, code),
                            slice(d, a->at + 4, a->value.len - 4));
    return true;
}

static bool read_addr_error(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    uint8_t family = rbuf_u8(&r);
    unsigned code;
    (void)rbuf_u8(&r);
    if (!read_code(&r, &code))
        return false;
    *out = enif_make_tuple3(d->env, make_family(d, family), enif_make_uint(d->env, code),
                            slice(d, a->at + 4, a->value.len - 4));
    return true;
}

static bool read_types(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    ERL_NIF_TERM list = enif_make_list(d->env, 0);
    while (rbuf_left(&r) > 0)
        list = enif_make_list_cell(d->env, enif_make_uint(d->env, rbuf_u16(&r)), list);
    return enif_make_reverse_list(d->env, list, out) != 0;
}

/* One {Algorithm, Parameters}; the padding behind the parameters may be missing at the very end. */
static bool read_one_algorithm(const struct decoder *d, const struct stun_attr *a, struct rbuf *r,
                               ERL_NIF_TERM *out)
{
    unsigned number = rbuf_u16(r);
    size_t len = rbuf_u16(r);
    ERL_NIF_TERM name = enif_make_uint(d->env, number);
    if (number == STUN_PASSWORD_MD5)
        name = d->atoms->md5;
    else if (number == STUN_PASSWORD_SHA256)
        name = d->atoms->sha256;
    size_t at = a->at + r->pos;
    (void)rbuf_take(r, len);
    if (r->failed)
        return false;
    size_t pad = stun_padded(len) - len;
    (void)rbuf_take(r, pad < rbuf_left(r) ? pad : rbuf_left(r));
    *out = enif_make_tuple2(d->env, name, slice(d, at, len));
    return true;
}

static bool read_algorithm(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    return read_one_algorithm(d, a, &r, out) && rbuf_left(&r) == 0;
}

static bool read_algorithms(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    ERL_NIF_TERM list = enif_make_list(d->env, 0);
    while (rbuf_left(&r) > 0) {
        ERL_NIF_TERM one;
        if (!read_one_algorithm(d, a, &r, &one))
            return false;
        list = enif_make_list_cell(d->env, one, list);
    }
    return enif_make_reverse_list(d->env, list, out) != 0;
}

static bool read_icmp(const struct decoder *d, const struct stun_attr *a, ERL_NIF_TERM *out)
{
    struct rbuf r = rbuf_of(a->value.data, a->value.len);
    (void)rbuf_u16(&r);
    ERL_NIF_TERM type = enif_make_uint(d->env, rbuf_u8(&r));
    ERL_NIF_TERM code = enif_make_uint(d->env, rbuf_u8(&r));
    *out = enif_make_tuple3(d->env, type, code, enif_make_uint(d->env, rbuf_u32(&r)));
    return true;
}

static bool (*const readers[])(const struct decoder *, const struct stun_attr *, ERL_NIF_TERM *) = {
    [STUN_KIND_FLAG] = read_flag,
    [STUN_KIND_BYTES] = read_bytes,
    [STUN_KIND_TEXT] = read_bytes,
    [STUN_KIND_U32] = read_u32,
    [STUN_KIND_U64] = read_u64,
    [STUN_KIND_ADDR] = read_addr,
    [STUN_KIND_XADDR] = read_xaddr,
    [STUN_KIND_ERROR] = read_error,
    [STUN_KIND_TYPES] = read_types,
    [STUN_KIND_CHANNEL] = read_u16,
    [STUN_KIND_FAMILY] = read_family,
    [STUN_KIND_PROTOCOL] = read_protocol,
    [STUN_KIND_EVEN_PORT] = read_even_port,
    [STUN_KIND_ALGORITHM] = read_algorithm,
    [STUN_KIND_ALGORITHMS] = read_algorithms,
    [STUN_KIND_ADDR_ERROR] = read_addr_error,
    [STUN_KIND_ICMP] = read_icmp,
    [STUN_KIND_CHANGE] = read_change,
    [STUN_KIND_PORT] = read_u16,
};

static ERL_NIF_TERM make_pair(ErlNifEnv *env, ERL_NIF_TERM name, ERL_NIF_TERM value)
{
    ERL_NIF_TERM pair[] = {name, value};
    return enif_make_tuple_from_array(env, pair, 2);
}

/* {Name, Value}, or {Type, Bytes} for an attribute that we do not know. */
static bool read_attr(const struct decoder *d, enum stun_attr_id id, const struct stun_attr *a,
                      ERL_NIF_TERM *out)
{
    ERL_NIF_TERM value;
    if (id == STUN_ID_UNKNOWN) {
        *out = make_pair(d->env, enif_make_uint(d->env, a->type), slice(d, a->at, a->value.len));
        return true;
    }
    if (!stun_attr_length_ok(id, a->value.len))
        return false;
    if (!readers[stun_attr_def(id)->kind](d, a, &value))
        return false;
    *out = make_pair(d->env, d->atoms->attr[id], value);
    return true;
}

/*
 * Attributes before MESSAGE-INTEGRITY count, and the integrity attributes and FINGERPRINT
 * themselves (RFC 8489 §14.5, §14.6).
 */
static bool counts(const struct stun_msg *m, enum stun_attr_id id, const struct stun_attr *a)
{
    /* `at` is where the value starts: an empty one may start where they end. */
    if (a->at <= m->attrs_end)
        return true;
    if (id != STUN_ID_MESSAGE_INTEGRITY && id != STUN_ID_MESSAGE_INTEGRITY_SHA256 &&
        id != STUN_ID_FINGERPRINT)
        return false;
    return stun_msg_has(m, id) && m->at[id] == a->at;
}

/* Nobody may act on an ignored attribute, so its value is left as it stands. */
static ERL_NIF_TERM make_ignored(const struct decoder *d, enum stun_attr_id id,
                                 const struct stun_attr *a)
{
    ERL_NIF_TERM name =
        id == STUN_ID_UNKNOWN ? enif_make_uint(d->env, a->type) : d->atoms->attr[id];
    return make_pair(d->env, name, slice(d, a->at, a->value.len));
}

/* Both lists, using `terms`, which has room for every attribute. */
static enum ct_err make_lists(const struct decoder *d, ERL_NIF_TERM *terms, ERL_NIF_TERM lists[2],
                              size_t *err_at)
{
    struct stun_attr a;
    uint32_t pos = STUN_HEADER_SIZE;
    unsigned n = 0;
    ERL_NIF_TERM ignored = enif_make_list_from_array(d->env, NULL, 0);
    lists[1] = ignored;
    while (stun_msg_next(d->msg, &pos, &a)) {
        enum stun_attr_id id = stun_attr_id(a.type);
        if (!counts(d->msg, id, &a)) {
            ignored = enif_make_list_cell(d->env, make_ignored(d, id, &a), ignored);
        } else if (!read_attr(d, id, &a, &terms[n++])) {
            *err_at = a.at;
            return CT_EVALUE;
        }
    }
    lists[0] = enif_make_list_from_array(d->env, terms, n);
    if (ignored != lists[1])
        (void)enif_make_reverse_list(d->env, ignored, &lists[1]);
    return CT_OK;
}

static ERL_NIF_TERM make_class(const struct nif_atoms *atoms, enum stun_class cls)
{
    if (cls == STUN_REQUEST)
        return atoms->request;
    if (cls == STUN_INDICATION)
        return atoms->indication;
    return cls == STUN_SUCCESS ? atoms->success : atoms->error;
}

static ERL_NIF_TERM make_method(const struct decoder *d)
{
    for (size_t i = 0; i < NIF_METHOD_COUNT; i++) {
        if (d->atoms->method[i].number == d->msg->method)
            return d->atoms->method[i].name;
    }
    return enif_make_uint(d->env, d->msg->method);
}

static ERL_NIF_TERM make_message(const struct decoder *d, ERL_NIF_TERM *terms)
{
    ERL_NIF_TERM lists[2];
    size_t err_at = 0;
    enum ct_err err = make_lists(d, terms, lists, &err_at);
    if (err != CT_OK)
        return nif_error(d->env, err, err_at);
    ERL_NIF_TERM parts[] = {
        d->atoms->ok,   make_class(d->atoms, d->msg->cls),
        make_method(d), slice(d, 8, STUN_TID_SIZE),
        lists[0],       lists[1],
    };
    return enif_make_tuple_from_array(d->env, parts, 6);
}

static ERL_NIF_TERM decode(ErlNifEnv *env, ERL_NIF_TERM packet, struct span bytes)
{
    struct stun_msg msg;
    size_t err_at = 0;
    enum ct_err err = stun_msg_decode(&msg, bytes.data, bytes.len, &err_at);
    if (err != CT_OK)
        return nif_error(env, err, err_at);

    struct decoder d = {.env = env, .atoms = nif_atoms(env), .packet = packet, .msg = &msg};
    ERL_NIF_TERM few[TERMS_ON_STACK];
    size_t most = (bytes.len - STUN_HEADER_SIZE) / STUN_ATTR_HEADER_SIZE;
    if (most <= TERMS_ON_STACK)
        return make_message(&d, few);
    ERL_NIF_TERM *many = (ERL_NIF_TERM *)enif_alloc(most * sizeof *many);
    if (!many)
        return enif_raise_exception(env, d.atoms->system_limit);
    ERL_NIF_TERM answer = make_message(&d, many);
    enif_free(many);
    return answer;
}

static ERL_NIF_TERM decode_long(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    (void)argc;
    struct span bytes;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &bytes))
        return enif_make_badarg(env);
    return decode(env, argv[0], bytes);
}

ERL_NIF_TERM nif_stun_parts(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
{
    struct span bytes;
    if (!nif_get_bytes(env, argv[0], SIZE_MAX, &bytes))
        return enif_make_badarg(env);
    if (bytes.len > NIF_DIRECT_MAX)
        return enif_schedule_nif(env, "stun_parts", ERL_NIF_DIRTY_JOB_CPU_BOUND, decode_long, argc,
                                 argv);
    nif_account(env, bytes.len);
    return decode(env, argv[0], bytes);
}
