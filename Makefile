# p2p.h: `make` alone prints the targets.
#
# The two commands for a fresh Debian machine are `make demo` and `make test`; both first run
# tools/deps.sh, which installs and fetches what is missing. Everything built lies in build/.

CC       = cc
CFLAGS   = -O2 -g
# Every test program holds the whole library: compiled in half the time, and hardly slower.
TEST_CFLAGS = -O1 -g
WARNINGS = -Wall -Wextra -Wpedantic -Wconversion -Wshadow
CPPFLAGS = -I. -Iports -Itests -D_GNU_SOURCE
PREFIX   = /usr/local
JOBS    := $(shell nproc 2>/dev/null || echo 1)
# Where programs are built; the sanitized ones go below build/asan by the same rules.
BUILD    = build

# MBEDTLS_CPPFLAGS, MBEDTLS_LIB and the rules for it.
include tools/mbedtls.mk
# Variants of lwIP and the rules for them.
include tools/lwip.mk

headers  = p2p.h p2p_sim.h $(wildcard ports/*.h)
own_c    = $(wildcard examples/*.[ch] examples/*/*.[ch] ports/*/*.[ch] tools/*.[ch] bench/*.[ch] tests/*.[ch] tests/*/*.[ch])
programs = $(BUILD)/p2p $(BUILD)/p2p_keylog $(patsubst %.c,$(BUILD)/%,$(wildcard examples/*.c))
benches  = $(patsubst %.c,$(BUILD)/%,$(wildcard bench/*.c))
worlds   = $(addprefix $(BUILD)/tests/behaviour/,sim_null sim_dtls udp_dtls lwip_dtls)
replays  = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
fuzzers  = $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))
tests    = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/*/test_*.c)) $(worlds) $(replays) \
           $(BUILD)/tests/swarm
scripts  = $(wildcard tests/*/test_*.sh tests/*/test_*.py)
# What valgrind runs: it is some 30 times slower, so not the scenarios with many seeds.
slow     = $(filter build/tests/unit/% build/tests/behaviour/sim_null,$(tests))
# mbedTLS's headers are system headers, so that strict warnings concern our own code alone.
mbedtls  = -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' \
           $(subst -I$(MBEDTLS_DIR),-isystem $(MBEDTLS_DIR),$(MBEDTLS_CPPFLAGS))
libs     = $(MBEDTLS_LIB) -lsodium $(MBEDTLS_LIBS)
compile  = $(CC) -std=c99 $(WARNINGS) $(CPPFLAGS) $(mbedtls) -MMD -MP
valgrind = valgrind -q --error-exitcode=99 --soname-synonyms=somalloc=NONE
sanitize = -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
again    = @$(MAKE) --no-print-directory

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: keylog help test test-asan test-valgrind test-portable lint demo bench fuzz flags install deps format clean \
        size swarm firmware firmware-budget test-firmware firmware-images interop build-all build-fuzz print-flags

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1|/p' Makefile | \
	    while IFS='|' read -r name text; do printf 'make %-14s %s\n' "$$name" "$$text"; done

test: ## builds and runs all tests; the last line is "N passed, N failed"
	@tools/deps.sh test
	$(again) -j$(JOBS) build-all
	@JOBS=$(JOBS) tests/run.sh $(tests) $(scripts)

test-asan: ## the test programs under AddressSanitizer and UndefinedBehaviorSanitizer
	@tools/deps.sh test
	$(again) -j$(JOBS) BUILD=build/asan CFLAGS='$(sanitize)' TEST_CFLAGS='$(sanitize)' \
	    programs= benches= build-all build/asan/tests/behaviour/lwip_heap
	@JOBS=$(JOBS) tests/run.sh $(patsubst build/%,build/asan/%,$(tests)) build/asan/tests/behaviour/lwip_heap

test-valgrind: ## unit tests and the behaviour suite in the simulator under valgrind
	@tools/deps.sh test
	$(again) -j$(JOBS) build-all
	@JOBS=$(JOBS) SEEDS=1 WRAP='$(valgrind)' tests/run.sh $(slow)

test-portable: ## same seed, same bytes: two compilers, -O0 and -O3, 32 bits, big-endian
	@tools/deps.sh portable
	@BUILD=$(BUILD) tests/portable/run.sh

lint: ## format, contents list, warnings as errors, C99, C++11, 32 bits, clang-tidy, cppcheck
	@tools/deps.sh lint
	$(again) build/p2p_page.h
	@FLAGS="$(mbedtls) -Ibuild $(call lwip_cppflags,pools) $(lwip_sys_arch)" tools/lint.sh

