//! What the zmq crate needs of libzmq's C interface, over a libzmq built with CURVE.

// Named only so that libsodium's link arguments come along.
extern crate libsodium_sys as _;

pub mod errno;

#[allow(non_camel_case_types, non_snake_case, dead_code, clippy::all)]
mod ffi;

pub use ffi::*;
pub use std::os::fd::RawFd;

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
