#!/usr/bin/env bash
# The program in README.md compiles with what `make flags` prints, runs, and answers build/p2p.
set -u
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
cd "$root" || exit 1
dir=$(mktemp -d) || exit 1
server=
passed=0
failed=0
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null
    rm -rf "$dir"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
    exit
}
check() { # WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "failed: $what"
        finish
    fi
}

sed -n '/^<!-- program -->$/,/^```$/p' README.md | sed '1,2d;$d' >"$dir/hello.c"
check "README.md has a program of at most 40 lines" \
    test "$(wc -l <"$dir/hello.c")" -gt 20 -a "$(wc -l <"$dir/hello.c")" -le 40
read -r -a flags <<<"$(make -s flags)"
check "it compiles without a warning" \
    cc -Wall -Wextra -Werror -o "$dir/hello" "$dir/hello.c" "${flags[@]}"
"$dir/hello" >"$dir/ticket" &
server=$!
for _ in $(seq 50); do
    [ -s "$dir/ticket" ] && break
    sleep 0.1
done
check "it prints a ticket" grep -q '^p2p1' "$dir/ticket"
[ -x build/p2p ] || make -s build/p2p
check "build/p2p gets /hello from it" \
    test "$(timeout 20 build/p2p get "$(head -n 1 "$dir/ticket")" /hello 2>"$dir/err")" = hello
check "an unknown path is no success" \
    test "$(timeout 20 build/p2p get "$(head -n 1 "$dir/ticket")" /nothing >/dev/null 2>&1; echo $?)" = 1
finish
