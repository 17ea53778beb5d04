#include "check.h"
#include "relay/event.h"

static const struct turn_tuple tuple = {
    .client = {.ip = {192, 0, 2, 1}, .port = 1000, .family = ADDR_V4},
    .server = {.ip = {192, 0, 2, 2}, .port = 3478, .family = ADDR_V4},
    .transport = TURN_UDP,
};

static struct turn_alloc_info sample(void)
{
    return (struct turn_alloc_info){
        .id = 42,
        .username = span_str("99:me"),
        .tuple = &tuple,
        .relayed = {.ip = {0x20, 1, 0x0d, 0xb8, [15] = 1}, .port = 50000, .family = ADDR_V6},
        .age_ms = 1,
        .expires_in_ms = 2,
        .up_packets = 3,
        .up_bytes = 4,
        .down_packets = 5,
        .down_bytes = UINT64_MAX,
        .permissions = 7,
        .channels = 8,
        .tcp_peers = 9,
    };
}

/* One value of a map, as text: binaries and atoms as they are. */
static bool find(const struct term_out *out, const char *name, char value[TERM_SHOW_MAX])
{
    struct term_in in;
    char key[TERM_ATOM_MAX], event[TERM_ATOM_MAX];
    struct span text;

    if (!term_in_init(&in, (const uint8_t *)out->x.buff, (size_t)out->x.index) ||
        term_tuple(&in) != 3 || !term_atom(&in, event) || !term_atom(&in, event))
        return false;
    int n = term_map(&in);
    for (int i = 0; i < n; i++) {
        if (!term_atom(&in, key))
            return false;
        if (strcmp(key, name) == 0) {
            if (term_binary(&in, &text))
                snprintf(value, TERM_SHOW_MAX, "%.*s", (int)text.len, (const char *)text.data);
            else
                term_show(&in, value);
            return true;
        }
        term_skip(&in);
    }
    return false;
}

static void check_entry(const struct term_out *out, const char *name, const char *want)
{
    char value[TERM_SHOW_MAX] = "(missing)";

    CHECK(find(out, name, value));
    CHECK_STR(value, want);
}

static int entries(const struct term_out *out, const char *want)
{
    struct term_in in;
    char name[TERM_ATOM_MAX] = "";

    if (!term_in_init(&in, (const uint8_t *)out->x.buff, (size_t)out->x.index) ||
        term_tuple(&in) != 3 || !term_atom(&in, name))
        return -1;
    CHECK_STR(name, "event");
    CHECK(term_atom(&in, name));
    CHECK_STR(name, want);
    return term_map(&in);
}

static void put(struct term_out *out, const struct turn_event *event)
{
    term_out_init(out);
    ei_x_encode_version(&out->x);
    event_put(out, event, 3);
    CHECK(!out->failed);
}

static void test_allocations(void)
{
    static const struct {
        const char *key, *value;
    } want[] = {
        {"id", "3-42"},        {"username", "99:me"},
        {"worker", "3"},       {"client", "192.0.2.1:1000"},
        {"age_ms", "1"},       {"server", "192.0.2.2:3478"},
        {"transport", "udp"},  {"relayed", "[2001:db8::1]:50000"},
        {"up_packets", "3"},   {"expires_in_ms", "2"},
        {"up_bytes", "4"},     {"down_bytes", "18446744073709551615"},
        {"down_packets", "5"}, {"permissions", "7"},
        {"channels", "8"},     {"protocol", "udp"},
        {"tcp_peers", "9"},
    };
    struct turn_alloc_info info = sample();
    struct turn_event event = {.kind = TURN_EV_ALLOCATION_CREATED, .alloc = &info, .tuple = &tuple};
    struct term_out out;

    put(&out, &event);
    CHECK_EQ(entries(&out, "allocation_created"), 17);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        check_entry(&out, want[i].key, want[i].value);
    term_out_free(&out);
}

/* A dual allocation shows its other address, and only then. */
static void test_dual(void)
{
    struct turn_alloc_info info = sample();
    struct turn_event event = {.kind = TURN_EV_ALLOCATION_CREATED, .alloc = &info, .tuple = &tuple};
    struct term_out out;

    info.also = addr_v4((const uint8_t[]){192, 0, 2, 9}, 50001);
    put(&out, &event);
    CHECK_EQ(entries(&out, "allocation_created"), 18);
    check_entry(&out, "also_relayed", "192.0.2.9:50001");
    term_out_free(&out);
}

static void test_ends(void)
{
    static const char *const names[] = {"released", "expired", "killed",
                                        "shutdown", "closed",  "withdrawn"};
    struct turn_alloc_info info = sample();

    for (int end = TURN_END_RELEASED; end <= TURN_END_WITHDRAWN; end++) {
        struct turn_event event = {.kind = TURN_EV_ALLOCATION_ENDED,
                                   .end = (enum turn_end)end,
                                   .alloc = &info,
                                   .tuple = &tuple};
        struct term_out out;
        put(&out, &event);
        CHECK_EQ(entries(&out, "allocation_ended"), 18);
        check_entry(&out, "reason", names[end]);
        check_entry(&out, "id", "3-42");
        term_out_free(&out);
    }
}

