#include "core/err.h"

const char *ct_err_name(enum ct_err err)
{
    switch (err) {
#define CT_ERR_NAME(sym, val, name) \
    case sym:                       \
        return name;
        CT_ERRS(CT_ERR_NAME)
#undef CT_ERR_NAME
    }
    return "unknown_error";
}
