# Builds the parts of mbedTLS that ports/p2p_mbedtls.h uses, with ports/mbedtls_config.h.
#
# Include it from the Makefile at the root of the tree after BUILD, CC and CFLAGS are set, and
# depend on $(MBEDTLS_LIB). Other flags, or another cipher, want another BUILD:
#     make BUILD=build/asan CFLAGS='-g -fsanitize=address,undefined' build/asan/libmbedtls_p2p.a
# MBEDTLS_DIR names a source tree of mbedTLS 3.6; by default tools/deps.sh fetches one.
# MBEDTLS_CHACHAPOLY=own keeps mbedTLS's own cipher in place of libsodium's, which is twice as fast
# on a desktop; =openssl takes OpenSSL's (libssl-dev), which is twice as fast again. MBEDTLS_LIBS is
# linked behind the library. CONTENT=1280 builds library and programs for records of that many bytes
# of plaintext instead of the 8192 of a desktop; give it a BUILD of its own. MBEDTLS_CFLAGS are flags
# for mbedTLS alone, by default CFLAGS.

BUILD ?= build
MBEDTLS_DIR ?= build/deps/mbedtls
MBEDTLS_CFLAGS ?= $(CFLAGS)
MBEDTLS_CHACHAPOLY ?= sodium
CONTENT ?=

# What a program needs that includes ports/p2p_mbedtls.h.
MBEDTLS_CPPFLAGS = $(CONTENT:%=-DP2P_MBEDTLS_CONTENT=%) -Iports -I$(MBEDTLS_DIR)/include -I$(MBEDTLS_DIR)/3rdparty/everest/include
MBEDTLS_LIB = $(BUILD)/libmbedtls_p2p.a

mbedtls_units = bignum bignum_core chacha20 chachapoly cipher cipher_wrap constant_time ecdh ecp \
    ecp_curves md platform platform_util poly1305 sha256 ssl_ciphersuites ssl_client ssl_msg \
    ssl_tls ssl_tls12_client ssl_tls12_server
ifeq ($(MBEDTLS_CHACHAPOLY),sodium)
mbedtls_cipher = -DP2P_MBEDTLS_CHACHAPOLY_SODIUM
endif
ifeq ($(MBEDTLS_CHACHAPOLY),openssl)
mbedtls_cipher = -DP2P_MBEDTLS_CHACHAPOLY_OPENSSL
MBEDTLS_LIBS = -lcrypto -pthread
endif
ifneq ($(mbedtls_cipher),)
mbedtls_own_objects = $(BUILD)/mbedtls/own/chachapoly_alt.o \
    $(BUILD)/mbedtls/own/chachapoly_$(MBEDTLS_CHACHAPOLY).o
endif
everest_units = everest x25519 Hacl_Curve25519_joined
everest_dir = $(MBEDTLS_DIR)/3rdparty/everest
mbedtls_objects = $(mbedtls_units:%=$(BUILD)/mbedtls/%.o) \
    $(everest_units:%=$(BUILD)/mbedtls/everest/%.o) $(mbedtls_own_objects)
# Angle brackets: in quotes the compiler would find mbedTLS's own file of that name first.
mbedtls_compile = $(CC) -std=c99 $(MBEDTLS_CFLAGS) -ffunction-sections -fdata-sections \
    $(mbedtls_cipher) -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' $(MBEDTLS_CPPFLAGS) \
    -I$(MBEDTLS_DIR)/library \
    -I$(everest_dir)/include/everest -I$(everest_dir)/include/everest/kremlib
# The source appears in one step, so everything that is compiled from it waits for this file.
mbedtls_stamp = $(MBEDTLS_DIR)/include/mbedtls/build_info.h
mbedtls_needs = $(mbedtls_stamp) ports/mbedtls_config.h tools/mbedtls.mk

$(mbedtls_stamp):
	sh tools/deps.sh mbedtls

$(BUILD)/mbedtls/everest/%.o: $(mbedtls_needs)
	@mkdir -p $(@D)
	$(mbedtls_compile) -c $(everest_dir)/library/$*.c -o $@

$(BUILD)/mbedtls/own/%.o: ports/%.c ports/chachapoly_alt.h $(mbedtls_needs)
	@mkdir -p $(@D)
	$(mbedtls_compile) -c $< -o $@

$(BUILD)/mbedtls/%.o: $(mbedtls_needs)
	@mkdir -p $(@D)
	$(mbedtls_compile) -c $(MBEDTLS_DIR)/library/$*.c -o $@

$(MBEDTLS_LIB): $(mbedtls_objects)
	@rm -f $@
	$(AR) rcs $@ $^
