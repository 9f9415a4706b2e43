//! What libzmq's threads ask: whether a connection from an address is taken, and whether a peer may
//! connect whose key was found good.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::net::IpAddr;
use std::slice;
use std::sync::Arc;

use nix::libc::socklen_t;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// Returns true if a connection from that address is taken. It is called in libzmq's threads, and
/// must not panic.
pub(crate) type AcceptCheck = Box<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// Hears which peers come and go, by the User-Id that the ZAP handler has given them. It is called in
/// libzmq's threads, and must not panic.
pub(crate) trait UserCheck: fmt::Debug + Send + Sync {
    /// Returns true if the peer may connect; otherwise it is refused for now, and may try again.
    fn came(&self, user_id: &str) -> bool;

    /// Takes account of the end of a connection that was not refused.
    fn gone(&self, user_id: &str);
}

/// Returns the option's value that has `check` called for as long as it lives.
pub(super) fn accept_option(check: &Arc<AcceptCheck>) -> zmq_sys::zmq_accept_check_t {
    zmq_sys::zmq_accept_check_t { check: Some(accept), hint: hint(check) }
}

/// Returns the option's value that tells `check` for as long as it lives.
pub(super) fn user_option(check: &Arc<Box<dyn UserCheck>>) -> zmq_sys::zmq_user_check_t {
    zmq_sys::zmq_user_check_t { came: Some(came), gone: Some(gone), hint: hint(check) }
}

fn hint<T>(check: &Arc<T>) -> *mut c_void {
    Arc::as_ptr(check).cast_mut().cast()
}

/// # Safety
/// `hint` is an [`AcceptCheck`], and `address` a socket address of `length` bytes.
unsafe extern "C" fn accept(address: *const c_void, length: usize, hint: *mut c_void) -> c_int {
    // SAFETY: see above.
    let check = unsafe { &*hint.cast::<AcceptCheck>() };
    let length = socklen_t::try_from(length).ok();
    // SAFETY: see above.
    let address = unsafe { SockaddrStorage::from_raw(address.cast(), length) };
    let v4 = address.and_then(|it| it.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())));
    let ip = v4.or(address.and_then(|it| it.as_sockaddr_in6().map(|v6| v6.ip().into())));
    c_int::from(ip.is_some_and(check))
}

/// # Safety
/// `hint` is a `Box<dyn UserCheck>`, and `id` has `length` bytes.
unsafe extern "C" fn came(id: *const c_void, length: usize, hint: *mut c_void) -> c_int {
    // SAFETY: see above.
    let (check, id) = unsafe { (&*hint.cast::<Box<dyn UserCheck>>(), bytes(id, length)) };
    c_int::from(str::from_utf8(id).is_ok_and(|id| check.came(id)))
}

/// # Safety
/// As of [`came`].
unsafe extern "C" fn gone(id: *const c_void, length: usize, hint: *mut c_void) {
    // SAFETY: see above.
    let (check, id) = unsafe { (&*hint.cast::<Box<dyn UserCheck>>(), bytes(id, length)) };
    if let Ok(id) = str::from_utf8(id) {
        check.gone(id);
    }
}

/// # Safety
/// There are so many bytes; there may be none at a null pointer.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> &'a [u8] {
    // SAFETY: see above.
    if length == 0 { &[] } else { unsafe { slice::from_raw_parts(start.cast(), length) } }
}
