#!/usr/bin/env bash
# build-static.sh TARGET: builds a static repd for x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu or
# armv7-unknown-linux-gnueabihf, on Debian 12 for x86_64, only with Debian's packages. Prints its path. Beside it is
# written what is linked in, and under which licences (packaging/bill).
set -euo pipefail
cd "$(dirname "$0")/.."

targets="x86_64-unknown-linux-gnu, aarch64-unknown-linux-gnu or armv7-unknown-linux-gnueabihf"
usage() { echo "error: $1; give $targets" >&2; exit 2; }
[ $# = 1 ] || usage "cannot build $# targets"
target=$1
packages=(ca-certificates g++ make cargo-web python3 rustc-web) options=()
case $target in
    x86_64-unknown-linux-gnu) packages+=(libstd-rust-web-dev:amd64) ;;
    aarch64-unknown-linux-gnu) packages+=(libstd-rust-web-dev:arm64 g++-aarch64-linux-gnu) ;;
    armv7-unknown-linux-gnueabihf)
        # Debian's armhf libraries would do, but its security suite's index of them often does not fit its
        # checksums, and then apt reads no index at all. Stable Rust builds its library only when it is asked
        # like this.
        packages+=(rust-web-src g++-arm-linux-gnueabihf)
        options+=(-Zbuild-std=std,panic_unwind)
        # RUSTC_BOOTSTRAP has all be built again: not what others build.
        export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/bootstrap
        ;;
    *) usage "cannot build '$target'" ;;
esac
[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || {
    echo "error: cannot build here: this needs Debian for x86_64; see docs/install.md for other ways" >&2
    exit 1
}
packaging/install-missing "${packages[@]}"

# Use Debian's cargo and rustc and the target's own compilers and libraries, not those of a
# developer's environment: only these exist for the other processor.
unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER RUSTC_WORKSPACE_WRAPPER CARGO_BUILD_RUSTC_WRAPPER CARGO_BUILD_TARGET \
    CARGO_ENCODED_RUSTFLAGS CC CXX AR CFLAGS CXXFLAGS \
    SODIUM_LIB_DIR SODIUM_INCLUDE_DIR SODIUM_USE_PKG_CONFIG
export RUSTC=/usr/bin/rustc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
# Fixed addresses, as in Debian's static libraries. --target is needed even for this machine's own
# target: without it the flags would also hold for build scripts and macros, which cannot be linked
# like that.
export RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static"
# The bytes are the same wherever they are built. What RUSTFLAGS has would become a part of the symbols' names.
export RUSTC_WRAPPER=$PWD/packaging/without-paths
/usr/bin/cargo build --release --locked "${options[@]}" --target "$target" >&2

binary=${CARGO_TARGET_DIR:-target}/$target/release/repd
# A binary that loads a library would fail only on another machine.
headers=$(readelf --program-headers --wide "$binary")
case $headers in *INTERP*)
    echo "error: $binary is not static" >&2
    exit 1
    ;;
esac
CARGO=/usr/bin/cargo packaging/bill "$binary" "$target"
echo "$binary"
