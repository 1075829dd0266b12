#!/usr/bin/env bash
# The DTLS tests once more with the other ciphers under the records: mbedTLS's own, as a
# microcontroller has it, and OpenSSL's, where libssl-dev is there. The other tests run with
# libsodium's.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0
try() { # CIPHER
    local program=build/cipher_$1/tests/unit/test_mbedtls
    if ${MAKE:-make} -s BUILD="build/cipher_$1" MBEDTLS_CHACHAPOLY="$1" CFLAGS='-O1 -g' "$program" &&
        "$program"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
}
try own
if echo '#include <openssl/evp.h>' | cc -E - >/dev/null 2>&1; then
    try openssl
else
    echo "openssl: skipped, libssl-dev is not installed"
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
