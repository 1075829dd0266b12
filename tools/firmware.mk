# Builds the speaker of examples/speaker for a microcontroller; Makefile calls it as
#     make -f tools/firmware.mk VARIANT=m4
# VARIANT is a key of the table below: which processor and which flags. Objects and image lie in
# build/firmware/VARIANT. SODIUM_DIR, LWIP_DIR and MBEDTLS_DIR name other source trees.

VARIANT ?= m4
LWIP_DIR ?= build/deps/lwip
SODIUM_DIR ?= build/deps/libsodium
MBEDTLS_DIR ?= build/deps/mbedtls
ARM = arm-none-eabi-
out = build/firmware/$(VARIANT)
app = examples/speaker

#            prefix of the compiler, processor, other flags
prefix_m4    = $(ARM)
cpu_m4       = -mcpu=cortex-m4 -mthumb
prefix_m3    = $(ARM)
cpu_m3       = -mcpu=cortex-m3 -mthumb

CC      = $(prefix_$(VARIANT))gcc
SIZE    = $(prefix_$(VARIANT))size
flags   = $(cpu_$(VARIANT)) -Os -g -std=c99 -ffunction-sections -fdata-sections -MMD -MP
strict  = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
# What the speaker does without. Every file has to see the same.
leave_out = -DP2P_NO_WORDS -DP2P_NO_MESSAGES -DP2P_NO_DISCOVERY -DP2P_NO_CHECK -DP2P_NO_BBR \
    -DP2P_NO_CUBIC -DP2P_NO_RECONNECT -DP2P_ADMIT_PER_S=2
# lwIP's memory: 5 frames in, and for those out 3 KB.
lwip_memory = -DPBUF_POOL_SIZE=5 -DMEM_SIZE=3072 -DMEMP_NUM_PBUF=2 -DARP_TABLE_SIZE=4
include_mbedtls = -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' -isystem $(MBEDTLS_DIR)/include \
    -isystem $(MBEDTLS_DIR)/3rdparty/everest/include
include_lwip   = -isystem $(LWIP_DIR)/src/include -Iports -DLWIP_NOASSERT $(lwip_memory)
include_sodium = -isystem build/firmware/include -isystem $(SODIUM_DIR)/src/libsodium/include

# ---- what is compiled ----------------------------------------------------------------------------

own = startup semihost clock lan9118 network bare sound main p2p
lwip = core/def core/inet_chksum core/init core/ip core/mem core/memp core/netif core/pbuf core/timeouts \
    core/udp core/dns core/ipv4/dhcp core/ipv4/etharp core/ipv4/icmp core/ipv4/ip4 core/ipv4/ip4_addr \
    netif/ethernet core/stats
mbedtls = bignum bignum_core chacha20 chachapoly cipher cipher_wrap constant_time ecdh ecp ecp_curves md \
    platform platform_util poly1305 sha256 ssl_ciphersuites ssl_client ssl_msg ssl_tls \
    ssl_tls12_client ssl_tls12_server
everest = everest x25519 Hacl_Curve25519_joined
sodium = crypto_sign/ed25519/ref10/keypair crypto_sign/ed25519/ref10/open crypto_sign/ed25519/ref10/sign \
    crypto_sign/ed25519/sign_ed25519 crypto_core/ed25519/ref10/ed25519_ref10 \
    crypto_core/ed25519/core_ed25519 crypto_hash/sha512/cp/hash_sha512_cp \
    crypto_hash/sha256/cp/hash_sha256_cp crypto_verify/sodium/verify sodium/utils

objects = $(own:%=$(out)/own/%.o) $(lwip:%=$(out)/lwip/%.o) $(mbedtls:%=$(out)/mbedtls/%.o) \
    $(everest:%=$(out)/everest/%.o) $(sodium:%=$(out)/sodium/%.o)

$(out)/speaker.elf: $(objects) $(app)/speaker.ld
	$(CC) $(cpu_$(VARIANT)) -nostartfiles --specs=nano.specs -Wl,--gc-sections -T $(app)/speaker.ld \
	    $(link_$(VARIANT)) -Wl,-Map=$@.map -o $@ $(objects)
	$(SIZE) $@

# What libsodium's configure would make.
sodium_version = build/firmware/include/sodium/version.h
$(sodium_version): $(SODIUM_DIR)/src/libsodium/include/sodium/version.h.in
	@mkdir -p $(@D)
	sed -e 's/@VERSION@/from source/' -e 's/@SODIUM_LIBRARY_VERSION_M[A-Z]*@/0/' \
	    -e 's/@SODIUM_LIBRARY_MINIMAL_DEF@//' -e 's|"export.h"|<sodium/export.h>|' $< >$@

$(out)/own/%.o: $(app)/%.c $(sodium_version) tools/firmware.mk
	@mkdir -p $(@D)
	$(CC) $(flags) $(strict) -I. -Iports -Iexamples $(leave_out) $(include_mbedtls) \
	    $(include_lwip) $(include_sodium) -c $< -o $@

$(out)/lwip/%.o: $(LWIP_DIR)/src/%.c tools/firmware.mk
	@mkdir -p $(@D)
	$(CC) $(flags) $(include_lwip) -c $< -o $@

everest_dir = $(MBEDTLS_DIR)/3rdparty/everest
$(out)/mbedtls/%.o: $(MBEDTLS_DIR)/library/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) -Iports $(include_mbedtls) -I$(MBEDTLS_DIR)/library -c $< -o $@

$(out)/everest/%.o: $(everest_dir)/library/%.c
	@mkdir -p $(@D)
	$(CC) $(flags) -Iports $(include_mbedtls) -I$(MBEDTLS_DIR)/library -I$(everest_dir)/include/everest \
	    -I$(everest_dir)/include/everest/kremlib -c $< -o $@

$(out)/sodium/%.o: $(SODIUM_DIR)/src/libsodium/%.c $(sodium_version)
	@mkdir -p $(@D)
	$(CC) $(flags) -DCONFIGURED=1 -DNATIVE_LITTLE_ENDIAN $(include_sodium) \
	    -I$(SODIUM_DIR)/src/libsodium/include/sodium -Ibuild/firmware/include/sodium -c $< -o $@

-include $(objects:.o=.d)
