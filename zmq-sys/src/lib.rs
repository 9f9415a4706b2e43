//! The part of libzmq's C interface that the zmq crate needs, over a libzmq built with CURVE.

// Unused, but it brings libsodium's link arguments.
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

/// Returns libzmq's last error number in this thread, or the nearest one that the zmq crate knows,
/// which panics at any other.
///
/// # Safety
/// No conditions. It is unsafe because the generated function that it replaces is.
pub unsafe fn zmq_errno() -> libc::c_int {
    // SAFETY: no conditions.
    errno::nearest_known(unsafe { raw_errno() })
}

extern "C" {
    /// Of a context with [`ZMQ_OWN_IO`] that has had a socket: does what there is for an I/O thread to
    /// do, without waiting; what can be read and written only if `look` is not 0, for when
    /// [`ZMQ_IO_FD`] is readable. Sets `timeout` to the number of milliseconds until it is to be called
    /// again in any case, or to -1. Returns how many sockets with [`ZMQ_OWN_SOCKET`] are to be looked
    /// at before their descriptors are waited for, or -1 and sets errno.
    ///
    /// # Safety
    /// The first pointer must be that of a live context. No two threads may call it, or
    /// `zmq_ctx_term`, at the same time.
    pub fn zmq_ctx_io_turn(
        context: *mut libc::c_void,
        look: libc::c_int,
        timeout: *mut libc::c_int,
    ) -> libc::c_int;
}

/// Context option that the patches add: with 1 it has no I/O thread, but [`zmq_ctx_io_turn`].
pub const ZMQ_OWN_IO: u32 = 100;
/// Read only: a descriptor that is readable when there is something for [`zmq_ctx_io_turn`] to do, once
/// there has been a socket.
pub const ZMQ_IO_FD: u32 = 101;

/// Context option: 1, the default, lets messages share the buffer that was read from the network; 0
/// has them copied. From `zmq_draft.h` of libzmq, as are the next.
pub const ZMQ_ZERO_COPY_RECV: u32 = 10;
/// With 1, a handshake fails if its ZAP domain is set and no handler answers: an `int`.
pub const ZMQ_ZAP_ENFORCE_DOMAIN: u32 = 93;
/// Adds a property to the handshakes of a socket: a string, `X-NAME:VALUE`.
pub const ZMQ_METADATA: u32 = 95;

// Socket options that the patches add (README.md).

/// Maximum number of connections that were accepted: an `int`; 0 for no limit.
pub const ZMQ_MAX_CONNECTIONS: u32 = 1001;
/// Maximum number of accepted connections whose handshake is not done: an `int`; 0 for no limit.
pub const ZMQ_MAX_HANDSHAKES: u32 = 1002;
/// Maximum number of such connections from one host: an `int`; 0 for no limit.
pub const ZMQ_MAX_HANDSHAKES_FROM: u32 = 1003;
/// Maximum number of bytes of a message, all its frames together: an `int64_t`; -1 for no limit. Of
/// a longer message so much is received as shows that it is longer. From four times the limit on,
/// its sender is disconnected.
pub const ZMQ_MAX_MESSAGE_BYTES: u32 = 1011;
/// Maximum number of frames of a message, with the same effect: an `int`; -1 for no limit.
pub const ZMQ_MAX_MESSAGE_FRAMES: u32 = 1012;
/// Number of unread bytes of one peer at which it is read no further: an `int64_t`; 0 for no limit.
pub const ZMQ_RCVHWM_BYTES: u32 = 1013;
/// Number of unsent bytes for one peer at which no more is taken for it: an `int64_t`; 0 for no
/// limit.
pub const ZMQ_SNDHWM_BYTES: u32 = 1014;
/// Number of unread bytes of all accepted peers together at which a peer that has something unread
/// is read no further: an `int64_t`; 0 for no limit.
pub const ZMQ_RCVHWM_ALL_BYTES: u32 = 1015;
/// Read only: the number of peers that were disconnected for a message far over its limits: an
/// `int`.
pub const ZMQ_CUT_OFF: u32 = 1016;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_CUT_OFF: u32 = 1017;
/// Read only: the number of peers that broke the protocol in another way, or whose socket type does
/// not match: an `int`.
pub const ZMQ_REFUSED: u32 = 1018;
/// Read only: the address of the last of them: a string. Of one that does not speak ZMTP a space and
/// its first four bytes, in hexadecimal digits, are behind it.
pub const ZMQ_LAST_REFUSED: u32 = 1019;
/// Read only: the number of peers that named a routing id in use by another connection: an `int`.
pub const ZMQ_NAMESAKES: u32 = 1020;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_NAMESAKE: u32 = 1021;
/// Of a ROUTER. Once it is set to 1 (an `int`), each look at it takes the routing id of the next
/// peer that has gone: binary data, empty if there are no more.
pub const ZMQ_GONE: u32 = 1022;
/// Read only: the number of connections that were closed as soon as they were accepted, because
/// they were too many: an `int`.
pub const ZMQ_TURNED_AWAY: u32 = 1023;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_TURNED_AWAY: u32 = 1024;
/// Read only: the number of peers whose security mechanism is another, such as none where keys are
/// wanted: an `int`.
pub const ZMQ_KEYLESS: u32 = 1025;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_KEYLESS: u32 = 1026;
/// Read only: the number of peers that took this socket for the one of another key: an `int`.
pub const ZMQ_WRONG_KEY: u32 = 1027;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_WRONG_KEY: u32 = 1028;
/// Which connections over TCP are taken: a [`zmq_accept_check_t`].
pub const ZMQ_ACCEPT_CHECK: u32 = 1029;
/// Read only: the number of connections that it has refused: an `int`.
pub const ZMQ_DENIED: u32 = 1030;
/// Read only: the address of the last of them: a string.
pub const ZMQ_LAST_DENIED: u32 = 1031;

