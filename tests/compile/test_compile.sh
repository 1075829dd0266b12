#!/usr/bin/env bash
# The headers compile as they promise: C99 and C++11, one file or several, 32 bits and big-endian,
# without heap, stdio, globals or floating point; and a program outside the tree can use them.
# What a machine lacks (a C++ compiler, a cross compiler) is left out and said.
set -u
cd "$(dirname "$0")/../.." || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
strict="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Werror"
dtls="-DMBEDTLS_CONFIG_FILE=<mbedtls_config.h> -isystem build/deps/mbedtls/include"
dtls="$dtls -isystem build/deps/mbedtls/3rdparty/everest/include"
own="-I. -Iports -D_GNU_SOURCE"

check() { # name, command...
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAIL $name: $*"
        head -n 8 "$work/log"
    fi
}

# A source that implements the headers named, with these macros before.
source_of() { # file, macros, headers
    local file=$1 macro header
    : >"$file"
    for macro in $2; do echo "#define $macro" >>"$file"; done
    for header in $3; do echo "#include \"$header\"" >>"$file"; done
    echo "int main(void) { return p2p_version() == P2P_VERSION ? 0 : 1; }" >>"$file"
}

all="p2p.h p2p_sim.h p2p_mbedtls.h p2p_sodium.h p2p_posix.h"
impl="P2P_IMPLEMENTATION P2P_SIM_IMPLEMENTATION P2P_MBEDTLS_IMPLEMENTATION
      P2P_SODIUM_IMPLEMENTATION P2P_POSIX_IMPLEMENTATION"
source_of "$work/all.c" "$impl" "$all"
source_of "$work/core.c" "P2P_IMPLEMENTATION" "p2p.h"
source_of "$work/sim.c" "P2P_IMPLEMENTATION P2P_SIM_IMPLEMENTATION" "p2p_sim.h"
source_of "$work/static.c" "P2P_STATIC $impl" "$all"
source_of "$work/debug.c" "P2P_DEBUG P2P_MBEDTLS_KEYLOG $impl" "$all"
source_of "$work/use.c" "" "$all"
sed 's/main/used/' "$work/use.c" >"$work/use2.c"

# A program's own memory calls are all that p2p.h makes: a call of <string.h>'s does not compile here.
cat >"$work/memory.c" <<'END'
#include <string.h>
static struct {
    void *(*copy)(void *, const void *, size_t), *(*move)(void *, const void *, size_t);
    void *(*set)(void *, int, size_t);
    int (*compare)(const void *, const void *, size_t);
} programs = {memcpy, memmove, memset, memcmp};
#define P2P_MEMCPY programs.copy
#define P2P_MEMMOVE programs.move
#define P2P_MEMSET programs.set
#define P2P_MEMCMP programs.compare
#define memcpy(...) past_the_override
#define memmove(...) past_the_override
#define memset(...) past_the_override
#define memcmp(...) past_the_override
#define P2P_IMPLEMENTATION
#include "p2p.h"
END

# ---- C99 and C++11, by each compiler that is here. OPTIMIZE=1, as make lint has it, compiles with
# several levels, which finds more and takes a minute.
for cc in cc clang g++ clang++; do
    command -v $cc >/dev/null || { echo "left out: no $cc"; continue; }
    levels=-fsyntax-only
    case ${OPTIMIZE:-}$cc in 1cc | 1g++) levels="-O1 -Os" ;; esac
    std=-std=c99
    case $cc in *++) std="-std=c++11 -x c++" ;; esac
    for level in $levels; do
        for file in all core memory sim debug use; do
            # shellcheck disable=SC2086
            check "$cc $level $file" $cc $std $level $strict $own $dtls -c -o /dev/null \
                "$work/$file.c"
        done
        # shellcheck disable=SC2086
        check "$cc $level static" $cc $std $level $strict -Wno-unused-function $own $dtls -c \
            -o /dev/null "$work/static.c"
    done
