#!/bin/sh
# Gets what the build needs: Debian packages that are missing, and the sources of mbedTLS 3.6,
# lwIP 2.2 and, for firmware, libsodium.
#
#   tools/deps.sh build    compiler, libsodium, mbedTLS source: enough for make and make demo
#   tools/deps.sh bench    what make bench compares with, on top of that
#   tools/deps.sh test     what the tests use on top of that
#   tools/deps.sh lint     what make lint and the cross builds use on top of build
#   tools/deps.sh portable what make test-portable uses: no source of mbedTLS
#   tools/deps.sh firmware what make firmware and make test-firmware use on top of build
#   tools/deps.sh mbedtls  the mbedTLS source alone; needs no root
#   tools/deps.sh lwip     the lwIP source alone; needs no root
#   tools/deps.sh libsodium  the libsodium source alone; needs no root
#
# MBEDTLS_DIR=/path/to/mbedtls-3.6.x, LWIP_DIR=/path/to/lwip-2.2.x and
# LIBSODIUM_DIR=/path/to/libsodium-1.0.18 take source trees of your own and download none.
# MBEDTLS_SUITE=sid takes another Debian suite than trixie, for all of them.
#
# Running it again is cheap: it looks first and does only what is missing. Debian 12's own
# libmbedtls is 2.28, which lacks what p2p.h uses, and its liblwip is built with threads and a heap,
# so the sources come from a newer Debian suite, signed like every Debian package. They are fetched
# with an apt state of its own below build/deps: the machine's package lists and /etc stay as they
# are.
set -u
umask 022

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
deps=$root/build/deps
suite=${MBEDTLS_SUITE:-trixie}
# 3.6 is the long-term branch; before 3.6.6 it has known defects in the parts used here.
mbedtls_patch_min=6

packages_build='gcc libc6-dev make libsodium-dev ca-certificates bzip2 xz-utils'
packages_test="$packages_build g++ openssl python3 python3-jsonschema valgrind tshark"
packages_bench="$packages_build libssl-dev python3"
packages_lint="$packages_build g++ clang libclang-rt-dev clang-format clang-tidy cppcheck python3
    gcc-12-multilib gcc-arm-none-eabi libnewlib-arm-none-eabi"
# gcc-multilib would conflict with the cross compiler, gcc-12-multilib does not.
packages_portable='gcc g++ libc6-dev clang gcc-12-multilib gcc-s390x-linux-gnu
    libc6-dev-s390x-cross qemu-user'
packages_firmware="$packages_build gcc-arm-none-eabi libnewlib-arm-none-eabi gcc-riscv64-unknown-elf
    picolibc-riscv64-unknown-elf qemu-system-arm python3"

die() {
    echo "deps.sh: $*" >&2
    exit 1
}

# Prints those of the given packages that are not installed.
missing_packages() {
    for package in "$@"; do
        state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)
        [ "$state" = installed ] || echo "$package"
    done
}

install_packages() {
    if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
        without_apt "$@"
        return
    fi
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        die "these packages are missing, and installing them needs root. Run:
    apt-get update && apt-get install --no-install-recommends $missing"
    fi
    echo "deps.sh: installing $missing"
    log=$(mktemp) || exit 1
    # shellcheck disable=SC2086
    if ! { apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y \
        --no-install-recommends $missing; } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: $missing"
    fi
    rm -f "$log"
    missing=$(missing_packages "$@" | tr '\n' ' ')
    [ -z "$missing" ] || die "apt-get reported success, but these are still not installed: $missing"
}

# Not a Debian system: nothing is installed, but what is needed may be here under other names.
without_apt() {
    lacking=
    for tool in cc make; do
        command -v "$tool" >/dev/null 2>&1 || lacking="$lacking $tool"
    done
    if command -v cc >/dev/null 2>&1; then
        echo '#include <sodium.h>' | cc -E - >/dev/null 2>&1 || lacking="$lacking libsodium"
    fi
    [ -z "$lacking" ] && return 0
    die "this is not a Debian system, and these are missing:$lacking
Install what answers to these Debian packages: $(echo "$*" | tr -s ' \n' ' ')"
}

# For people: the version of a source that is wanted.
wanted() {
    case $1 in
    mbedtls) echo "mbedtls 3.6.$mbedtls_patch_min or a later 3.6" ;;
    lwip) echo "lwip 2.2" ;;
    libsodium) echo "libsodium 1.0.18 or a later 1.0" ;;
    esac
}

# 0 when the directory holds the source of a version that can be used.
mbedtls_usable() {
    info=$1/include/mbedtls/build_info.h
    [ -f "$info" ] && [ -f "$1/library/ssl_tls.c" ] && [ -f "$1/library/ssl_msg.c" ] &&
        [ -f "$1/3rdparty/everest/library/x25519.c" ] || return 1
    version=$(sed -n 's/^#define MBEDTLS_VERSION_STRING  *"\(.*\)".*/\1/p' "$info")
    case $version in
    3.6.*) [ "${version##*.}" -ge "$mbedtls_patch_min" ] 2>/dev/null ;;
    *) return 1 ;;
    esac
}

# The mirror that the machine itself uses for its own release; among several the one called debian.
debian_mirror() {
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release 2>/dev/null | tr -d '"')
    mirrors=$(apt-get --print-uris update 2>/dev/null |
        sed -n "s|^'\(.*\)/dists/$codename/main/.*|\1|p" | sort -u)
    echo "$mirrors" | grep 'debian/*$' || echo "$mirrors"
}

