#!/usr/bin/env bash
# The same seed gives the same bytes on every machine: compiles portable.c for several, and compares
# what each prints with pinned.txt. With another byte order or word size those tests run too that
# need nothing but p2p.h and p2p_sim.h.
#
#     tests/portable/run.sh [MACHINE...]      default: all of the table below
#     PIN=1 tests/portable/run.sh             writes pinned.txt by the first machine, then compares
#
# What is not installed is one failure that names the packages. The last line is
# "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}/portable
pinned=tests/portable/pinned.txt
others="unit/test_base unit/test_bytes unit/test_cc unit/test_discovery unit/test_pool
    unit/test_request unit/test_rooms unit/test_router unit/test_sim unit/test_sim_nat
    unit/test_wire sim/test_breaks sim/test_critical sim/test_nat_matrix sim/test_pmtu"
passed=0 failed=0

# Name, compiler and flags, what runs it ("-": nothing), "all" when the other tests run there too.
machines() {
    cat <<'TABLE'
gcc-O3      gcc -O3                               -           digests
gcc-O0      gcc -O0                               -           digests
gcc-ubsan   gcc -O1 -fsanitize=undefined -fno-sanitize-recover=all - digests
clang       clang -O2                             -           digests
cxx         g++ -x c++ -std=c++11 -O2             -           digests
m32         gcc -m32 -O1                          -           all
s390x       s390x-linux-gnu-gcc -static -O1       qemu-s390x  all
TABLE
}

result() { # 0 or another code, name of what it was, log to show
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $2"
    else
        failed=$((failed + 1))
        echo "FAIL  $2"
        head -n 20 "$3" | sed 's/^/      /'
    fi
}

compile() { # source, program, compiler and flags...
    local source=$1 program=$2
    shift 2
    "$@" -I. -Itests -D_GNU_SOURCE -o "$program" "$source" >"$program.log" 2>&1
}

digests() { # machine, runner, compiler...
    local machine=$1 run=$2 program=$build/$1/portable
    shift 2
    mkdir -p "$build/$machine"
    if ! compile tests/portable/portable.c "$program" "$@"; then
        result 1 "$machine: compiling" "$program.log"
        return
    fi
    timeout 300 $run "$program" >"$program.out" 2>"$program.log" ||
        echo "ended with code $?" >>"$program.out"
    [ -z "${PIN:-}" ] || { cp "$program.out" $pinned && PIN=; }
    if diff $pinned "$program.out" >>"$program.log"; then
        result 0 "$machine: digests"
    else
        result 1 "$machine: digests; if they were meant to change: PIN=1 make test-portable" \
            "$program.log"
    fi
}

tests() { # machine, runner, compiler...
    local machine=$1 run=$2 name program code
    shift 2
    for name in $others; do
        program=$build/$machine/${name#*/}
        code=1
        compile "tests/$name.c" "$program" "$@" &&
            SEEDS=1 timeout 300 $run "$program" >"$program.log" 2>&1 </dev/null && code=0
        result $code "$machine: tests/$name.c" "$program.log"
    done
}

there() { # machine, compiler and its flags, runner
    local machine=$1 runner=$2
    shift 2
    mkdir -p "$build/$machine"
    printf '#include <stdio.h>\nint main(void) { return 0; }\n' >"$build/$machine/try.c"
    if "$@" -o "$build/$machine/try" "$build/$machine/try.c" >"$build/$machine/try.log" 2>&1 &&
        $runner "$build/$machine/try" >>"$build/$machine/try.log" 2>&1; then
        return 0
    fi
    echo "install what tools/deps.sh portable names" >>"$build/$machine/try.log"
    result 1 "$machine: $1 and ${runner:-the machine itself}" "$build/$machine/try.log"
    return 1
}

while read -r machine line; do
    what=${line##* }
    line=${line% *}
    runner=${line##* }
    [ "$runner" != - ] || runner=
    line=${line% *}
    [ $# = 0 ] || case " $* " in *" $machine "*) ;; *) continue ;; esac
    case $line in *-std=*) ;; *) line="$line -std=c99" ;; esac
    # shellcheck disable=SC2086
    there "$machine" "$runner" $line || continue
    # shellcheck disable=SC2086
    digests "$machine" "$runner" $line
    # shellcheck disable=SC2086
    [ "$what" != all ] || tests "$machine" "$runner" $line
done <<<"$(machines | tr -s ' ')"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" != 0 ]
