#!/bin/sh
# Copies the headers and writes a pkg-config file.
#
#     tools/install.sh DESTDIR PREFIX
#
# The ports to mbedTLS and libsodium come as source like all else: a program that uses them compiles
# mbedTLS with the installed mbedtls_config.h, as tools/mbedtls.mk does, or takes `make flags`.
set -eu
[ $# = 2 ] || { echo "usage: tools/install.sh DESTDIR PREFIX" >&2; exit 2; }
cd "$(dirname "$0")/.."
into=$1$2
version=$(sed -n 's/^#define P2P_VERSION *0x\([0-9a-f]*\)u.*/\1/p' p2p.h)
major=$((0x$version >> 16)) minor=$((0x$version >> 8 & 255)) patch=$((0x$version & 255))

mkdir -p "$into/include/p2p" "$into/share/pkgconfig" "$into/share/doc/p2p"
install -m 644 p2p.h p2p_sim.h ports/*.[ch] "$into/include/p2p/"
rm -f "$into/include/p2p/lwipopts.h" # a program brings its own, which must be the one that is found
install -m 644 LICENSE "$into/share/doc/p2p/"
sed -e "s|@PREFIX@|$2|" -e "s|@VERSION@|$major.$minor.$patch|" tools/p2p.pc.in \
    >"$into/share/pkgconfig/p2p.pc"
echo "installed p2p.h $major.$minor.$patch into $into"
