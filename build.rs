//! Refuses to build with any libzmq but the one in this tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // The patches that zmq-sys/build.rs has applied.
    let patches = std::env::var("DEP_ZMQ_PATCHES").unwrap_or_default();
    assert!(
        !patches.is_empty(),
        "repd builds only with the zmq-sys of its own tree: any client can crash a libzmq without \
         the patches in zmq-sys/patches, or take the replies of others; see zmq-sys/README.md"
    );
}
