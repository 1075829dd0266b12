#!/usr/bin/env bash
# Runs each fuzzer named for FUZZ_SECONDS (30) from its corpus. What it learns stays in build/fuzz;
# an input that breaks something is kept there and named. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
seconds=${FUZZ_SECONDS:-30}
passed=0 failed=0

for fuzzer in "$@"; do
    name=$(basename "$fuzzer")
    learned=build/fuzz/$name.corpus
    mkdir -p "$learned"
    if "$fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="build/fuzz/$name-" "$learned" "tests/fuzz/corpus/$name" \
        >"build/fuzz/$name.log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$name.log")
        printf 'ok    %-20s %s runs in %s s\n' "$name" "$runs" "$seconds"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-20s see build/fuzz/%s.log\n' "$name" "$name"
        grep -aE 'SUMMARY|ERROR|Test unit written' "build/fuzz/$name.log" | head -n 4
    fi
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
