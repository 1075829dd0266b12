#!/usr/bin/env bash
# Runs test programs and adds up their results.
#
#     tests/run.sh PROGRAM...
#
# A test program ends with a line "N passed, N failed" and says by its exit code whether one failed.
# JOBS programs run at a time (default: one a core), each at most LIMIT seconds (default 300).
# WRAP is put before each program, for valgrind. Prints a line a program, the whole output of
# those that failed, which ones those were, and in the last line the sum.
set -u

run_one() {
    local program=$1 log=$2/${1//\//_} with=${WRAP:-} code line start=$SECONDS
    case $program in
    *.py) with=python3 ;;
    *.sh) with=bash ;;
    esac
    # shellcheck disable=SC2086
    timeout "${LIMIT:-300}" $with "$program" >"$log" 2>&1 </dev/null
    code=$?
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
    case $code:$line in
    124:*) line="0 passed, 1 failed" && echo "ran longer than ${LIMIT:-300} s" >>"$log" ;;
    *:) line="0 passed, 1 failed" && echo "ended with code $code and without a result" >>"$log" ;;
    0:*", 0 failed") ;;
    # Its tests passed and it failed, by a leak or a crash at the end: both count.
    *:*", 0 failed") line="${line%%,*}, 1 failed" && echo "ended with code $code" >>"$log" ;;
    esac
    echo "$line $program" >"$log.result"
    printf '%-28s %4d s  %s\n' "$line" $((SECONDS - start)) "$program"
    case $line in *", 0 failed") ;; *) sed 's/^/    /' "$log" | tail -n 200 ;; esac
}

if [ "${1:-}" = --one ]; then
    run_one "$3" "$2"
    exit 0
fi
logs=$(mktemp -d) || exit 1
trap 'rm -rf "$logs"' EXIT
printf '%s\0' "$@" | xargs -0 -r -n 1 -P "${JOBS:-$(nproc 2>/dev/null || echo 1)}" "$0" --one "$logs"
[ $# = 0 ] || cat "$logs"/*.result | sort -k5 >"$logs/all"
awk '$3 > 0 { print "failed: " $5 }' "$logs/all"
awk '{ passed += $1; failed += $3 } END {
    printf "%d passed, %d failed\n", passed, failed
    exit failed > 0 || NR == 0
}' "$logs/all"
