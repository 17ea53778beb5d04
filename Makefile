# Builds the two native parts of cromulent_turn and runs everything that checks them:
#
#   $(PRIV)/cromulent_turn_nif.so   the NIF:   c_src/nif   + core + crypto
#   $(PRIV)/turn_relay              the relay: c_src/relay + core + crypto
#
# mix and rebar3 call `make build`; people call `make help`. GNU make 3.81 is enough.

# Settings, read from the environment or the command line. `make help` prints these lines.
##
## MIX_APP_PATH=        build into $(MIX_APP_PATH)/{obj,priv} (mix sets it) instead of _build/c and priv
## SANITIZE=            1: build with ASan and UBSan, in directories of its own
## UDP=mmsg|uv          the relay's UDP backend; mmsg (recvmmsg, sendmmsg) is Linux only and its default
## WERROR=              1: compiler warnings are errors; CI=true does the same
## STATIC=1             0: link libuv and libei dynamically even where static libraries exist
## V=                   1: show the commands
## CC= CPPFLAGS= CFLAGS= LDFLAGS= OPT=-O2   the compiler, and flags that come after our own
## PKG_CONFIG=pkg-config                    finds libuv and libcrypto
## UV_CFLAGS= UV_LIBS= CRYPTO_CFLAGS= CRYPTO_LIBS= SSL_CFLAGS= SSL_LIBS=   where it finds nothing
## ERTS_INCLUDE_DIR= ERL_EI_INCLUDE_DIR= ERL_EI_LIBDIR=      found by asking erl; mix sets them
##

STATIC ?= 1
OPT ?= -O2
PKG_CONFIG ?= pkg-config
Q := $(if $(V),,@)
OS := $(shell uname -s)
CT_VERSION := $(shell cat VERSION)

ifeq ($(OS),Linux)
UDP ?= mmsg
else
UDP ?= uv
endif
ifeq ($(filter mmsg uv,$(UDP)),)
$(error UDP=$(UDP): must be mmsg or uv)
endif

# One output tree per kind of build: objects of two kinds never meet.
ifneq ($(MIX_APP_PATH),)
OUT := $(MIX_APP_PATH)$(if $(SANITIZE),/san)
PRIV := $(OUT)/priv
else
OUT := _build/c$(if $(SANITIZE),/san)
PRIV := $(if $(SANITIZE),$(OUT)/priv,priv)
endif
OBJ := $(OUT)/obj

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

include mk/paths.mk
include mk/native.mk
include mk/test.mk
include mk/fuzz.mk
include mk/bench.mk

##@ Everything
.PHONY: demo test clean distclean help

demo: setup ## Set up, build, start the relay and the check page, and print its URL
	mix turn.demo

test: setup ## Set up, build and run every suite (SANITIZE=1: with the sanitized relay and NIF)
	$(Q)MAKE="$(MAKE)" test/run $(SUITES)

clean: ## Remove what the build made (C only; with MIX_APP_PATH, of that build)
	$(Q)rm -rf $(OBJ) $(OUT)/bin $(OUT)/test $(OUT)/uv $(if $(MIX_APP_PATH)$(SANITIZE),,_build/c)
	$(Q)rm -f $(PRIV)/$(NIF_NAME) $(PRIV)/$(RELAY_NAME)

distclean: clean ## Remove every build, Elixir's and Erlang's included
	$(Q)rm -rf _build

help: ## List targets and variables
	@awk -f mk/help.awk $(MAKEFILE_LIST)
