# Builds the speaker of examples/speaker/ for microcontrollers. The Makefile calls it as
#     make -f tools/firmware.mk VARIANT=m4 firmware
# VARIANT is one of these; all it makes lies in build/firmware/VARIANT:
#     m4      Cortex-M4, the one with budgets: speaker.elf, and for the tests streamer.elf and
#             measure.elf; speaker-without-ed25519.elf only shows what a table of four functions by
#             something smaller would leave
#     m3      Cortex-M3: speaker.elf
#     checked Cortex-M4 with KASAN, UBSan (a trap) and lwIP's assertions: speaker.elf
#     riscv   RV32IMAC: what is no board's own, compiled and not linked
# MBEDTLS_DIR, LWIP_DIR and LIBSODIUM_DIR name other source trees than those of tools/deps.sh.

VARIANT       ?= m4
MBEDTLS_DIR   ?= build/deps/mbedtls
LWIP_DIR      ?= build/deps/lwip
LIBSODIUM_DIR ?= build/deps/libsodium
out = build/firmware/$(VARIANT)
app = examples/speaker
sodium_dir = $(LIBSODIUM_DIR)/src/libsodium
everest_dir = $(MBEDTLS_DIR)/3rdparty/everest

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: firmware

# ---- the variants -------------------------------------------------------------------------------

prefix = arm-none-eabi-
specs  = --specs=nano.specs
images = $(out)/speaker.elf

ifeq ($(VARIANT),m4)
cpu = -mcpu=cortex-m4 -mthumb
images += $(out)/speaker-without-ed25519.elf $(out)/streamer.elf $(out)/measure.elf
endif
ifeq ($(VARIANT),m3)
cpu = -mcpu=cortex-m3 -mthumb
endif
ifeq ($(VARIANT),checked)
cpu = -mcpu=cortex-m4 -mthumb
# The shadow of RAM at 0x20000000 lies at 0x20200000: 0x20200000 - 0x20000000 / 8.
kasan = -fsanitize=kernel-address -fasan-shadow-offset=0x1c200000 \
    --param asan-instrumentation-with-call-threshold=0 --param asan-stack=1 --param asan-globals=1
checks = $(kasan) -fsanitize=undefined -fno-sanitize=alignment -fsanitize-undefined-trap-on-error \
    -DP2P_DEBUG
lwip_assert =
link = -Wl,--defsym=FLASH_SIZE=2M,--defsym=RAM_SIZE=1M,--defsym=STACK_SIZE=64K \
    -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset,--wrap=pbuf_alloc
own_checked = kasan overflow shortage
endif
ifeq ($(VARIANT),riscv)
prefix = riscv64-unknown-elf-
cpu = -march=rv32imac -mabi=ilp32
specs = --specs=picolibc.specs
images = $(out)/speaker.o
endif

CC     = $(prefix)gcc
flags  = $(cpu) $(specs) -std=c99 -Os -g -ffunction-sections -fdata-sections -MMD -MP $(checks)
strict = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror

# ---- what is left out, and how much memory there is ---------------------------------------------

# Every file has to see the same of these.
leave_out = -DP2P_NO_WORDS -DP2P_NO_MESSAGES -DP2P_NO_DISCOVERY -DP2P_NO_CHECK -DP2P_NO_BBR \
    -DP2P_NO_CUBIC -DP2P_NO_RECONNECT -DP2P_ADMIT_PER_S=2
# The one secure channel and the one Ed25519 there are, named for the compiler; measure.elf puts
# counting tables in their place, so what it runs looks them up.
tables = -DP2P_STATIC_SECURE=p2p_mbedtls_api -DP2P_STATIC_CRYPTO=p2p_sodium_api
# lwIP: frames that come in lie in 5 buffers, those that go out in 3 KB.
lwip_memory = -DPBUF_POOL_SIZE=5 -DMEM_SIZE=3072 -DMEMP_NUM_PBUF=2 -DARP_TABLE_SIZE=4
lwip_assert ?= -DLWIP_NOASSERT

include_mbedtls = -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' -isystem $(MBEDTLS_DIR)/include \
    -isystem $(everest_dir)/include
include_lwip = -Iports -isystem $(LWIP_DIR)/src/include $(lwip_memory) $(lwip_assert)
include_sodium = -isystem build/firmware/include -isystem $(sodium_dir)/include
includes = -I. -Iports -Iexamples -I$(app) $(leave_out) $(tables) $(include_mbedtls) \
    $(include_lwip) $(include_sodium)

# ---- what is compiled ---------------------------------------------------------------------------

own_board = startup semihost clock lan9118
own_rest = network sound bare p2p
lwip = core/def core/dns core/inet_chksum core/init core/ip core/mem core/memp core/netif \
    core/pbuf core/timeouts core/udp core/ipv4/dhcp core/ipv4/etharp core/ipv4/icmp core/ipv4/ip4 \
    core/ipv4/ip4_addr netif/ethernet