interop: ## the transport cases of the QUIC interop runner in the simulator, SEEDS (1000) of each
	@tools/deps.sh test
	$(again) $(BUILD)/tests/sim/test_interop
	@SEEDS=$${SEEDS:-1000} $(BUILD)/tests/sim/test_interop

swarm: ## worlds drawn from SEEDS (300) seeds from START (1) on; SEED=N: one, told; SECURE=dtls
	@tools/deps.sh test
	$(again) $(BUILD)/tests/swarm
	@JOBS=$(JOBS) COMMIT="$$(git describe --always --dirty 2>/dev/null)" $(BUILD)/tests/swarm

demo: ## two processes on loopback, one plays a piece of music from the other by its public key
	@tools/deps.sh build
	$(again) -j$(JOBS) $(BUILD)/examples/streamer $(BUILD)/examples/speaker_posix
	@tools/demo.sh

keylog: ## build/p2p_keylog: the command, giving away its keys to the file SSLKEYLOGFILE names
	@tools/deps.sh build
	$(again) $(BUILD)/p2p_keylog

bench: ## measures, prints a table and writes build/bench.json
	@tools/deps.sh bench
	$(again) -j$(JOBS) $(benches)
	@bench/run.sh

fuzz: ## runs each fuzzer for FUZZ_SECONDS (30) on top of its corpus
	@tools/deps.sh lint
	$(again) -j$(JOBS) build-fuzz
	@tests/fuzz/run.sh $(fuzzers)

size: ## bytes of p2p.h on a Cortex-M4, a line a room, and what a linked firmware is made of
	@tools/deps.sh firmware
	@python3 tools/size.py p2p.h
	$(again) -s -f tools/firmware.mk VARIANT=m4 firmware
	@python3 tools/size.py --firmware build/firmware/m4/speaker.elf.map
	@python3 tests/firmware/figures.py

firmware: ## the speaker for Cortex-M: image, size, no heap; writes build/firmware.json
	@tools/deps.sh firmware
	$(again) -s -f tools/firmware.mk VARIANT=m4 firmware
	@python3 tests/firmware/figures.py

firmware-budget: firmware-images ## takes the firmware's figures of now as the budget of tomorrow
	@python3 tests/firmware/figures.py --update

test-firmware: firmware-images ## the firmware in QEMU: network, audio, faults of every kind, budgets
	$(again) $(BUILD)/examples/streamer $(BUILD)/p2p
	@python3 tests/firmware/run.py

firmware-images:
	@tools/deps.sh firmware
	@for variant in m4 m3 checked riscv; do \
	    $(MAKE) --no-print-directory -s -f tools/firmware.mk VARIANT=$$variant firmware || exit 1; \
	done

flags: ## prints what a program outside the tree needs: cc prog.c $(make -s flags)
	@tools/deps.sh build >&2
	$(again) -s $(MBEDTLS_LIB) >&2
	@printf '%s\n' '$(strip -D_GNU_SOURCE $(call absolute,-I. $(subst ',,$(mbedtls)))) $(abspath $(MBEDTLS_LIB)) -lsodium $(MBEDTLS_LIBS)'

install: ## copies the headers and a pkg-config file to PREFIX (/usr/local)
	@tools/install.sh '$(DESTDIR)' '$(PREFIX)'

deps: ## installs Debian packages and fetches the sources of mbedTLS and lwIP, for all of the above
	@tools/deps.sh test && tools/deps.sh lint

format: ## rewrites all C files as .clang-format says
	clang-format-14 -i $(wildcard $(headers) $(own_c))

clean: ## removes what was built; downloads stay in build/deps
	rm -rf $(addprefix build/,tests asan portable tools examples bench fuzz lint p2p mbedtls lwip firmware firmware.json) \
	    $(MBEDTLS_LIB)

build-all: $(tests) $(programs) $(benches)
build-fuzz: $(fuzzers)

# Flags with absolute paths: words that begin with -I, and those that are a path.
absolute = $(foreach word,$(1),$(if $(filter -I%,$(word)),-I$(abspath $(patsubst -I%,%,$(word))),\
    $(if $(filter -%,$(word)),$(word),$(abspath $(word)))))

# It counts basic blocks: how much work a hostile packet makes.
$(BUILD)/tests/sim/test_attack: private CPPFLAGS += -fsanitize-coverage=trace-pc

# Programs over lwIP say which variant of it they want; it comes before the other libraries.
lwip_programs = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_lwip*.c))
$(lwip_programs): lwip = pools
$(BUILD)/tests/unit/test_lwip_heap: lwip = heap
$(BUILD)/tests/unit/test_lwip_ip4: lwip = ip4
$(BUILD)/tests/unit/test_lwip_threads: lwip = threads
$(BUILD)/tests/unit/test_lwip_mailbox: lwip = mailbox
$(lwip_programs): $(BUILD)/tests/%: tests/%.c $(MBEDTLS_LIB) $(lwip_variants:%=$(BUILD)/lwip/%/liblwip.a)
	@mkdir -p $(@D)
	$(compile) $(call lwip_cppflags,$(lwip)) $(TEST_CFLAGS) -MF $@.d -o $@ $< \
	    $(BUILD)/lwip/$(lwip)/liblwip.a $(libs)

