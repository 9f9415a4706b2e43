#!/usr/bin/env bash
# build-static.sh TARGET: builds a static repd for x86_64-unknown-linux-gnu or
# aarch64-unknown-linux-gnu, on Debian 12 for x86_64, only with Debian's packages. Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() { echo "error: $1; give x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu" >&2; exit 2; }
[ $# = 1 ] || usage "cannot build $# targets"
target=$1
packages=(g++ make cargo-web rustc-web)
case $target in
    x86_64-unknown-linux-gnu) packages+=(libstd-rust-web-dev:amd64) ;;
    aarch64-unknown-linux-gnu) packages+=(libstd-rust-web-dev:arm64 g++-aarch64-linux-gnu) ;;
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
# Fixed addresses, as in Debian's static libraries. --target is needed even for this machine's own
# target: without it the flags would also hold for build scripts and macros, which cannot be linked
# like that.
export RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static"
/usr/bin/cargo build --release --locked --target "$target" >&2

binary=${CARGO_TARGET_DIR:-target}/$target/release/repd
# A binary that loads a library would fail only on another machine.
headers=$(readelf --program-headers --wide "$binary")
case $headers in *INTERP*)
    echo "error: $binary is not static" >&2
    exit 1
    ;;
esac
echo "$binary"
