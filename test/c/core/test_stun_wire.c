#include "check.h"
#include "core/stun_wire.h"
#include "vectors.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* numbers of the registries once more, by hand: X-macros that lie would agree with themselves */
static const struct {
    uint16_t type;
    const char *name;
} registry[] = {
    {0x0001, "mapped_address"},
    {0x0003, "change_request"},
    {0x0006, "username"},
    {0x0008, "message_integrity"},
    {0x0009, "error_code"},
    {0x000A, "unknown_attributes"},
    {0x000C, "channel_number"},
    {0x000D, "lifetime"},
    {0x0012, "xor_peer_address"},
    {0x0013, "data"},
    {0x0014, "realm"},
    {0x0015, "nonce"},
    {0x0016, "xor_relayed_address"},
    {0x0017, "requested_address_family"},
    {0x0018, "even_port"},
    {0x0019, "requested_transport"},
    {0x001A, "dont_fragment"},
    {0x001B, "access_token"},
    {0x001C, "message_integrity_sha256"},
    {0x001D, "password_algorithm"},
    {0x001E, "userhash"},
    {0x0020, "xor_mapped_address"},
    {0x0022, "reservation_token"},
    {0x0024, "priority"},
    {0x0025, "use_candidate"},
    {0x0026, "padding"},
    {0x0027, "response_port"},
    {0x002A, "connection_id"},
    {0x8000, "additional_address_family"},
    {0x8001, "address_error_code"},
    {0x8002, "password_algorithms"},
    {0x8003, "alternate_domain"},
    {0x8004, "icmp"},
    {0x8022, "software"},
    {0x8023, "alternate_server"},
    {0x8025, "transaction_transmit_counter"},
    {0x8027, "cache_timeout"},
    {0x8028, "fingerprint"},
    {0x8029, "ice_controlled"},
    {0x802A, "ice_controlling"},
    {0x802B, "response_origin"},
    {0x802C, "other_address"},
    {0x802D, "ecn_check"},
    {0x802E, "third_party_authorization"},
    {0x802F, "origin"},
    {0x8030, "mobility_ticket"},
    {0x8032, "additional_family_draft"},
    {0xC057, "goog_network_info"},
};

static void test_types(void)
{
    static const enum stun_class classes[] = {STUN_REQUEST, STUN_INDICATION, STUN_SUCCESS,
                                              STUN_ERROR};
    struct vectors v = vectors_open("types.txt");
    struct vector_line line;
    unsigned seen = 0;
    while (vectors_line(&v, &line)) {
        uint16_t method = (uint16_t)vector_number(line.word[1]);
        for (size_t i = 0; i < COUNT(classes); i++) {
            uint16_t type = (uint16_t)vector_number(line.word[2 + i]);
            CHECK_EQ(stun_type(method, classes[i]), type);
            CHECK_EQ(stun_type_method(type), method);
            CHECK_EQ(stun_type_class(type), classes[i]);
        }
        if (strcmp(line.word[6], "-") != 0)
            CHECK_STR(stun_method_name(method), line.word[6]);
        seen++;
    }
    CHECK_EQ(seen, 13);
    vectors_close(&v);
}

static void test_every_type_is_one_method_and_class(void)
{
    for (unsigned type = 0; type <= 0x3FFF; type++) {
        uint16_t method = stun_type_method((uint16_t)type);
        CHECK(method <= 0xFFF);
        CHECK_EQ(stun_type(method, stun_type_class((uint16_t)type)), type);
    }
}

static void test_methods_have_names(void)
{
    CHECK_STR(stun_method_name(STUN_GOOG_PING), "goog_ping");
    CHECK(stun_method_name(0x000) == NULL);
    CHECK(stun_method_name(0x002) == NULL);
    CHECK(stun_method_name(0x005) == NULL);
    CHECK(stun_method_name(0xFFF) == NULL);
}

static void test_the_registry_is_the_table(void)
{
    CHECK_EQ(STUN_ID_COUNT, COUNT(registry));
    for (size_t i = 0; i < COUNT(registry); i++) {
        enum stun_attr_id id = stun_attr_id(registry[i].type);
        CHECK(id < STUN_ID_COUNT);
        if (id >= STUN_ID_COUNT)
            continue;
        CHECK_EQ(stun_attr_def(id)->type, registry[i].type);
        CHECK_STR(stun_attr_def(id)->name, registry[i].name);
    }
}

