# Benchmarks: the load generator, the engine alone, and the run that compares (bench/README.md).

BENCH_OUT := $(if $(SANITIZE),$(OUT),_build)/bench
# Two programs share these; the rest is the load generator's.
BENCH_BOTH := bench/message.c bench/proc.c
BENCH_CORE := bench/core.c bench/world.c
BENCH_LOAD := $(filter-out $(BENCH_BOTH) $(BENCH_CORE),$(sort $(wildcard bench/*.c)))
bench-objects = $(patsubst bench/%.c,$(OBJ)/bench/%.o,$(1))

$(OBJ)/bench/%.o: ROOM_FLAGS = -Itest/c $(CRYPTO_ROOM)
$(OBJ)/bench/%.o: bench/%.c $(OBJ)/flags
	$(compile)

$(BENCH_OUT)/turnbench: $(call bench-objects,$(BENCH_LOAD) $(BENCH_BOTH))
	$(call link,,$^ $(CRYPTO_LIBS))
$(BENCH_OUT)/core: $(call bench-objects,$(BENCH_CORE) $(BENCH_BOTH)) $(OBJ)/core.a
	$(call link,,$^ $(CRYPTO_LIBS))

##@ Benchmarks
.PHONY: bench bench-build
## BENCH="--quick"      what bench/run is told; BENCH=--help lists it

bench: ## Compare this relay with its peers, and write the report (35 minutes)
	$(Q)MAKE="$(MAKE)" bench/run $(BENCH)

bench-build: build $(BENCH_OUT)/turnbench $(BENCH_OUT)/core ## Build the load generator and the engine's benchmark

# Part of test-c: both programs under the sanitizers, with what needs no server.
ifeq ($(OS),Linux)
.PHONY: run-test-bench
run-test-c: run-test-bench
run-test-bench: $(BENCH_OUT)/turnbench $(BENCH_OUT)/core
	$(Q)for what in up down pair alloc; do \
	    $(BENCH_OUT)/core -n 1 -o $$what >$(BENCH_OUT)/core.json || exit 1; done
	$(Q)for burst in "" "-b 16" "-b 16 -g -G -j 2"; do \
	    $(BENCH_OUT)/turnbench -m floor -t 1 -n 8 -r 2000 $$burst >$(BENCH_OUT)/floor.json || exit 1; done
	@echo "  bench works"
endif
