#!/usr/bin/env bash
# The DTLS tests once more with records of 1280 bytes, as a microcontroller has them: the others run
# with a desktop's. And a program built for one size with a library built for the other is refused.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=build/content_1280
make="${MAKE:-make} -s"
programs="$build/tests/unit/test_mbedtls $build/tests/behaviour/udp_dtls"
# shellcheck disable=SC2086
$make BUILD=$build CONTENT=1280 CFLAGS='-O1 -g' $programs && $make build/libmbedtls_p2p.a || {
    echo "0 passed, 1 failed"
    exit 1
}
passed=0 failed=0
count() {
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
for program in $programs; do
    count "$program"
done

cat > $build/differs.c <<'C'
#define P2P_MBEDTLS_IMPLEMENTATION
#define P2P_IMPLEMENTATION
#include "p2p_mbedtls.h"
static int zeros(void *ctx, void *out, size_t size) {
    (void)ctx;
    memset(out, 0, size);
    return 0;
}
int main(void) {
    static uint64_t slab[P2P_MBEDTLS_SLAB / 8 + 1];
    p2p_secure_params params;
    p2p_secure secure;
    memset(&params, 0, sizeof params);
    params.random.fill = zeros;
    params.content = 1024;
    p2p_mbedtls_secure(&secure);
    return secure.api->begin(0, slab, P2P_MBEDTLS_SLAB, &params) == EXPECTED ? 0 : 1;
}
C
from=${MBEDTLS_DIR:-build/deps/mbedtls}
differs() { # CONTENT LIBRARY EXPECTED
    cc -I. -Iports -I"$from/include" -I"$from/3rdparty/everest/include" -o $build/differs \
        -DMBEDTLS_CONFIG_FILE='<mbedtls_config.h>' -DP2P_MBEDTLS_CONTENT="$1" -DEXPECTED="$3" \
        $build/differs.c "$2" -lsodium && $build/differs
}
count differs 8192 $build/libmbedtls_p2p.a P2P_ERR_CONFIG
count differs 1280 build/libmbedtls_p2p.a P2P_ERR_ARENA # its buffers do not even fit
count differs 8192 build/libmbedtls_p2p.a 0
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
