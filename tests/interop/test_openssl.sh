#!/usr/bin/env bash
# openssl s_client and s_server against our DTLS: same handshake, same exporter bytes.
#
#     tests/interop/test_openssl.sh [PROXY]
#
# First with the channel alone, then with a whole node whose envelope the proxy puts on and takes
# off (see envelope_proxy.c). The last line is "N passed, N failed". A case takes at most 10 s.
set -u
cd "$(dirname "$0")/../.." || exit 1
proxy=${1:-build/tests/interop/envelope_proxy}
[ $# -gt 0 ] || ${MAKE:-make} -s "$proxy" || { echo "0 passed, 1 failed"; exit 1; }

label='EXPERIMENTAL p2p.h auth'
dir=$(mktemp -d) || exit 1
passed=0 failed=0 pids=
trap 'stop; rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
psk=$("$proxy" psk | sed -n 's/^psk //p')
id=$("$proxy" psk | sed -n 's/^id //p')
common=(-dtls1_2 -cipher ECDHE-PSK-CHACHA20-POLY1305 -groups X25519 -psk_identity p2p
    -keymatexport "$label" -keymatexportlen 32)
# A configuration that takes the extended master secret out of openssl.
cat >"$dir/weak.cnf" <<'CNF'
openssl_conf = top
[top]
ssl_conf = modules
[modules]
system_default = weak
[weak]
Options = -ExtendedMasterSecret
CNF

# Ends what this script started and what is still running, by process id.
stop() {
    for pid in $pids; do
        kill "$pid" 2>/dev/null
        wait "$pid" 2>/dev/null
    done
    pids=
}

check() { # name, command...
    local name=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name"
        sed 's/^/    ours: /' "$dir/ours" | cat -v
        sed 's/^/    openssl: /' "$dir/openssl" | cat -v | head -n 60
    fi
}

# Waits up to $1 tenths of a second for a line that matches $2 in file $3.
await() {
    local i
    for ((i = 0; i < $1; i++)); do
        grep -aqE "$2" "$3" 2>/dev/null && return 0
        sleep 0.1
    done
    return 1
}

binding() { sed -n 's/^binding //p' "$dir/ours" | head -n 1; }
exporter() { sed -n 's/^ *Keying material: *//p' "$dir/openssl" | head -n 1 | tr 'A-F' 'a-f'; }
same_exporter() { [ -n "$(binding)" ] && [ "$(binding)" = "$(exporter)" ]; }
weak() { ! ours_has '^note extended master secret'; }
refused() { ours_has '^heard' && [ -z "$(binding)" ]; }
ours_has() { grep -aqE "$1" "$dir/ours"; }
openssl_has() { grep -aqE "$1" "$dir/openssl"; }
openssl_has_bytes() { od -An -v -tx1 "$dir/openssl" | tr -d ' \n' | grep -q "$1"; }

# $1 channel or node, $2 the PSK; the rest are further options. openssl's stdin says ping after a
# while, and stays open so that openssl does not end too early.
run_client() {
    local what=$1 key=$2 port
    shift 2
    : >"$dir/ours" && : >"$dir/openssl"
    "$proxy" "$what" server >"$dir/ours" 2>&1 &
    pids=$!
    await 30 '^port ' "$dir/ours" || return
    port=$(sed -n 's/^port //p' "$dir/ours")
    # shellcheck disable=SC2094
    { await 25 '^binding ' "$dir/ours" && sleep 0.3 && echo ping && await 20 PING "$dir/openssl"; } |
        timeout 8 openssl s_client -connect "127.0.0.1:$port" -psk "$key" "${common[@]}" "$@" \
            >"$dir/openssl" 2>&1
    stop
}

run_server() {
    local what=$1 key=$2 port
    shift 2
    : >"$dir/ours" && : >"$dir/openssl" && rm -f "$dir/input" && mkfifo "$dir/input"
    timeout 9 openssl s_server -accept 127.0.0.1:0 -nocert -naccept 1 -psk "$key" "${common[@]}" \
        "$@" <"$dir/input" >"$dir/openssl" 2>&1 &
    pids=$!
    exec 9>"$dir/input"
    if await 30 '^ACCEPT ' "$dir/openssl"; then
        port=$(sed -n 's/^ACCEPT .*:\([0-9]*\)$/\1/p' "$dir/openssl")
        "$proxy" "$what" client "$port" >"$dir/ours" 2>&1 &
        pids="$pids $!"
        await 25 '^binding ' "$dir/ours" && sleep 0.3 && echo ping >&9 &&
            await 20 '^data ' "$dir/ours"
        await 5 'Keying material:' "$dir/openssl"
    fi
    exec 9>&-
    stop
}

wrong=$(printf '%064d' 0)
run_client channel "$psk"
check "s_client: same exporter" same_exporter
check "s_client: cipher" openssl_has 'ECDHE-PSK-CHACHA20-POLY1305'
check "s_client: extended master secret" openssl_has 'Extended master secret: yes'
check "s_client: extended master secret is offered" ours_has '^note extended master secret'
check "s_client: data to us" ours_has '^data ping$'
check "s_client: data from us" openssl_has '^PING$'
run_client channel "$wrong"
check "s_client: wrong PSK" refused
OPENSSL_CONF=$dir/weak.cnf run_client channel "$psk"
check "s_client: offers no extended master secret" weak
check "s_client: refused without extended master secret" refused
run_client channel "$psk" -mtu 256
check "s_client: small MTU" same_exporter

run_server channel "$psk"
check "s_server: same exporter" same_exporter
check "s_server: extended master secret is taken" ours_has '^note extended master secret'
check "s_server: data to us" ours_has '^data ping$'
check "s_server: data from us" openssl_has 'hello from our side'
run_server channel "$wrong"
check "s_server: wrong PSK" refused
OPENSSL_CONF=$dir/weak.cnf run_server channel "$psk"
check "s_server: takes no extended master secret" weak
check "s_server: refused without extended master secret" refused

run_client node "$psk"
check "s_client and a node: same exporter" same_exporter
# What a node that was called says first, inside the channel, is who it is.
check "s_client and a node: its proof arrives" openssl_has_bytes "$id"
run_server node "$psk"
check "s_server and a node: same exporter" same_exporter

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