# It holds two of the command's files, and is linked with two more.
$(BUILD)/tests/sim/test_scene_run: $(wildcard tools/p2p_scene*.[ch] tools/p2p_see.[ch]) $(headers)
$(BUILD)/tests/sim/test_scene_run: private libs := tools/p2p_scene.c tools/p2p_see.c $(libs)

$(BUILD)/tests/%: tests/%.c $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	$(compile) $(TEST_CFLAGS) -MF $@.d -o $@ $< $(libs)

$(BUILD)/%: %.c $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	$(compile) $(CFLAGS) -MF $@.d -o $@ $< $(libs)

# Several sources in one command: -MF would keep what the last one includes, so all is named here.
# The command that gives its keys away, for Wireshark: the only program that is built so.
$(BUILD)/p2p_keylog: private CPPFLAGS += -DP2P_MBEDTLS_KEYLOG
$(BUILD)/p2p $(BUILD)/p2p_keylog: $(wildcard tools/p2p*.[ch]) $(BUILD)/p2p_page.h $(headers) $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	$(filter-out -MMD -MP,$(compile)) -I$(BUILD) $(CFLAGS) -o $@ $(filter %.c,$^) $(libs)

# The page of p2p sim --html as an initializer of an array.
$(BUILD)/p2p_page.h: tools/p2p_html.html
	@mkdir -p $(@D)
	od -An -v -tx1 $< | sed 's/ \(..\)/0x\1,/g' >$@

# OpenSSL is what the bench compares with, where it is installed.
openssl = $(shell echo '\#include <openssl/ssl.h>' | $(CC) -E - >/dev/null 2>&1 && \
            echo -DBENCH_OPENSSL -lssl -lcrypto)
$(BUILD)/bench/tls: libs = $(openssl)
# Measured as one builds it who runs much of it: there is no system call that it waits for.
$(BUILD)/bench/sim: CFLAGS += -O3

$(filter-out %lwip_dtls,$(worlds)): tests/behaviour/suite.c $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	$(compile) $(TEST_CFLAGS) -DWORLD_$(notdir $@) -MF $@.d -o $@ $< $(libs)

# lwIP with the platform below it is a library: see tests/behaviour/world_lwip.h.
lwip_worlds = $(addprefix $(BUILD)/tests/behaviour/,lwip_dtls lwip_heap)
$(BUILD)/tests/behaviour/lwip_dtls $(BUILD)/tests/behaviour/liblwip_pools.so: lwip = pools
$(BUILD)/tests/behaviour/lwip_heap $(BUILD)/tests/behaviour/liblwip_heap.so: lwip = heap
$(BUILD)/tests/behaviour/lwip_dtls: $(BUILD)/tests/behaviour/liblwip_pools.so
$(BUILD)/tests/behaviour/lwip_heap: $(BUILD)/tests/behaviour/liblwip_heap.so
$(BUILD)/tests/behaviour/liblwip_%.so: tests/behaviour/lwip_stack.c $(BUILD)/lwip/%/liblwip.a
	@mkdir -p $(@D)
	$(compile) $(call lwip_cppflags,$(lwip)) $(TEST_CFLAGS) -fPIC -shared -Wl,-Bsymbolic \
	    -MF $@.d -o $@ $< $(BUILD)/lwip/$(lwip)/liblwip.a
$(lwip_worlds): tests/behaviour/suite.c $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	$(compile) $(call lwip_cppflags,$(lwip)) $(TEST_CFLAGS) -DWORLD_$(notdir $@) -MF $@.d -o $@ $< \
	    -rdynamic -L$(@D) -llwip_$(lwip) -Wl,-rpath,'$$ORIGIN' $(libs)

# The plain main in tests/fuzz/replay.h feeds the corpus; -DP2P_FUZZ leaves main to libFuzzer.
build/fuzz/%: tests/fuzz/%.c $(MBEDTLS_LIB)
	@mkdir -p $(@D)
	clang -std=c99 $(CPPFLAGS) $(mbedtls) -DP2P_FUZZ -O1 -g -MMD -MP -MF $@.d \
	    -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -o $@ $< $(libs)

-include $(patsubst %,%.d,$(tests) $(programs) $(benches) $(fuzzers)) $(wildcard $(BUILD)/tools/*.d)
