# Where the compiler finds OTP, libuv and OpenSSL, and what to install when it does not.
#
# Every lookup replaces its own variable with the result when it is first used, so that
# `make help` and `make clean` start no programs.

# OTP: the NIF's headers and ei.
OTP_DIRS = $(eval OTP_DIRS := $$(shell erl -noinput -boot no_dot_erlang -eval $$(OTP_QUERY)))$(OTP_DIRS)
OTP_QUERY = 'Ei = case code:lib_dir(erl_interface) of {error, _} -> "none"; D -> D end, \
    io:format("~ts/erts-~ts/include ~ts/usr/include ~ts", \
              [code:root_dir(), erlang:system_info(version), code:root_dir(), Ei]), halt().' \
    2>/dev/null
OTP_INCLUDE = $(patsubst %/erl_nif.h,%,$(firstword $(wildcard $(addsuffix /erl_nif.h,$(wordlist 1,2,$(OTP_DIRS))))))

ERTS_INCLUDE_DIR ?= $(OTP_INCLUDE)
ERL_EI_INCLUDE_DIR ?= $(word 3,$(OTP_DIRS))/include
ERL_EI_LIBDIR ?= $(word 3,$(OTP_DIRS))/lib

# Homebrew keeps OpenSSL out of pkg-config's way.
ifeq ($(OS),Darwin)
BREW_OPENSSL := $(shell brew --prefix openssl@3 2>/dev/null)
export PKG_CONFIG_PATH := $(PKG_CONFIG_PATH):$(BREW_OPENSSL)/lib/pkgconfig
endif

# Headers of others are system headers: their warnings are not ours.
as-system = $(patsubst -I%,-isystem %,$(1))
# $(call lazy,NAME,command): NAME's value, asked for once. A value that is set wins.
define lazy
ifeq ($$(origin $(1)),undefined)
$(1) = $$(eval $(1) := $$$$(shell $(2) 2>/dev/null))$$($(1))
endif
endef

$(eval $(call lazy,CRYPTO_CFLAGS,$(PKG_CONFIG) --cflags libcrypto))
$(eval $(call lazy,CRYPTO_LIBS,$(PKG_CONFIG) --libs libcrypto))
$(eval $(call lazy,SSL_CFLAGS,$(PKG_CONFIG) --cflags libssl))
$(eval $(call lazy,SSL_LIBS,$(PKG_CONFIG) --libs libssl))
$(eval $(call lazy,UV_CFLAGS,$(PKG_CONFIG) --cflags libuv))
$(eval $(call lazy,UV_LIBDIR,$(PKG_CONFIG) --variable=libdir libuv))
$(eval $(call lazy,UV_SHARED_LIBS,$(PKG_CONFIG) --libs libuv))
$(eval $(call lazy,UV_STATIC_LIBS,$(PKG_CONFIG) --libs --static libuv))

ifneq ($(STATIC),0)
UV_ARCHIVE = $(firstword $(wildcard $(UV_LIBDIR)/libuv_a.a $(UV_LIBDIR)/libuv.a))
EI_ARCHIVE = $(firstword $(wildcard $(ERL_EI_LIBDIR)/libei.a))
endif
UV_LIBS ?= $(if $(UV_ARCHIVE),$(UV_ARCHIVE) $(filter-out -luv -luv_a,$(UV_STATIC_LIBS)),$(UV_SHARED_LIBS))
EI_LIBS ?= $(if $(EI_ARCHIVE),$(EI_ARCHIVE),-L$(ERL_EI_LIBDIR) -lei)
