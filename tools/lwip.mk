# Builds lwIP 2.2 for the tests on this machine, with ports/lwipopts.h, once a variant:
#     pools    as firmware has it: NO_SYS, static pools; both families
#     heap     the same, each pbuf an allocation of its own, which AddressSanitizer watches; the
#              program brings lwip_platform_malloc, _calloc and _free
#     ip4      IPv4 alone
#     threads  lwIP's own thread and the core lock; lwIP's own sys_arch for unix
#     mailbox  the same without the lock
#
# A program of a variant wants $(call lwip_cppflags,VARIANT) and $(BUILD)/lwip/VARIANT/liblwip.a.
# LWIP_DIR names a source tree of lwIP 2.2; by default tools/deps.sh fetches one.

LWIP_DIR ?= build/deps/lwip
LWIP_CFLAGS ?= $(CFLAGS)

lwip_common = -DPBUF_POOL_SIZE=64 -DMEM_SIZE=131072 -DMEMP_NUM_PBUF=64 -DLWIP_STATS=1
lwip_flags_pools = $(lwip_common) -DLWIP_IPV6=1
lwip_flags_heap = $(lwip_common) -DLWIP_IPV6=1 -DMEMP_MEM_MALLOC=1 -DMEM_CUSTOM_ALLOCATOR=1 \
    -DMEM_CUSTOM_MALLOC=lwip_platform_malloc -DMEM_CUSTOM_CALLOC=lwip_platform_calloc \
    -DMEM_CUSTOM_FREE=lwip_platform_free
lwip_flags_ip4 = $(lwip_common)
lwip_sys_arch = -isystem $(LWIP_DIR)/contrib/ports/unix/port/include
lwip_flags_threads = $(lwip_common) -DLWIP_IPV6=1 -DNO_SYS=0 $(lwip_sys_arch)
lwip_flags_mailbox = $(lwip_flags_threads) -DLWIP_TCPIP_CORE_LOCKING=0
lwip_cppflags = -Iports $(lwip_flags_$(1)) -isystem $(LWIP_DIR)/src/include
lwip_variants = pools heap ip4 threads mailbox

lwip_units = core/def core/dns core/inet_chksum core/init core/ip core/mem core/memp core/netif \
    core/pbuf core/stats core/sys core/timeouts core/udp core/ipv4/dhcp core/ipv4/etharp \
    core/ipv4/icmp core/ipv4/ip4 core/ipv4/ip4_addr core/ipv6/ethip6 core/ipv6/icmp6 core/ipv6/ip6 \
    core/ipv6/ip6_addr core/ipv6/mld6 core/ipv6/nd6 netif/ethernet
lwip_units_threads = api/tcpip
lwip_units_mailbox = api/tcpip
lwip_stamp = $(LWIP_DIR)/src/include/lwip/init.h
lwip_needs = $(lwip_stamp) ports/lwipopts.h ports/arch/cc.h tools/lwip.mk

$(lwip_stamp):
	sh tools/deps.sh lwip

# $(1): the variant
define lwip_rules
$(BUILD)/lwip/$(1)/src/%.o: $$(lwip_needs)
	@mkdir -p $$(@D)
	$$(CC) -std=gnu99 -fPIC $$(LWIP_CFLAGS) -w $$(call lwip_cppflags,$(1)) -c $$(LWIP_DIR)/src/$$*.c -o $$@

$(BUILD)/lwip/$(1)/sys_arch.o: $$(lwip_needs)
	@mkdir -p $$(@D)
	$$(CC) -std=gnu99 -fPIC $$(LWIP_CFLAGS) -w $$(call lwip_cppflags,$(1)) -c \
	    $$(LWIP_DIR)/contrib/ports/unix/port/sys_arch.c -o $$@

$(BUILD)/lwip/$(1)/liblwip.a: $$(addprefix $(BUILD)/lwip/$(1)/src/,$$(addsuffix .o,\
        $$(lwip_units) $$(lwip_units_$(1)))) $(if $(filter threads mailbox,$(1)),$(BUILD)/lwip/$(1)/sys_arch.o)
	@rm -f $$@
	$$(AR) rcs $$@ $$^
endef
$(foreach variant,$(lwip_variants),$(eval $(call lwip_rules,$(variant))))