done
# shellcheck disable=SC2086
check "cc -O2" cc -std=c99 -O2 $strict $own $dtls -c -o /dev/null "$work/all.c"

# ---- each optional room left out, alone and together with all others. What is left out is not
# declared, and the ABI tells the builds apart.
rooms=$(sed -n 's/^#ifn*def \(P2P_NO_[A-Z]*\)$/\1/p' p2p.h | sort -u)
check "optional rooms were found" [ "$(echo "$rooms" | wc -l)" -ge 10 ]
abi_of() { # flags
    { echo '#include "p2p.h"'; echo '#include <stdio.h>'
      echo 'int main(void) { printf("%lx\n", (unsigned long)P2P_ABI); return 0; }'; } >"$work/abi.c"
    # shellcheck disable=SC2086
    cc -std=c99 $own $1 -o "$work/abi" "$work/abi.c" && "$work/abi"
}
# shellcheck disable=SC2116
for out in $rooms "$(echo $rooms)"; do
    flags=""
    for room in $out; do flags="$flags -D$room"; done
    name="without ${out// /, }"
    for file in core sim debug; do
        [ $file = debug ] && case $out in *NO_PARSE*) continue ;; esac
        # shellcheck disable=SC2086
        check "cc $name $file" cc -std=c99 -Os $strict $own $dtls $flags -c -o /dev/null \
            "$work/$file.c"
        command -v g++ >/dev/null || continue
        # shellcheck disable=SC2086
        check "g++ $name $file" g++ -std=c++11 -x c++ $strict $own $dtls $flags -fsyntax-only \
            "$work/$file.c"
    done
    case $out in *BBR | *CUBIC | *RECONNECT) continue ;; esac # of one file: nothing declared differs
    check "ABI $name" [ "$(abi_of "$flags")" != "$(abi_of "")" ]
done
left_out() { # room, call
    echo "#include \"p2p.h\"" >"$work/call.c"
    echo "void *call(void);" >>"$work/call.c"
    echo "void *call(void) { return (void *)(size_t)$2; }" >>"$work/call.c"
    # shellcheck disable=SC2086
    cc -std=c99 -w $own -fsyntax-only "$work/call.c" || return 1
    # shellcheck disable=SC2086
    ! cc -std=c99 -w $own -D$1 -fsyntax-only "$work/call.c"
}
check "no p2p_reply" left_out P2P_NO_ROUTER p2p_reply
check "no p2p_discover" left_out P2P_NO_DISCOVERY p2p_discover
check "no p2p_datagram_send" left_out P2P_NO_DATAGRAM p2p_datagram_send
check "no p2p_ticket_parse" left_out P2P_NO_PARSE p2p_ticket_parse
check "no p2p_err_text" left_out P2P_NO_WORDS p2p_err_text
check "no p2p_check" left_out P2P_NO_CHECK p2p_check
check "no p2p_send" left_out P2P_NO_MESSAGES p2p_send

# ---- one table, named at compile time: its ports fill the desc in as ever, another table does not
# compile, and the ABI tells the builds apart
one="-DP2P_STATIC_SECURE=p2p_mbedtls_api -DP2P_STATIC_CRYPTO=p2p_sodium_api"
source_of "$work/one.c" "${impl/P2P_SIM_IMPLEMENTATION/}" "${all/p2p_sim.h/}"
for cc in "cc -std=c99" "g++ -std=c++11 -x c++"; do
    command -v "${cc%% *}" >/dev/null || continue
    # shellcheck disable=SC2086
    check "$cc one table" $cc $strict $own $dtls $one -fsyntax-only "$work/one.c"
    # shellcheck disable=SC2086
    check "$cc one table, static" $cc $strict -Wno-unused-function $own $dtls $one -DP2P_STATIC \
        -fsyntax-only "$work/one.c"
