# The C build: objects, one archive of core + crypto, the NIF, the relay.

NIF_NAME := cromulent_turn_nif.so
RELAY_NAME := turn_relay

UDP_mmsg := $(wildcard c_src/relay/udp_mmsg.c c_src/relay/udp_batch.c)
UDP_uv := $(wildcard c_src/relay/udp_uv.c)
UDP_BACKENDS := $(UDP_mmsg) $(UDP_uv)
objects = $(patsubst c_src/%.c,$(OBJ)/%.o,$(1))
CORE_OBJS := $(call objects,$(sort $(wildcard c_src/core/*.c c_src/crypto/*.c)))
NIF_OBJS := $(call objects,$(sort $(wildcard c_src/nif/*.c)))
RELAY_OBJS := $(call objects,$(filter-out $(UDP_BACKENDS),$(sort $(wildcard c_src/relay/*.c))))
HEADERS := $(wildcard c_src/*/*.h)

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes \
    -Wmissing-prototypes -Wvla -Wcast-align -Wundef
ifneq ($(filter true 1,$(CI) $(WERROR)),)
WARNINGS += -Werror
endif

ifneq ($(SANITIZE),)
HARDENING := -U_FORTIFY_SOURCE
OPT := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
# One runtime, shared: the NIF's is the BEAM's, which has preloaded it.
ifneq ($(findstring clang,$(shell $(CC) --version)),)
SAN_RUNTIME := $(shell $(CC) -print-file-name=libclang_rt.asan-$(shell uname -m).so)
LINK_MODE := -fsanitize=address,undefined -shared-libsan -Wl,-rpath,$(dir $(SAN_RUNTIME))
else
SAN_RUNTIME := $(shell $(CC) -print-file-name=libasan.so)
LINK_MODE := -fsanitize=address,undefined
endif
else
HARDENING := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
LINK_MODE :=
endif

OUR_CPPFLAGS := -Ic_src -DCT_VERSION=\"$(CT_VERSION)\" $(HARDENING)
OUR_CFLAGS := -std=c11 -g $(OPT) -fPIC -fvisibility=hidden -fstack-protector-strong -pthread $(WARNINGS)
compiler = $(CC) $(OUR_CPPFLAGS) $(1) $(CPPFLAGS) $(OUR_CFLAGS) $(CFLAGS)

ifeq ($(OS),Darwin)
OUR_LDFLAGS := $(LINK_MODE) -pthread
NIF_LDFLAGS := -dynamiclib -undefined dynamic_lookup
else
OUR_LDFLAGS := $(LINK_MODE) -pthread -Wl,-z,relro -Wl,-z,now -Wl,-z,noexecstack -Wl,--as-needed
NIF_LDFLAGS := -shared
RELAY_LDFLAGS := -pie
endif

# A room sees the headers it may use, and no others.
CRYPTO_ROOM = $(call as-system,$(CRYPTO_CFLAGS))
NIF_ROOM = -isystem $(ERTS_INCLUDE_DIR)
RELAY_ROOM = -D_GNU_SOURCE $(call as-system,$(UV_CFLAGS) $(SSL_CFLAGS)) -isystem $(ERL_EI_INCLUDE_DIR)
$(OBJ)/crypto/%.o: ROOM_FLAGS = $(CRYPTO_ROOM)
$(OBJ)/nif/%.o: ROOM_FLAGS = $(NIF_ROOM)
$(OBJ)/relay/%.o: ROOM_FLAGS = $(RELAY_ROOM)

##@ Building
.PHONY: build uv info deps FORCE

build: $(PRIV)/$(NIF_NAME) $(PRIV)/$(RELAY_NAME) ## Build the NIF and the relay (the default)

uv: $(OUT)/uv/priv/$(NIF_NAME) $(OUT)/uv/priv/$(RELAY_NAME) ## Build the relay on libuv's own UDP too, for tests

info: build ## Show what the build found and what the results need at run time
	@echo "compiler   $(CC): $$($(CC) --version | head -n 1)"
	@echo "erl_nif    $(ERTS_INCLUDE_DIR)"
	@echo "ei         $(ERL_EI_INCLUDE_DIR) $(EI_LIBS)"
	@echo "libuv      $(UV_CFLAGS) $(UV_LIBS)"
	@echo "libcrypto  $(CRYPTO_CFLAGS) $(CRYPTO_LIBS)"
	@echo "libssl     $(SSL_CFLAGS) $(SSL_LIBS)"
	@echo "UDP        $(UDP)"
	@for f in $(PRIV)/$(NIF_NAME) $(PRIV)/$(RELAY_NAME); do \
	    echo "$$f"; if [ "$(OS)" = Darwin ]; then otool -L $$f; else ldd $$f; fi; done

# Compiler, flags, paths and versions in one file whose time changes when they do.
# What is missing is told here, before anything is compiled.
FINGERPRINT = $(call compiler) | $(CRYPTO_ROOM) | $(NIF_ROOM) | $(RELAY_ROOM) | $(OUR_LDFLAGS) $(LDFLAGS) \
    | $(UV_LIBS) | $(EI_LIBS) | $(SSL_LIBS) | $(CRYPTO_LIBS)
$(OBJ)/flags: FORCE
	$(Q)mkdir -p $(@D)
	$(Q){ echo '$(FINGERPRINT)'; $(CC) --version 2>&1 | head -n 1; } >$@.$$$$ && \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else \
	    CC='$(CC)' PKG_CONFIG='$(PKG_CONFIG)' NIF_FLAGS='$(NIF_ROOM)' \
	    UV_LIBS='$(UV_LIBS)' UV_FLAGS='$(call as-system,$(UV_CFLAGS))' \
	    CRYPTO_LIBS='$(CRYPTO_LIBS)' CRYPTO_FLAGS='$(CRYPTO_ROOM)' \
	    SSL_LIBS='$(SSL_LIBS) $(CRYPTO_LIBS)' SSL_FLAGS='$(call as-system,$(SSL_CFLAGS))' \
	    EI_LIBS='$(EI_LIBS)' EI_FLAGS='-isystem $(ERL_EI_INCLUDE_DIR)' \
	    mk/check-deps && mv -f $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }; fi

# A source file that goes away must leave the archive and the link too; so must the other backend.
$(OBJ)/sources: FORCE
	$(Q)mkdir -p $(@D)
	$(Q)echo '$(CORE_OBJS) $(NIF_OBJS) $(RELAY_OBJS) $(UDP)' >$@.$$$$; \
	if cmp -s $@.$$$$ $@; then rm -f $@.$$$$; else mv -f $@.$$$$ $@; fi

FORCE:

# Results get their names only when they are whole: two makes at once, or an interrupted one,
# leave nothing half-written.
define compile
$(Q)mkdir -p $(@D)
$(if $(V),,@echo "  CC    $<")
$(Q)$(call compiler,$(ROOM_FLAGS)) -MMD -MP -MF $(@:.o=.d).$$$$ -MT $@ -c -o $@.$$$$ $< && \
    mv -f $(@:.o=.d).$$$$ $(@:.o=.d) && mv -f $@.$$$$ $@ || \
    { rm -f $(@:.o=.d).$$$$ $@.$$$$; exit 1; }
endef
define archive
$(if $(V),,@echo "  AR    $@")
$(Q)rm -f $@.$$$$ && $(AR) rcs $@.$$$$ $(filter %.o,$^) && mv -f $@.$$$$ $@
endef
# $(call link,flags,inputs and libraries)
define link
$(Q)mkdir -p $(@D)
$(if $(V),,@echo "  LD    $@")
$(Q)$(CC) $(OUR_CFLAGS) $(CFLAGS) $(1) -o $@.$$$$ $(2) $(OUR_LDFLAGS) $(LDFLAGS) && \
    mv -f $@.$$$$ $@ || { rm -f $@.$$$$; exit 1; }
endef

$(OBJ)/%.o: c_src/%.c $(OBJ)/flags
	$(compile)

$(OBJ)/core.a: $(CORE_OBJS) $(OBJ)/sources
	$(archive)

$(OBJ)/$(NIF_NAME): $(NIF_OBJS) $(OBJ)/core.a
	$(call link,$(NIF_LDFLAGS),$(NIF_OBJS) $(OBJ)/core.a $(CRYPTO_LIBS))

# The same relay over either UDP backend: exactly one is linked.
$(OBJ)/relay/udp_mmsg.a: $(call objects,$(UDP_mmsg)) $(OBJ)/sources
	$(archive)
$(OBJ)/relay/udp_uv.a: $(call objects,$(UDP_uv)) $(OBJ)/sources
	$(archive)

$(OBJ)/$(RELAY_NAME)_%: $(RELAY_OBJS) $(OBJ)/relay/udp_%.a $(OBJ)/core.a
	$(call link,$(RELAY_LDFLAGS),$(RELAY_OBJS) $(OBJ)/relay/udp_$*.a $(OBJ)/core.a \
	    $(UV_LIBS) $(EI_LIBS) $(SSL_LIBS) $(CRYPTO_LIBS))

# priv/ can be shared (mix links each environment's priv to the source tree's), so a time says
# nothing there: compare the contents, always.
install = mkdir -p $(@D) && { cmp -s $< $@ || { cp $< $@.$$$$ && mv -f $@.$$$$ $@; }; }
$(PRIV)/$(NIF_NAME): $(OBJ)/$(NIF_NAME) FORCE
	$(Q)$(install)
$(PRIV)/$(RELAY_NAME): $(OBJ)/$(RELAY_NAME)_$(UDP) FORCE
	$(Q)$(install)
$(OUT)/uv/priv/$(NIF_NAME): $(OBJ)/$(NIF_NAME) FORCE
	$(Q)$(install)
$(OUT)/uv/priv/$(RELAY_NAME): $(OBJ)/$(RELAY_NAME)_uv FORCE
	$(Q)$(install)

.SECONDARY:

-include $(wildcard $(OBJ)/*/*.d $(OBJ)/*/*/*.d $(OBJ)/*/*/*/*.d)