# apt-get with lists, cache and sources of its own below $state.
private_apt() {
    apt-get -q \
        -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=- \
        -o Dir::State="$state/state" -o Dir::State::Lists="$state/lists" \
        -o Dir::Cache="$state/cache" -o APT::Sandbox::User="$(id -un)" \
        -o APT::Get::List-Cleanup=false "$@"
}

# 0 when the directory holds the source of a version that can be used.
lwip_usable() {
    init=$1/src/include/lwip/init.h
    [ -f "$init" ] && [ -f "$1/src/core/udp.c" ] && [ -f "$1/src/netif/ethernet.c" ] || return 1
    version=$(awk '/^#define LWIP_VERSION_(MAJOR|MINOR|REVISION)/ { v = v d $3; d = "." }
        END { print v }' "$init")
    case $version in
    2.2.*) return 0 ;;
    *) return 1 ;;
    esac
}

# 0 when the directory holds the source of a version that can be used.
libsodium_usable() {
    ed25519=$1/src/libsodium/crypto_core/ed25519/ref10/ed25519_ref10.c
    [ -f "$ed25519" ] && [ -f "$1/configure.ac" ] || return 1
    version=$(sed -n 's/^AC_INIT(\[libsodium\],\[\([0-9.]*\)\].*/\1/p' "$1/configure.ac")
    case $version in
    1.0.*) [ "${version##*.}" -ge 18 ] 2>/dev/null ;;
    *) return 1 ;;
    esac
}

# The source of one package of Debian's; NAME_usable looks whether a tree of it can be used.
fetch_source() {
    name=$1
    variable=$(echo "$name" | tr '[:lower:]' '[:upper:]')_DIR
    command -v apt-get >/dev/null 2>&1 || die "no apt-get here to fetch $name with.
Unpack an upstream release, $(wanted "$name"), and pass $variable=its directory."
    mirror=$(debian_mirror | head -n 1)
    [ -n "$mirror" ] || die "found no Debian mirror in this machine's apt configuration.
Unpack $(wanted "$name") yourself and pass $variable=its directory."
    keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    [ -f "$keyring" ] || die "$keyring is missing: install debian-archive-keyring"
    mkdir -p "$deps" || exit 1
    state=$(mktemp -d "$deps/fetch.XXXXXX") || exit 1
    trap 'rm -rf "$state"' EXIT
    trap 'exit 130' INT TERM HUP
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/state" "$state/get" \
        "$state/unpacked"
    : >"$state/state/status"
    echo "deb-src [signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
    echo "deps.sh: fetching the source of $name from Debian $suite"
    if ! { private_apt update && cd "$state/get" &&
        private_apt source --download-only "$name"; } >"$state/log" 2>&1 </dev/null; then
        tail -n 20 "$state/log" >&2
        die "could not fetch $name from suite $suite.
Without network, unpack $(wanted "$name") yourself and pass $variable=its directory."
    fi
    unpack_source
}

# Unpacks beside the final place and renames, so that no half-unpacked tree is ever found there.
unpack_source() {
    tarball=$(find "$state/get" -name "${name}_*.orig.tar.*" ! -name '*.asc' | head -n 1)
    [ -n "$tarball" ] || die "Debian $suite has no upstream tarball of $name"
    tar -C "$state/unpacked" --no-same-owner --strip-components=1 -xf "$tarball" ||
        die "could not unpack $(basename "$tarball")"
    "${name}_usable" "$state/unpacked" ||
        die "Debian $suite has $name ${version:-of unknown version}; needed is $(wanted "$name")"
    # Another run may have been faster; then its tree serves as well.
    "${name}_usable" "$deps/$name" ||
        { rm -rf "${deps:?}/$name" && mv -T "$state/unpacked" "$deps/$name"; }
    "${name}_usable" "$deps/$name" || die "could not put the source into $deps/$name"
    cd "$root" || exit 1
    rm -rf "$state"
    echo "deps.sh: $name $version is in build/deps/$name"
}

# A tree of the caller's, the one that is there, or a fresh one.
get_source() { # name, the caller's tree or ""
    if [ -n "$2" ]; then
        "${1}_usable" "$2" ||
            die "$2 is not the source of $(wanted "$1")${version:+ (it is $version)}"
        return
    fi
    "${1}_usable" "$deps/$1" || fetch_source "$1"
}
get_mbedtls() { get_source mbedtls "${MBEDTLS_DIR:-}"; }
get_lwip() { get_source lwip "${LWIP_DIR:-}"; }
get_libsodium() { get_source libsodium "${LIBSODIUM_DIR:-}"; }

version=
case ${1:-} in
build | bench | test | lint | firmware)
    case $1 in
    build) wanted=$packages_build ;;
    bench) wanted=$packages_bench ;;
    test) wanted=$packages_test ;;
    lint) wanted=$packages_lint ;;
    firmware) wanted=$packages_firmware ;;
    esac
    # shellcheck disable=SC2086
    install_packages $wanted
    get_mbedtls
    case $1 in test | lint | firmware) get_lwip ;; esac
    case $1 in firmware) get_libsodium ;; esac
    ;;
portable)
    # shellcheck disable=SC2086
    install_packages $packages_portable
    ;;
mbedtls) get_mbedtls ;;
lwip) get_lwip ;;
libsodium) get_libsodium ;;
-h | --help) sed -n '2,/^set/{s/^# \{0,1\}//;/^set/d;p;}' "$0" ;;
*)
    echo "usage: tools/deps.sh build|bench|test|lint|portable|firmware|mbedtls|lwip|libsodium" >&2
    exit 2
    ;;
esac