mbedtls = bignum bignum_core chacha20 chachapoly cipher cipher_wrap constant_time ecdh ecp \
    ecp_curves md platform platform_util poly1305 sha256 ssl_ciphersuites ssl_client ssl_msg \
    ssl_tls ssl_tls12_client ssl_tls12_server
everest = everest x25519 Hacl_Curve25519_joined
# Ed25519 and SHA-256; the linker takes of it what is called.
sodium = crypto_sign/ed25519/sign_ed25519 crypto_sign/ed25519/ref10/keypair \
    crypto_sign/ed25519/ref10/open crypto_sign/ed25519/ref10/sign crypto_core/ed25519/core_ed25519 \
    crypto_core/ed25519/ref10/ed25519_ref10 crypto_hash/sha512/cp/hash_sha512_cp \
    crypto_hash/sha256/cp/hash_sha256_cp crypto_verify/sodium/verify sodium/utils

board   = $(own_board:%=$(out)/own/%.o) $(own_checked:%=$(out)/tests/%.o)
rest    = $(own_rest:%=$(out)/own/%.o)
foreign = $(lwip:%=$(out)/lwip/%.o) $(mbedtls:%=$(out)/mbedtls/%.o) \
    $(everest:%=$(out)/everest/%.o) $(sodium:%=$(out)/sodium/%.o)

firmware: $(images)

$(out)/speaker.elf: $(out)/own/main.o $(rest)
$(out)/speaker-without-ed25519.elf: $(out)/own/main.o \
    $(filter-out %/p2p.o,$(rest)) $(out)/tests/p2p_without_ed25519.o
$(out)/streamer.elf: $(out)/tests/streamer_main.o $(rest)
$(out)/streamer.elf: link = -Wl,--defsym=RAM_SIZE=1M
$(out)/measure.elf: $(out)/tests/measure.o $(own_rest:%=$(out)/looked_up/%.o)
$(out)/tests/measure.o $(out)/looked_up/%.o: tables =
$(out)/measure.elf: link = -Wl,--defsym=RAM_SIZE=1M

$(out)/%.elf: $(board) $(foreign) $(app)/speaker.ld
	$(CC) $(cpu) $(specs) -nostartfiles -Wl,--gc-sections $(link) -T $(app)/speaker.ld \
	    -Wl,-Map=$@.map -o $@ $(filter %.o,$^)

$(out)/speaker.o: $(out)/own/main.o $(rest) $(foreign)
	$(CC) $(cpu) -nostdlib -r -o $@ $(filter %.o,$^)

# ---- how ----------------------------------------------------------------------------------------

# What libsodium's configure would make.
sodium_version = build/firmware/include/sodium/version.h
$(sodium_version): $(sodium_dir)/include/sodium/version.h.in
	@mkdir -p $(@D)
	sed -e 's/@VERSION@/from source/' -e 's/@SODIUM_LIBRARY_VERSION_M[A-Z]*@/0/' \
	    -e 's/@SODIUM_LIBRARY_MINIMAL_DEF@//' -e 's|"export.h"|<sodium/export.h>|' $< >$@

needs = $(sodium_version) ports/mbedtls_config.h ports/lwipopts.h tools/firmware.mk

$(out)/own/%.o: $(app)/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) $(strict) $(includes) -c $< -o $@

$(out)/looked_up/%.o: $(app)/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) $(strict) $(includes) -c $< -o $@

$(out)/tests/%.o: tests/firmware/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) $(strict) $(includes) -c $< -o $@

# The runtime of the sanitizer, and what runs before there is a shadow.
$(out)/tests/kasan.o $(out)/own/startup.o: checks =

$(out)/lwip/%.o: $(LWIP_DIR)/src/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) -w $(include_lwip) -c $< -o $@

$(out)/mbedtls/%.o: $(MBEDTLS_DIR)/library/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) -w -Iports $(include_mbedtls) -I$(MBEDTLS_DIR)/library -c $< -o $@

$(out)/everest/%.o: $(everest_dir)/library/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) -w -Iports $(include_mbedtls) -I$(MBEDTLS_DIR)/library \
	    -I$(everest_dir)/include/everest -I$(everest_dir)/include/everest/kremlib -c $< -o $@

$(out)/sodium/%.o: $(sodium_dir)/%.c $(needs)
	@mkdir -p $(@D)
	$(CC) $(flags) -w -DCONFIGURED=1 -DNATIVE_LITTLE_ENDIAN $(include_sodium) \
	    -I$(sodium_dir)/include/sodium -Ibuild/firmware/include/sodium -c $< -o $@

-include $(wildcard $(out)/*/*.d $(out)/*/*/*.d $(out)/*/*/*/*.d $(out)/*/*/*/*/*.d)
