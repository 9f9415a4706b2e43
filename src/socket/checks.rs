//! Which connections a socket takes, by their addresses: asked before anything is read from them.

use std::ffi::{c_int, c_void};
use std::net::IpAddr;
use std::sync::Arc;

use nix::libc::socklen_t;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Returns true if a connection from that address is taken. It is called in libzmq's threads, and
/// must not panic.
pub(crate) type AcceptCheck = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Returns the option's value that has `check` called for as long as it lives.
pub(super) fn to_option(check: &Arc<AcceptCheck>) -> zmq_sys::zmq_accept_check_t {
    zmq_sys::zmq_accept_check_t { check: Some(call), hint: Arc::as_ptr(check).cast_mut().cast() }
}

/// # Safety
/// `hint` is an [`AcceptCheck`], and `address` a socket address of `length` bytes.
unsafe extern "C" fn call(address: *const c_void, length: usize, hint: *mut c_void) -> c_int {
    // SAFETY: see above.
    let check = unsafe { &*hint.cast::<AcceptCheck>() };
    let length = socklen_t::try_from(length).ok();
    // SAFETY: see above.
    let address = unsafe { SockaddrStorage::from_raw(address.cast(), length) };
    let v4 = address.and_then(|it| it.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())));
    let ip = v4.or(address.and_then(|it| it.as_sockaddr_in6().map(|v6| v6.ip().into())));
    c_int::from(ip.is_some_and(check))
}