static void test_all_other_types_are_unknown(void)
{
    unsigned known = 0;
    for (unsigned type = 0; type <= 0xFFFF; type++) {
        enum stun_attr_id id = stun_attr_id((uint16_t)type);
        if (id == STUN_ID_UNKNOWN)
            continue;
        CHECK_EQ(stun_attr_def(id)->type, type);
        known++;
    }
    CHECK_EQ(known, STUN_ID_COUNT);
}

static void test_comprehension_required(void)
{
    CHECK(stun_attr_required(0x0000));
    CHECK(stun_attr_required(0x7FFF));
    CHECK(!stun_attr_required(0x8000));
    CHECK(!stun_attr_required(0xFFFF));
}

static void test_padding(void)
{
    CHECK_EQ(stun_padded(0), 0);
    CHECK_EQ(stun_padded(1), 4);
    CHECK_EQ(stun_padded(3), 4);
    CHECK_EQ(stun_padded(4), 4);
    CHECK_EQ(stun_padded(5), 8);
    CHECK_EQ(stun_padded(65535), 65536);
}

/* Every length of every attribute against what the RFCs say, written down a second time. */
static bool length_by_rfc(uint16_t type, size_t n)
{
    switch (type) {
    case 0x0001: /* addresses */
    case 0x0012:
    case 0x0016:
    case 0x0020:
    case 0x8023:
    case 0x802B:
    case 0x802C:
        return n == 8 || n == 20;
    case 0x0018: /* EVEN-PORT */
        return n == 1;
    case 0x001A: /* flags */
    case 0x0025:
        return n == 0;
    case 0x0008:
        return n == 20;
    case 0x001C:
        return n >= 16 && n <= 32 && n % 4 == 0;
    case 0x001E:
        return n == 32;
    case 0x0022: /* tokens, tie-breakers, ICMP */
    case 0x8029:
    case 0x802A:
    case 0x8004:
        return n == 8;
    case 0x0006: /* texts */
    case 0x0014:
    case 0x0015:
    case 0x8022:
        return n <= 763;
    case 0x8003:
        return n <= 255;
    case 0x0009:
    case 0x8001:
        return n >= 4 && n <= 767;
    case 0x000A:
        return n % 2 == 0;
    case 0x0027:
        return n == 2 || n == 4;
    case 0x001D:
        return n >= 4;
    case 0x0013: /* anything */
    case 0x001B:
    case 0x0026:
    case 0x8002:
    case 0x802E:
    case 0x802F:
    case 0x8030:
        return true;
    default:
        return n == 4;
    }
}

static void test_lengths(void)
{
    for (size_t i = 0; i < COUNT(registry); i++)
        for (size_t n = 0; n <= 65535; n += n < 1000 ? 1 : 997) {
            bool ok = stun_attr_length_ok(stun_attr_id(registry[i].type), n);
            if (ok != length_by_rfc(registry[i].type, n)) {
                check_failed(__FILE__, __LINE__, "not the length of the RFC");
                printf("#   %s of %zu bytes\n", registry[i].name, n);
            }
        }
}

static void test_reasons(void)
{
    CHECK_STR(stun_error_reason(400), "Bad Request");
    CHECK_STR(stun_error_reason(401), "Unauthenticated");
    CHECK_STR(stun_error_reason(438), "Stale Nonce");
    CHECK_STR(stun_error_reason(486), "Allocation Quota Reached"); /* RFC 8656 §19, not §5 */
    CHECK_STR(stun_error_reason(508), "Insufficient Capacity");
    CHECK_STR(stun_error_reason(0), "Error");
    CHECK_STR(stun_error_reason(499), "Error");
#define REASON(sym, code, reason) CHECK_STR(stun_error_reason(sym), reason);
    STUN_ERRORS(REASON)
#undef REASON
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_types),
        CHECK_TEST(test_every_type_is_one_method_and_class),
        CHECK_TEST(test_methods_have_names),
        CHECK_TEST(test_the_registry_is_the_table),
        CHECK_TEST(test_all_other_types_are_unknown),
        CHECK_TEST(test_comprehension_required),
        CHECK_TEST(test_padding),
        CHECK_TEST(test_lengths),
        CHECK_TEST(test_reasons),
    };
    return CHECK_RUN(tests);
}
