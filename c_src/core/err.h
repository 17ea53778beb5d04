/* The one closed set of errors of the C side. The names are what Erlang sees as atoms. */
#ifndef CT_CORE_ERR_H
#define CT_CORE_ERR_H

/* X(enumerator, value, name): the name is the atom of the NIF and of the control channel. */
#define CT_ERRS(X)                                                                              \
    X(CT_OK, 0, "ok")                                                                           \
    /* decoding */                                                                              \
    X(CT_ESHORT, -1, "truncated")        /* fewer bytes than the format needs */                \
    X(CT_ETYPE, -2, "not_stun")          /* the two top bits of the first byte are not zero */  \
    X(CT_ECOOKIE, -3, "bad_cookie")      /* the magic cookie is not 0x2112A442 */               \
    X(CT_ELENGTH, -4, "bad_length")      /* the length field is odd or not that of the bytes */ \
    X(CT_EATTR, -5, "attribute_overrun") /* an attribute runs past the end of its message */    \
    X(CT_EFPLAST, -6, "fingerprint_not_last")                                                   \
    X(CT_EFP, -7, "bad_fingerprint")                                                            \
    X(CT_EVALUE, -8, "bad_value")     /* an attribute's value breaks the format */              \
    X(CT_ECHANNEL, -9, "bad_channel") /* a channel number outside 0x4000-0x4FFF */              \
    /* encoding, tables, system */                                                              \
    X(CT_ENOSPACE, -10, "no_space") /* the output buffer or a table is full */                  \
    X(CT_EMISSING, -11, "missing")  /* the thing asked for is not there */                      \
    X(CT_EINTEGRITY, -12, "bad_integrity")                                                      \
    X(CT_EEXPIRED, -13, "expired")                                                              \
    X(CT_EINUSE, -14, "eaddrinuse")                                                             \
    X(CT_ESYS, -15, "system_error")    /* the operating system refused; errno says why */       \
    X(CT_ECRYPTO, -16, "crypto_error") /* libcrypto refused an operation */                     \
    X(CT_EARG, -17, "bad_argument")                                                             \
    X(CT_EFORBIDDEN, -18, "forbidden")

enum ct_err {
#define CT_ERR_ENUM(sym, val, name) sym = (val),
    CT_ERRS(CT_ERR_ENUM)
#undef CT_ERR_ENUM
};

/* The error's name in lower case, for atoms and messages; never NULL. */
const char *ct_err_name(enum ct_err err);

#endif
