# Fuzzing: libFuzzer (clang) feeds the core, and the relay's control channel, with anything, under
# ASan and UBSan.
#
# Seeds are in test/c/fuzz/corpus/TARGET; what a run finds beyond them stays in the build tree, and
# so does an input that crashes, which becomes a seed when the bug is gone.

FUZZ_CC ?= clang
FUZZ_TIME ?= 60
FUZZ := $(OUT)/fuzz
FUZZ_TARGETS := $(patsubst test/c/fuzz/%.c,%,$(sort $(wildcard test/c/fuzz/fuzz_*.c)))
FUZZ_HELPERS := $(filter-out test/c/fuzz/fuzz_%,$(sort $(wildcard test/c/fuzz/*.c)))
FUZZ_SHARED := $(patsubst c_src/%.c,$(FUZZ)/obj/%.o,$(sort $(wildcard c_src/core/*.c c_src/crypto/*.c))) \
    $(patsubst test/c/%.c,$(FUZZ)/obj/test/%.o,$(FUZZ_HELPERS))

# Only the control channel's target takes the relay in, and stands in for its workers.
FUZZ_RELAY := $(patsubst c_src/%.c,$(FUZZ)/obj/%.o,$(filter-out c_src/relay/main.c c_src/relay/worker.c $(UDP_BACKENDS), \
    $(sort $(wildcard c_src/relay/*.c))) $(UDP_$(UDP)))

FUZZ_FLAGS := -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
fuzz-compile = $(FUZZ_CC) -std=c11 -Ic_src -Itest/c -D_GNU_SOURCE -DCT_VERSION=\"$(CT_VERSION)\" \
    $(CRYPTO_ROOM) $(ROOM_FLAGS) $(WARNINGS) $(FUZZ_FLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

$(FUZZ)/obj/%.o: c_src/%.c mk/fuzz.mk
	$(Q)mkdir -p $(@D)
	$(Q)$(fuzz-compile)
$(FUZZ)/obj/test/%.o: test/c/%.c mk/fuzz.mk
	$(Q)mkdir -p $(@D)
	$(Q)$(fuzz-compile)
$(FUZZ)/obj/relay/%.o $(FUZZ)/obj/test/fuzz/fuzz_control.o: ROOM_FLAGS = $(RELAY_ROOM)
$(FUZZ)/fuzz_control: FUZZ_LIBS = $(UV_LIBS) $(EI_LIBS) $(SSL_LIBS)
$(FUZZ)/fuzz_control: $(FUZZ_RELAY)
$(FUZZ)/fuzz_%: $(FUZZ)/obj/test/fuzz/fuzz_%.o $(FUZZ_SHARED)
	$(if $(V),,@echo "  LD    $@")
	$(Q)$(FUZZ_CC) $(FUZZ_FLAGS) -fsanitize=fuzzer -pthread -o $@ $^ $(FUZZ_LIBS) $(CRYPTO_LIBS)

##@ Fuzzing
.PHONY: fuzz fuzz-seeds fuzz-clang
## FUZZ_TIME=60 FUZZ_TARGETS=   seconds for each fuzz target, and which
## FUZZ_CC=clang                a clang with libFuzzer

fuzz-clang:
	@command -v $(FUZZ_CC) >/dev/null || { echo "$(FUZZ_CC) not found: fuzzing needs clang (apt-get install clang)" >&2; exit 1; }

fuzz: fuzz-clang $(addprefix $(FUZZ)/,$(FUZZ_TARGETS)) ## Run each fuzz target for FUZZ_TIME seconds
	$(Q)for target in $(FUZZ_TARGETS); do \
	    echo "$$target"; \
	    mkdir -p $(FUZZ)/corpus/$$target && \
	    $(FUZZ)/$$target -max_total_time=$(FUZZ_TIME) -max_len=4096 -timeout=10 -print_final_stats=1 \
	        -artifact_prefix=$(FUZZ)/$$target- $(FUZZ)/corpus/$$target test/c/fuzz/corpus/$$target \
	        >$(FUZZ)/$$target.log 2>&1 || { tail -n 60 $(FUZZ)/$$target.log; exit 1; }; \
	    grep -E '^stat::(number_of_executed_units|new_units_added|peak_rss)' $(FUZZ)/$$target.log; \
	done

fuzz-seeds: fuzz-clang $(addprefix $(FUZZ)/,$(FUZZ_TARGETS)) ## Run the fuzz targets on their seeds only
	$(Q)for target in $(FUZZ_TARGETS); do \
	    $(FUZZ)/$$target -runs=0 test/c/fuzz/corpus/$$target >$(FUZZ)/$$target.log 2>&1 || \
	        { cat $(FUZZ)/$$target.log; exit 1; }; \
	    echo "ok   $$target ($$(ls test/c/fuzz/corpus/$$target | wc -l) seeds)"; \
	done

-include $(wildcard $(FUZZ)/obj/*/*.d $(FUZZ)/obj/*/*/*.d)
