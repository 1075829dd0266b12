# p2p.cmake: the sources of mbedTLS and libsodium that ports/p2p_mbedtls.h and ports/p2p_sodium.h
# use, for SDKs that build by CMake. Set MBEDTLS_DIR and LIBSODIUM_DIR before it is included: source
# trees of mbedTLS 3.6.6 or later and libsodium 1.0.18 or later (tools/deps.sh firmware fetches
# both into build/deps). It sets
#     P2P_DIR             the directory of p2p.h
#     P2P_SOURCES         what is compiled, with the include directories of P2P_PRIVATE_DIRS
#     P2P_DIRS            include directories of the program
#     P2P_PORTS           one more, to be searched after all others (-idirafter): an SDK has an
#                         arch/cc.h of its own for lwIP
#     P2P_DEFINITIONS     of the program and of the sources
# SPDX-License-Identifier: MIT-0
get_filename_component(P2P_DIR ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
foreach(tree MBEDTLS_DIR LIBSODIUM_DIR)
    if(NOT EXISTS "${${tree}}")
        message(FATAL_ERROR "p2p.cmake: set ${tree} to a source tree; '${${tree}}' is none")
    endif()
endforeach()

set(everest ${MBEDTLS_DIR}/3rdparty/everest)
set(sodium ${LIBSODIUM_DIR}/src/libsodium)
set(P2P_SOURCES)
foreach(unit bignum bignum_core chacha20 chachapoly cipher cipher_wrap constant_time ecdh ecp
        ecp_curves md platform platform_util poly1305 sha256 ssl_ciphersuites ssl_client ssl_msg
        ssl_tls ssl_tls12_client ssl_tls12_server)
    list(APPEND P2P_SOURCES ${MBEDTLS_DIR}/library/${unit}.c)
endforeach()
foreach(unit everest x25519 Hacl_Curve25519_joined)
    list(APPEND P2P_SOURCES ${everest}/library/${unit}.c)
endforeach()
foreach(unit crypto_sign/ed25519/sign_ed25519 crypto_sign/ed25519/ref10/keypair
        crypto_sign/ed25519/ref10/open crypto_sign/ed25519/ref10/sign
        crypto_core/ed25519/core_ed25519 crypto_core/ed25519/ref10/ed25519_ref10
        crypto_hash/sha512/cp/hash_sha512_cp crypto_hash/sha256/cp/hash_sha256_cp
        crypto_verify/sodium/verify sodium/utils)
    list(APPEND P2P_SOURCES ${sodium}/${unit}.c)
endforeach()

# What libsodium's configure would make.
set(made ${CMAKE_CURRENT_BINARY_DIR}/p2p_include)
set(VERSION "from source")
set(SODIUM_LIBRARY_VERSION_MAJOR 0)
set(SODIUM_LIBRARY_VERSION_MINOR 0)
set(SODIUM_LIBRARY_MINIMAL_DEF "")
configure_file(${sodium}/include/sodium/version.h.in ${made}/sodium/version.h @ONLY)

set(P2P_DIRS ${P2P_DIR} ${MBEDTLS_DIR}/include ${everest}/include ${made}
    ${made}/sodium ${sodium}/include ${sodium}/include/sodium)
set(P2P_PORTS ${P2P_DIR}/ports)
set(P2P_PRIVATE_DIRS ${MBEDTLS_DIR}/library ${everest}/include/everest
    ${everest}/include/everest/kremlib)
set(P2P_DEFINITIONS MBEDTLS_CONFIG_FILE=<mbedtls_config.h> CONFIGURED=1 NATIVE_LITTLE_ENDIAN
    P2P_ADMIT_PER_S=2)