done
check "ABI of one channel" [ "$(abi_of "${one%% *}")" != "$(abi_of "")" ]
check "ABI of one crypto table" [ "$(abi_of "${one##* }")" != "$(abi_of "")" ]
another_table() { # flags
    { echo '#include "p2p.h"'
      echo 'extern const p2p_secure_api other;'
      echo 'extern const p2p_crypto_api another;'
      echo 'void set(p2p_desc *desc);'
      echo "void set(p2p_desc *desc) { desc->$1; }"; } >"$work/set.c"
    # shellcheck disable=SC2086
    cc -std=c99 $strict $own $2 -fsyntax-only "$work/set.c"
}
no_other_table() { another_table "$1" "" && ! another_table "$1" "$one"; }
check "no other channel" no_other_table "secure.api = &other"
check "no other crypto table" no_other_table "crypto.api = &another"
check "not in the simulator" bash -c "! cc -std=c99 $own $one -fsyntax-only '$work/sim.c'"

# ---- the port to lwIP, in each build of lwIP that there is
lwip=${LWIP_DIR:-build/deps/lwip}
source_of "$work/lwip.c" "P2P_IMPLEMENTATION P2P_MBEDTLS_IMPLEMENTATION P2P_SODIUM_IMPLEMENTATION
    P2P_LWIP_IMPLEMENTATION" "p2p_mbedtls.h p2p_sodium.h p2p_lwip.h"
source_of "$work/lwip_alone.c" "P2P_IMPLEMENTATION P2P_LWIP_NO_DEFAULTS P2P_LWIP_IMPLEMENTATION" \
    "p2p_lwip.h"
for build in "-DLWIP_IPV6=0" "-DLWIP_IPV6=1" "-DNO_SYS=0 -isystem $lwip/contrib/ports/unix/port/include"; do
    for cc in "cc -std=c99" "clang -std=c99" "g++ -std=c++11 -x c++"; do
        command -v "${cc%% *}" >/dev/null || continue
        # shellcheck disable=SC2086
        check "$cc lwip $build" $cc $strict $own $dtls -isystem "$lwip/src/include" $build \
            -fsyntax-only "$work/lwip.c"
    done
    case $build in *IPV6*) ;; *) continue ;; esac
    command -v arm-none-eabi-gcc >/dev/null || continue
    # shellcheck disable=SC2086
    check "arm lwip $build" arm-none-eabi-gcc -std=c99 -mcpu=cortex-m4 -mthumb $strict $own \
        -isystem "$lwip/src/include" $build -fsyntax-only "$work/lwip_alone.c"
done
no_lwip_without() { # what is missing, flags
    # shellcheck disable=SC2086
    ! cc -std=c99 $own $dtls -isystem "$lwip/src/include" $2 -fsyntax-only "$work/lwip.c" 2>"$work/why" &&
        grep -q "error.*p2p_lwip.h.*$1" "$work/why"
}
check "a timeout for the port" no_lwip_without MEMP_NUM_SYS_TIMEOUT \
    -DMEMP_NUM_SYS_TIMEOUT=LWIP_NUM_SYS_TIMEOUT_INTERNAL

# ---- each choice of congestion controllers
for left_out in "P2P_NO_BBR" "P2P_NO_CUBIC" "P2P_NO_BBR P2P_NO_CUBIC"; do
    source_of "$work/less.c" "$left_out P2P_IMPLEMENTATION" "p2p.h"
    # shellcheck disable=SC2086
    check "without $left_out" cc -std=c99 $strict $own -fsyntax-only "$work/less.c"
    # shellcheck disable=SC2046,SC2086
    check "test_cc without $left_out" cc -std=c99 -O1 $(echo " $left_out" | sed 's/ P2P/ -DP2P/g') \
        $own -Itests -o "$work/test_cc" tests/unit/test_cc.c
    check "test_cc runs without $left_out" "$work/test_cc"
done

