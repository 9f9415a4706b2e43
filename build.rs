//! Refuses to build with any libzmq but the one in this tree, and has the linker keep the program
//! small.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The patches that zmq-sys/build.rs has applied.
    let patches = env::var("DEP_ZMQ_PATCHES").unwrap_or_default();
    assert!(
        !patches.is_empty(),
        "repd builds only with the zmq-sys of its own tree: any client can crash a libzmq without \
         the patches in zmq-sys/patches, or take the replies of others; see zmq-sys/README.md"
    );
    if can_pack_relocations() {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// Returns true if the program will be loaded by what knows packed relocations: glibc since 2.36. They
/// take 6 KB instead of 110.
fn can_pack_relocations() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|it| it == value);
    let is_static = env::var("CARGO_CFG_TARGET_FEATURE")
        .is_ok_and(|it| it.split(',').any(|it| it == "crt-static"));
    // Of another machine's glibc nothing is known.
    let is_native = env::var("HOST") == env::var("TARGET");
    is("CARGO_CFG_TARGET_ENV", "gnu") && is_native && !is_static && glibc() >= Some((2, 36))
}

/// Returns the version of this system's glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
