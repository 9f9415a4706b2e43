//! What the zmq crate needs of libzmq's C interface, over a libzmq built with CURVE.

// Named only so that libsodium's link arguments come along.
extern crate libsodium_sys as _;

pub mod errno;

#[allow(non_camel_case_types, non_snake_case, dead_code, clippy::all)]
mod ffi;

pub use ffi::*;
pub use std::os::fd::RawFd;

/// Socket options that the patches add (README.md).
pub const ZMQ_MAX_CONNECTIONS: u32 = 1001;
pub const ZMQ_MAX_HANDSHAKES: u32 = 1002;
pub const ZMQ_MAX_HANDSHAKES_FROM: u32 = 1003;

extern "C" {
    #[link_name = "zmq_errno"]
    fn raw_errno() -> libc::c_int;
}

/// libzmq's error number, as one that the zmq crate knows: it panics at any other.
///
/// # Safety
/// None: C's own function is marked so.
pub unsafe fn zmq_errno() -> libc::c_int {
    // SAFETY: no conditions.
    errno::known(unsafe { raw_errno() })
}

/// Of a context, whether messages may lie in what was read from the network (default 1): zmq_draft.h of libzmq.
pub const ZMQ_ZERO_COPY_RECV: u32 = 10;
/// The bytes of a message, all its frames together, that are taken: an `int64_t`; -1 for any number. Of a longer
/// one so much is received as shows that it is longer; from four times that its sender is cut off.
pub const ZMQ_MAX_MESSAGE_BYTES: u32 = 1011;
/// Likewise its frames: an `int`.
pub const ZMQ_MAX_MESSAGE_FRAMES: u32 = 1012;
/// How many bytes of one peer may be unread before it is read no further: an `int64_t`; 0 for any number.
pub const ZMQ_RCVHWM_BYTES: u32 = 1013;
/// How many bytes may be unsent for one peer before no more is taken for it: an `int64_t`; 0 for any number.
pub const ZMQ_SNDHWM_BYTES: u32 = 1014;
/// How many bytes of all peers that were accepted may be unread before one that has something unread is read no
/// further: an `int64_t`; 0 for any number.
pub const ZMQ_RCVHWM_ALL_BYTES: u32 = 1015;
/// Read only: how many peers were cut off, since their message was far beyond its bounds: an `int`.
pub const ZMQ_CUT_OFF: u32 = 1016;
/// Read only: the address of the last one, a string.
pub const ZMQ_LAST_CUT_OFF: u32 = 1017;
/// Read only: how many peers broke the protocol in another way, or are of another kind: an `int`.
pub const ZMQ_REFUSED: u32 = 1018;
/// Read only: the address of the last one, a string.
pub const ZMQ_LAST_REFUSED: u32 = 1019;
/// Read only: how many peers named a routing id that is that of another: an `int`.
pub const ZMQ_NAMESAKES: u32 = 1020;
/// Read only: the address of the last one, a string.
pub const ZMQ_LAST_NAMESAKE: u32 = 1021;
