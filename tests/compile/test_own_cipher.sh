#!/usr/bin/env bash
# The DTLS tests once more with mbedTLS's own ChaCha20-Poly1305, as a microcontroller has it: the
# other tests run with libsodium's.
set -u
cd "$(dirname "$0")/../.." || exit 1
${MAKE:-make} -s BUILD=build/own_cipher MBEDTLS_CHACHAPOLY=own CFLAGS='-O1 -g' \
    build/own_cipher/tests/unit/test_mbedtls || { echo "0 passed, 1 failed"; exit 1; }
exec build/own_cipher/tests/unit/test_mbedtls
