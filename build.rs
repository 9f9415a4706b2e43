//! Refuses to build over another libzmq than the one in this tree.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // What zmq-sys/build.rs says that it has applied.
    let patches = std::env::var("DEP_ZMQ_PATCHES").unwrap_or_default();
    assert!(
        !patches.is_empty(),
        "repd builds with the zmq-sys and the libzmq of its own tree alone: any client can crash or rob a libzmq without \
         the patches in zmq-sys/patches; see zmq-sys/README.md"
    );
}
