#!/usr/bin/env bash
# build-deb.sh TARGET: builds a Debian package of the static binary, for amd64
# (x86_64-unknown-linux-gnu), arm64 (aarch64-unknown-linux-gnu) or armhf
# (armv7-unknown-linux-gnueabihf). Prints its path.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=cargo-deb@3.8.0 cache=${XDG_CACHE_HOME:-$HOME/.cache}/repd

binary=$(packaging/build-static.sh "$@")
gzip --best --no-name --stdout packaging/debian/NEWS >packaging/debian/NEWS.gz
sed --file packaging/instance.sed packaging/repd.service >packaging/repd@.service
export CARGO=/usr/bin/cargo RUSTC=/usr/bin/rustc
grep -qs "\"${tool/@/ } " "$cache/.crates.toml" || "$CARGO" install --quiet --debug --locked --root "$cache" "$tool" >&2
# The binary is built and stripped already.
export CARGO_TARGET_DIR=${binary%"/$1/release/repd"}
"$cache/bin/cargo-deb" --quiet --no-build --no-strip --target "$1"
