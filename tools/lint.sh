#!/usr/bin/env bash
# Everything that can be said of the sources without running them; `make lint` calls it.
# FLAGS: compiler flags to find mbedTLS. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
passed=0 failed=0
headers=$(echo p2p.h p2p_sim.h ports/*.h)
sources=$(echo examples/*.c tools/*.c bench/*.c ports/*.c tests/*.c tests/*/*.c)
others=$(echo examples/*.h examples/*/*.[ch] ports/*/*.[ch] tools/*.h bench/*.h tests/*.h tests/*/*.h)
flags="-I. -Iports -Itests -D_GNU_SOURCE ${FLAGS:-}"
flags=${flags//\'/} # the shell that make calls would take the quotes off
strict="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Wvla -Werror"
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

check() { # name, command...
    local name=$1 start=$SECONDS
    shift
    if "$@" >"$work/log" 2>&1; then
        passed=$((passed + 1))
        printf 'ok    %-40s %3d s\n' "$name" $((SECONDS - start))
    else
        failed=$((failed + 1))
        printf 'FAIL  %-40s %3d s\n' "$name" $((SECONDS - start))
        head -n 40 "$work/log" | cut -c1-200 | sed 's/^/      /'
    fi
}

existing() { # of the names given, those that are files: a pattern that matched nothing is none
    local file
    for file in "$@"; do [ ! -f "$file" ] || echo "$file"; done
}

formatted() {
    # shellcheck disable=SC2046,SC2086
    clang-format-14 --dry-run -Werror --ferror-limit=3 $(existing $headers $sources $others)
}

# The contents list of a header and its >>room markers are the same, in the same order.
contents() { # header; the first lines of p2p.h that say >>name are the list, the banners the rooms
    awk -v file="$1" '
        /==== >>[a-z0-9_]+/ { match($0, />>[a-z0-9_]+/); rooms = rooms " " substr($0, RSTART + 2, RLENGTH - 2); next }
        rooms == "" && !done {
            line = $0
            while (match(line, />>[a-z0-9_]+/)) {
                list = list " " substr(line, RSTART + 2, RLENGTH - 2)
                line = substr(line, RSTART + RLENGTH)
            }
        }
        END {
            if (list == "" && file ~ /^ports/) exit 0 # a house of one room or two
            if (list != rooms) { print file ": contents:" list; print file ": markers: " rooms; exit 1 }
        }' "$1"
}

compiles() { # one source of ours, with warnings as errors
    local cipher=
    case $1 in
    ports/chachapoly_openssl.c)
        echo '#include <openssl/evp.h>' | cc -E - >/dev/null 2>&1 || return 0 # no libssl-dev
        cipher=-DMBEDTLS_CHACHAPOLY_ALT
        ;;
    ports/chachapoly_*) cipher=-DMBEDTLS_CHACHAPOLY_ALT ;;
    esac
    # shellcheck disable=SC2086
    cc -std=c99 $strict $flags $cipher -DWORLD_sim_dtls -fsyntax-only "$1"
}
export -f compiles
export strict flags
all_compile() { # but firmware, which its own make compiles as strictly
    # shellcheck disable=SC2046,SC2086
    existing $sources | grep -v ^tests/firmware/ | xargs -P "$(nproc)" -I{} bash -c 'compiles {} || { echo "in {}"; exit 1; }'
}

# No function above 70 lines in what others will read and embed.
short_functions() {
    # shellcheck disable=SC2086
    awk '
        FNR == 1 { open = 0; implementation = FILENAME ~ /^(p2p|p2p_sim|ports)/ }
        !open && /^[A-Za-z_].*[^;,\\]$/ && !/^(typedef|struct|enum|union|#|extern "C")/ { name = $0 }
        !open && /^(static|P2P_DEF|int|void|bool|size_t|uint|const|p2p|[ ]{4,}).*\) \{$/ { open = FNR }
        open && /^}/ {
            if (FNR - open + 1 > 70) { print FILENAME ":" open ": " FNR - open + 1 " lines: " name; bad = 1 }
            open = 0
        }
        END { exit bad }' $headers
}

# Marks of unfinished work, and paths of somebody's machine.
words() {
    # shellcheck disable=SC2046
    ! grep -nIE '\b(TODO|FIXME|XXX|HACK)\b|/work/|/home/[a-z]' $(existing README.md Makefile docs/*.md \
        docs/*/* .ci/run $headers $sources $others tests/*.sh tests/*/*.sh tests/*/*.py tools/*.mk) \
        /dev/null
}

no_tabs() {
    # shellcheck disable=SC2046,SC2086
    ! grep -nP '\t| +$' $(existing $headers $sources $others docs/*.md README.md) /dev/null
}

# Without the static analyzer, which takes minutes over p2p.h.
tidy() {
    local checks="-*,bugprone-*,misc-misplaced-const,cert-flp30-c"
    checks="$checks,-bugprone-easily-swappable-parameters,-bugprone-reserved-identifier"
    checks="$checks,-bugprone-macro-parentheses,-bugprone-implicit-widening-of-multiplication-result"
    checks="$checks,-bugprone-narrowing-conversions,-bugprone-assignment-in-if-condition"
    checks="$checks,-bugprone-branch-clone,-bugprone-suspicious-include"
    printf '#define P2P_%sIMPLEMENTATION\n' "" SIM_ SODIUM_ MBEDTLS_ POSIX_ >"$work/all.c"
    printf '#include "p2p%s.h"\n' _posix _mbedtls _sodium _sim >>"$work/all.c"
    # shellcheck disable=SC2086
    clang-tidy --quiet --warnings-as-errors='*' --header-filter='(p2p|ports/).*' \
        --checks="$checks" "$work/all.c" -- -std=c99 $flags
}

static_check() {
    cat >"$work/check.c" <<TEXT
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#include "p2p_sim.h"
TEXT
    cppcheck --quiet --std=c99 --language=c --enable=warning,portability --inline-suppr \
        --error-exitcode=1 --check-config -I. "$work/check.c" >/dev/null 2>&1
    cppcheck --quiet --std=c99 --language=c --enable=warning,portability --inline-suppr \
        --suppress=missingIncludeSystem --suppress=preprocessorErrorDirective \
        --error-exitcode=1 -DP2P_IMPLEMENTATION -DP2P_SIM_IMPLEMENTATION -I. "$work/check.c"
}

shells() {
    command -v shellcheck >/dev/null || { echo "left out: no shellcheck"; return 0; }
    # shellcheck disable=SC2046
    shellcheck -S warning $(existing tools/*.sh tests/*.sh tests/*/*.sh bench/*.sh .ci/run)
}

check "format" formatted
for header in $headers; do check "contents of $header" contents "$header"; done
check "functions of at most 70 lines" short_functions
check "no marks, no foreign paths" words
check "no tabs, no spaces at the end" no_tabs
check "shell scripts" shells
check "C99, C++11, 32 bits, and so on" env OPTIMIZE=1 tests/compile/test_compile.sh
check "every source, warnings as errors" all_compile
check "cppcheck" static_check
check "clang-tidy" tidy

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