/// Of a ROUTER, read only: the next of its peers, one at each look. Two bytes with the length of the
/// routing id, that, and the User-Id that the ZAP handler has said; nothing after the last one.
pub const ZMQ_PEERS: u32 = 1032;
/// Of a ROUTER: ends the connection of the peer of that routing id (binary data), once what was sent
/// to it has left.
pub const ZMQ_END: u32 = 1033;
/// Which peers may connect whose key was found good: a [`zmq_user_check_t`].
pub const ZMQ_USER_CHECK: u32 = 1034;
/// With 1, endpoints that are bound from now on accept no connection once [`ZMQ_HOLD`] is 1: an
/// `int`.
pub const ZMQ_HOLDABLE: u32 = 1035;
/// From 1 on, holdable endpoints accept no more connections; from 2 on, no endpoint does, and nothing
/// more is read of accepted peers: an `int`. Once it is set, all that was read can be received.
pub const ZMQ_HOLD: u32 = 1036;
/// Read only: the number of connections that the listeners hold: an `int`.
pub const ZMQ_CONNECTIONS: u32 = 1037;
/// Of a ROUTER that is not bound yet: with 1 it says that it is a DEALER, and names its peers itself:
/// an `int`.
pub const ZMQ_AS_DEALER: u32 = 1038;
/// Of such a ROUTER, read only: the next peer that has come, one at each look. A byte with the length
/// of its routing id, that, a byte with the length of its User-Id, that, and then its type of socket, if
/// that is known, its endpoint and its address, with spaces between; nothing if there are no more.
pub const ZMQ_COME: u32 = 1039;
/// The type of socket whose peers are taken for peers: an `int`. A DEALER with `ZMQ_REQ` takes servers
/// alone.
pub const ZMQ_PEERS_OF: u32 = 1040;
/// With 1, the socket is one of the thread that calls [`zmq_ctx_io_turn`]: an `int`.
pub const ZMQ_OWN_SOCKET: u32 = 1041;

// What the patches add to the monitors.

/// Event: the peer does not speak ZMTP. Its value is the first four bytes that it has sent, as they
/// came, with zeros for those that have not come.
pub const ZMQ_EVENT_HANDSHAKE_FAILED_NOT_ZMTP: u32 = 0x8000;
/// Value of [`ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL`]: the peer's socket is of a type that does not match.
/// The number of that is added, or 255 if it has none.
pub const ZMQ_PROTOCOL_ERROR_ZMTP_SOCKET_TYPE: u32 = 0x1000_0100;

/// The value of [`ZMQ_ACCEPT_CHECK`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)]
pub struct zmq_accept_check_t {
    /// Returns 0 if a connection from that address (a `sockaddr` of so many bytes) is to be closed.
    /// It is called in I/O threads.
    pub check: Option<
        unsafe extern "C" fn(
            address: *const libc::c_void,
            length: usize,
            hint: *mut libc::c_void,
        ) -> libc::c_int,
    >,
    /// Passed to it.
    pub hint: *mut libc::c_void,
}

/// The value of [`ZMQ_USER_CHECK`]. Both functions are called in I/O threads, with a User-Id of so
/// many bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[allow(non_camel_case_types)]
pub struct zmq_user_check_t {
    /// Returns 0 if a peer that the ZAP handler has let in is to be refused for now.
    pub came: Option<
        unsafe extern "C" fn(
            user_id: *const libc::c_void,
            length: usize,
            hint: *mut libc::c_void,
        ) -> libc::c_int,
    >,
    /// Hears that the connection has ended of one that was not refused.
    pub gone: Option<
        unsafe extern "C" fn(
            user_id: *const libc::c_void,
            length: usize,
            hint: *mut libc::c_void,
        ),
    >,
    /// Passed to them.
    pub hint: *mut libc::c_void,
}