# ---- without reconnect
source_of "$work/less.c" "P2P_NO_RECONNECT P2P_IMPLEMENTATION" "p2p.h"
# shellcheck disable=SC2086
check "without reconnect" cc -std=c99 -Os $strict $own -fsyntax-only "$work/less.c"

# ---- several files of one program
implementation_alone() {
    sed '/main/d' "$work/all.c" >"$work/impl.c"
    # shellcheck disable=SC2086
    cc -std=c99 -O0 $own $dtls -o "$work/program" "$work/impl.c" "$work/use.c" "$work/use2.c" \
        build/libmbedtls_p2p.a -lsodium && "$work/program"
}
check "three files" implementation_alone

# ---- what the core may ask of its surroundings: memory functions of <string.h>, and no memory
# of its own
symbols_of() {
    local rest
    rest=$(nm -u "$work/$1.o" | awk '{ print $2 }' |
        grep -vE '^(memcpy|memmove|memset|memcmp|strlen|strcmp|memchr|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_)$')
    [ -z "$rest" ] || { echo "asks for: $rest"; return 1; }
}
no_globals() {
    nm --defined-only "$work/$1.o" |
        awk '$2 ~ /^[bBdDcC]$/ { print "global: " $3; bad = 1 } END { exit bad }'
}
for file in core sim; do
    # shellcheck disable=SC2086
    cc -std=c99 -O2 $own -fno-pie -c -o "$work/$file.o" "$work/$file.c" 2>"$work/log"
    check "$file asks for nothing else" symbols_of $file
    check "$file keeps no globals" no_globals $file
done
includes_only() {
    local rest
    rest=$(grep -hE '^ *# *include' "$1" | grep -vE "$2")
    [ -z "$rest" ] || { echo "$rest"; return 1; }
}
check "includes of p2p.h" includes_only p2p.h '<(stdbool|stddef|stdint|string)\.h>'
check "includes of p2p_sim.h" includes_only p2p_sim.h '<(stdbool|stddef|stdint|string)\.h>|"p2p.h"'
case $(uname -m) in
x86_64 | aarch64)
    for file in core sim; do
        # shellcheck disable=SC2086
        check "$file without floating point" cc -std=c99 $own -mgeneral-regs-only -S -o /dev/null \
            "$work/$file.c"
    done
    ;;
esac

# ---- 32 bits, big-endian, microcontrollers
if echo '#include <string.h>' | cc -m32 -E - >/dev/null 2>&1; then
    for file in core sim all; do
        # shellcheck disable=SC2086
        check "32 bits $file" cc -m32 -std=c99 $strict $own $dtls \
            -idirafter "/usr/include/$(uname -m)-linux-gnu" -fsyntax-only "$work/$file.c"
    done
else
    echo "left out: no headers for -m32"
fi
for cross in arm-none-eabi-gcc s390x-linux-gnu-gcc mips-linux-gnu-gcc; do
    command -v $cross >/dev/null || { echo "left out: no $cross"; continue; }
    for file in core sim; do
        # shellcheck disable=SC2086
        check "$cross $file" $cross -std=c99 $strict $own -fsyntax-only "$work/$file.c"
    done
done

# ---- from outside the tree
outside() (
    flags=$(make -s flags) || return 1
    cd "$work" || return 1
    # shellcheck disable=SC2086
    cc -o outside all.c $flags && ./outside
)
check "make flags" outside
flags_alone() {
    [ "$(make -s flags 2>/dev/null | wc -l)" = 1 ]
}
check "make flags prints one line" flags_alone
installed() (
    make -s install DESTDIR="$work/dest" PREFIX=/usr || return 1
    grep -q '^Version: [0-9]*\.[0-9]*\.[0-9]*$' "$work/dest/usr/share/pkgconfig/p2p.pc" || return 1
    cd "$work" && cc -std=c99 -I"$work/dest/usr/include/p2p" -o installed sim.c && ./installed
)
check "make install" installed

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