/* TURN-SEC-04: who reaches whom, and from where. */
static void test_permissions(void)
{
    struct turn_alloc_info info = sample();
    struct addr peer = {.ip = {10, 1, 2, 3}, .family = ADDR_V4};
    struct turn_event event = {.kind = TURN_EV_PERMISSION_CREATED,
                               .alloc = &info,
                               .tuple = &tuple,
                               .username = info.username,
                               .peer = &peer};
    struct term_out out;

    put(&out, &event);
    CHECK_EQ(entries(&out, "permission_created"), 5);
    check_entry(&out, "id", "3-42");
    check_entry(&out, "peer", "10.1.2.3");
    term_out_free(&out);
}

static void test_forbidden_peers(void)
{
    struct addr peer = {.ip = {10, 1, 2, 3}, .port = 9, .family = ADDR_V4};
    struct turn_rule v4 = {.prefix = {.ip = {10}, .family = ADDR_V4, .bits = 8}};
    struct turn_rule v6 = {.prefix = {.ip = {0xfc}, .family = ADDR_V6, .bits = 7}};
    const struct {
        const struct turn_rule *rule;
        const char *want;
    } rules[] = {{&v4, "10.0.0.0/8"},
                 {&v6, "fc00::/7"},
                 {NULL, "own_address"},
                 {NULL, "switch_mode"},
                 {NULL, "admission"}};

    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        struct turn_event event = {.kind = TURN_EV_PEER_FORBIDDEN,
                                   .tuple = &tuple,
                                   .username = span_str("u"),
                                   .peer = &peer,
                                   .rule = rules[i].rule,
                                   .reason = rules[i].rule ? NULL : rules[i].want};
        struct term_out out;
        put(&out, &event);
        CHECK_EQ(entries(&out, "peer_forbidden"), 4);
        check_entry(&out, "rule", rules[i].want);
        check_entry(&out, "peer", "10.1.2.3:9");
        check_entry(&out, "client", "192.0.2.1:1000");
        check_entry(&out, "username", "u");
        term_out_free(&out);
    }
}

static void test_failed_credentials(void)
{
    struct turn_event event = {.kind = TURN_EV_AUTH_FAILED,
                               .tuple = &tuple,
                               .username = span_str("u"),
                               .reason = "bad_password"};
    struct term_out out;

    put(&out, &event);
    CHECK_EQ(entries(&out, "auth_failed"), 3);
    check_entry(&out, "reason", "bad_password");
    term_out_free(&out);
}

static void test_admission_refused(void)
{
    struct turn_event event = {
        .kind = TURN_EV_ADMISSION_REFUSED, .tuple = &tuple, .username = span_str("u")};
    struct term_out out;

    put(&out, &event);
    CHECK_EQ(entries(&out, "admission_refused"), 2);
    check_entry(&out, "username", "u");
    check_entry(&out, "client", "192.0.2.1:1000");
    term_out_free(&out);
}

static void test_log(void)
{
    struct term_out out;

    term_out_init(&out);
    ei_x_encode_version(&out.x);
    event_put_log(&out, "warning", "so it is");
    CHECK_EQ(entries(&out, "log"), 2);
    check_entry(&out, "level", "warning");
    check_entry(&out, "message", "so it is");
    term_out_free(&out);
}

static void test_ids(void)
{
    static const char *const wrong[] = {"",
                                        "-",
                                        "1",
                                        "1-",
                                        "-1",
                                        "1-2-",
                                        "a-1",
                                        "1-0x2",
                                        "1 -2",
                                        "65536-1",
                                        "1-99999999999999999999",
                                        "99999999999999999999-1"};
    unsigned worker = 0;
    uint64_t id = 0;

    CHECK(event_parse_id(span_str("17-9999999999999999999"), &worker, &id));
    CHECK_EQ(worker, 17);
    CHECK(id == UINT64_C(9999999999999999999));
    CHECK(event_parse_id(span_str("0-0"), &worker, &id));
    CHECK_EQ(worker, 0);
    CHECK_EQ(id, 0);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(!event_parse_id(span_str(wrong[i]), &worker, &id));
}

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_allocations),
        CHECK_TEST(test_dual),
        CHECK_TEST(test_ends),
        CHECK_TEST(test_permissions),
        CHECK_TEST(test_forbidden_peers),
        CHECK_TEST(test_failed_credentials),
        CHECK_TEST(test_admission_refused),
        CHECK_TEST(test_log),
        CHECK_TEST(test_ids),
    };
    return CHECK_RUN(tests);
}
