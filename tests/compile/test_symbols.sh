#!/usr/bin/env bash
# p2p.h and p2p_sim.h alone call nothing but the pure functions of <string.h>: no file, clock,
# environment, allocation or random number can get in. For those compilers that are there.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=build/symbols
mkdir -p $build
passed=0 failed=0
# And what compilers make of them, and of arithmetic that the processor lacks.
pure='memcpy|memmove|memset|memcmp|strlen|strcmp'
made='bcmp|__aeabi_(u?ldivmod|u?idiv(mod)?|llsl|llsr|lmul|mem.*)'
cat > $build/alone.c <<'C'
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
C
alone() { # compiler, flags...
    local foreign
    if ! "$@" -std=c99 -I. -c -fno-pic -fno-stack-protector -U_FORTIFY_SOURCE \
        -o $build/alone.o $build/alone.c; then
        echo "$*: does not compile"
        return 1
    fi
    foreign=$(nm -u $build/alone.o | awk '{print $2}' | grep -vxE "$pure|$made" | tr '\n' ' ')
    [ -z "$foreign" ] || echo "$*: calls $foreign"
    [ -z "$foreign" ]
}
count() {
    command -v "$1" >/dev/null || return 0
    if alone "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
count gcc -O0
count gcc -O2
count clang -O2
count arm-none-eabi-gcc -Os -mcpu=cortex-m4 -mthumb
echo "$passed passed, $failed failed"
[ $failed -eq 0 ] && [ $passed -gt 0 ]
