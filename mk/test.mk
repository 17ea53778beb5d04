# The suites. `make test` runs them in this order and stops at the first that fails.

SUITES ?= c fuzz ex erl js interop browser example uv

# Tests of the core, always under ASan and UBSan. test_*.c are programs; other files in test/c
# are helpers that they share. Tests of the relay's own files link those files too.
TEST_SOURCES := $(sort $(wildcard test/c/*/test_*.c test/c/test_*.c))
TEST_HELPERS := $(filter-out test/c/fuzz/% $(TEST_SOURCES),$(sort $(wildcard test/c/*/*.c test/c/*.c)))
# Those of a backend come with it.
ifneq ($(UDP),mmsg)
TEST_SOURCES := $(filter-out test/c/relay/test_udp_batch.c,$(TEST_SOURCES))
endif
TEST_OBJS = $(patsubst test/c/%.c,$(OBJ)/test/%.o,$(1))
TEST_BINS := $(patsubst test/c/%.c,$(OUT)/test/%,$(TEST_SOURCES))
# What threads share without a lock, once more under TSan, where compiler and system have it.
TSAN_BINS := $(OUT)/tsan/test_ring
TSAN_WORKS = $(shell t=$$(mktemp) && echo 'int main(void) { return 0; }' | \
    $(CC) -fsanitize=thread -x c -o $$t - 2>/dev/null && $$t 2>/dev/null && echo yes; rm -f $$t)
RELAY_TEST_OBJS := $(filter-out $(OBJ)/relay/main.o,$(RELAY_OBJS)) $(call objects,$(UDP_$(UDP)))

$(OBJ)/test/%.o: ROOM_FLAGS = -Itest/c -D_GNU_SOURCE $(CRYPTO_ROOM)
$(OBJ)/test/relay/%.o: ROOM_FLAGS = -Itest/c $(RELAY_ROOM)
$(OBJ)/test/%.o: test/c/%.c $(OBJ)/flags
	$(compile)

$(OBJ)/helpers.a: $(call TEST_OBJS,$(TEST_HELPERS)) $(OBJ)/sources
	$(archive)
$(OBJ)/relay.a: $(RELAY_TEST_OBJS) $(OBJ)/sources
	$(archive)

$(OUT)/test/relay/%: $(OBJ)/test/relay/%.o $(OBJ)/helpers.a $(OBJ)/relay.a $(OBJ)/core.a
	$(call link,$(RELAY_LDFLAGS),$^ $(UV_LIBS) $(EI_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS))
$(OUT)/test/%: $(OBJ)/test/%.o $(OBJ)/helpers.a $(OBJ)/core.a
	$(call link,$(RELAY_LDFLAGS),$^ $(CRYPTO_LIBS))

$(OUT)/tsan/test_%: c_src/relay/%.c test/c/relay/test_%.c test/c/check.c
	$(Q)mkdir -p $(@D)
	$(if $(V),,@echo "  TSAN  $@")
	$(Q)$(CC) -std=c11 -g -O1 -D_GNU_SOURCE -fsanitize=thread -Ic_src -Itest/c \
	    $(call as-system,$(UV_CFLAGS)) -o $@ $^ $(UV_LIBS) -pthread

# mix and rebar3 call make themselves: for the plain build, whatever this make was told.
TEST_ENV := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u SANITIZE -u UDP MIX_ENV=test

# With SANITIZE=1 the library loads the sanitized build instead. The BEAM is still OTP's own: it
# must have the sanitizer's runtime before the NIF comes, so an `erl` that preloads it stands
# first in the path (mk/sanitized-erl). What the sanitizers find goes to files, which fail the
# suite (test/run).
ifneq ($(SANITIZE),)
REPORTS := $(abspath $(OUT))/reports
SAN_ERL := $(abspath $(OUT))/bin/erl
TEST_NEEDS := build $(SAN_ERL)
TEST_ENV += PATH="$(dir $(SAN_ERL)):$$PATH" ESCRIPT_EMULATOR=$(SAN_ERL) \
    CROMULENT_TURN_PRIV=$(abspath $(PRIV)) \
    ASAN_OPTIONS=log_path=$(REPORTS)/report UBSAN_OPTIONS=print_stacktrace=1:log_path=$(REPORTS)/report

$(SAN_ERL): mk/sanitized-erl $(OBJ)/flags
	$(Q)mkdir -p $(@D) $(REPORTS)
	$(Q)sed -e "s|@ERL@|$$(command -v erl)|" -e "s|@REPORTS@|$(REPORTS)|" \
	    -e "s|@RUNTIME@|$(SAN_RUNTIME)|" $< >$@.$$$$ && \
	    chmod +x $@.$$$$ && mv -f $@.$$$$ $@
endif

# What a datagram meets on its way, and what starts and stops it; the rest has no backend.
UV_TESTS := test/build_test.exs $(addprefix test/cromulent/turn/,wire_auth_test.exs \
    wire_allocation_test.exs wire_data_test.exs wire_burst_test.exs wire_stream_test.exs wire_tls_test.exs \
    wire_dtls_test.exs wire_tcp_allocation_test.exs wire_proxy_test.exs wire_pair_test.exs \
    wire_switch_test.exs relay_test.exs control_test.exs control_end_test.exs client_test.exs check_test.exs)
UV_ENV := $(TEST_ENV) CROMULENT_TURN_PRIV=$(abspath $(OUT)/uv/priv) CROMULENT_TURN_TEST_UDP=uv

##@ Testing
.PHONY: setup test-c run-test-c test-fuzz test-ex test-erl test-js test-interop test-browser test-example test-uv test-san \
    sim run-sim test-tsan
## SIM_SEEDS=20000 SIM_FIRST=1  how many seeds the simulator plays, and the first of them

setup: ## Install what is missing of the system packages (Debian; elsewhere say which)
	$(Q)bin/setup

test-c: ## Test the C core, under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory SANITIZE=1 run-test-c

run-test-c: $(TEST_BINS)
	$(Q)test/c/rooms
	$(Q)for h in $(HEADERS); do echo 'int main(void);' | \
	    $(call compiler,$(CRYPTO_ROOM) $(NIF_ROOM) $(RELAY_ROOM)) -fsyntax-only -include $$h -x c - || { echo "$$h does not compile alone"; exit 1; }; done
	$(Q)test/c/run $(OUT)/test $(TEST_BINS)
	$(Q)$(if $(TSAN_WORKS),$(MAKE) --no-print-directory test-tsan, \
	    echo "no TSan here: rings are not tested under it" >&2)

test-tsan: $(TSAN_BINS)
	$(Q)test/c/run $(OUT)/tsan $^

sim: ## Simulate clients, peers and bad weather around the C core, with many seeds
	$(Q)$(MAKE) --no-print-directory SANITIZE=1 run-sim

run-sim: $(OUT)/test/sim/test_sim
	$(Q)SIM_SEEDS=$(or $(SIM_SEEDS),20000) SIM_FIRST=$(or $(SIM_FIRST),1) $<

test-fuzz: fuzz-seeds ## Test the C core with the seeds of the fuzz targets

test-ex: $(TEST_NEEDS) ## Test the Elixir side against the real NIF and relay (ExUnit)
	$(Q)$(TEST_ENV) mix test $(ARGS)

test-erl: $(TEST_NEEDS) ## Test the NIF from Erlang (rebar3 eunit)
	$(Q)$(if $(wildcard test/*_tests.erl),,$(error no tests in test/*_tests.erl))
	$(Q)$(TEST_ENV) rebar3 eunit

test-js: ## Test the browser modules (node --test)
	$(Q)node --test --test-reporter=spec $(or $(wildcard test/js/*.test.*js assets/js/*.test.*js),$(error no tests in test/js))

test-interop: $(TEST_NEEDS) ## Test with clients that others wrote
	$(Q)$(TEST_ENV) test/interop/run

test-browser: $(TEST_NEEDS) ## Test two Chromium peers that meet through the relay only
	$(Q)$(TEST_ENV) test/browser/run

test-example: ## Test the example app; what cannot be had here is skipped, and said
	$(Q)$(TEST_ENV) test/example/run

test-uv: $(TEST_NEEDS) uv ## Test the relay on libuv's own UDP (ExUnit, interoperability)
	$(Q)$(UV_ENV) mix test $(UV_TESTS)
	$(Q)$(UV_ENV) test/interop/run

test-san: ## Run every suite with the sanitized relay and NIF (make test SANITIZE=1)
	$(Q)$(MAKE) --no-print-directory SANITIZE=1 test

##@ Looking after the source
.PHONY: format format-check tidy

C_FILES = $(wildcard c_src/*/*.[ch] test/c/*.[ch] test/c/*/*.[ch] bench/*.[ch])

format: ## Format C and Elixir
	$(Q)mix format
	$(Q)clang-format -i $(C_FILES)

format-check: ## Check the format of C and Elixir
	$(Q)mix format --check-formatted
	$(Q)if command -v clang-format >/dev/null; then clang-format --dry-run -Werror $(C_FILES); \
	else echo "clang-format not found: C is not checked" >&2; fi

tidy: ## Let clang-tidy read the C
	$(Q)clang-tidy --quiet $(filter %.c,$(wildcard c_src/*/*.c)) -- -std=c11 $(OUR_CPPFLAGS) \
	    $(CRYPTO_ROOM) $(NIF_ROOM) $(RELAY_ROOM)
