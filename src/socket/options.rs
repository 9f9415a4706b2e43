//! Options of a socket, those of the patches too.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use super::{Socket, last_error, milliseconds, retry_on_eintr, socket_error};
use crate::error::Error;

impl Socket {
    /// Sets an option that the `zmq` crate has no call for. The value is of the type that
    /// zmq_setsockopt(3), or `zmq_sys` for an option of the patches, says.
    pub(super) fn set_option<T: Copy>(&self, option: u32, value: T) -> Result<(), Error> {
        self.set_slice(option, &[value])
    }

    /// Sets one whose value has a length of its own.
    pub(super) fn set_slice<T: Copy>(&self, option: u32, value: &[T]) -> Result<(), Error> {
        let (start, size) = (value.as_ptr().cast(), size_of_val(value));
        // SAFETY: the socket is live; libzmq reads the value once it has checked its size.
        let rc = unsafe { zmq_sys::zmq_setsockopt(self.raw, option as c_int, start, size) };
        if rc == 0 { Ok(()) } else { Err(socket_error("cannot set up a socket", last_error())) }
    }

    /// Returns the number of peers that were disconnected for a message far over its limits.
    pub fn cut_off_count(&self) -> Result<c_int, Error> {
        self.get_int(zmq_sys::ZMQ_CUT_OFF)
    }

    /// Returns the number of connections that its listeners hold.
    pub fn connections(&self) -> Result<usize, Error> {
        Ok(self.get_int(zmq_sys::ZMQ_CONNECTIONS)?.unsigned_abs() as usize)
    }

    /// Returns the value of an int option, or 0 if the context is shut down.
    pub(super) fn get_int(&self, option: u32) -> Result<c_int, Error> {
        let mut value: c_int = 0;
        let mut size = size_of::<c_int>();
        self.get_option(option, (&raw mut value).cast(), &mut size)?;
        Ok(value)
    }

    /// Returns the value of a string option of up to 255 bytes.
    pub(super) fn get_string(&self, option: u32) -> Result<String, Error> {
        let mut text = [0_u8; 256];
        let mut size = text.len();
        self.get_option(option, (&raw mut text).cast(), &mut size)?;
        Ok(String::from_utf8_lossy(&text[..size.saturating_sub(1)]).into_owned())
    }

    /// Reads an option into `value`, which has `size` bytes, and sets `size` to the option's size.
    /// Returns false, and leaves both unchanged, if the context is shut down.
    pub(super) fn get_option(
        &self,
        option: u32,
        value: *mut c_void,
        size: &mut usize,
    ) -> Result<bool, Error> {
        // SAFETY: the socket is live, and libzmq writes no more than `size` bytes, which are there.
        let rc = unsafe { zmq_sys::zmq_getsockopt(self.raw, option as c_int, value, size) };
        if rc == 0 {
            return Ok(true);
        }
        match last_error() {
            zmq::Error::ETERM => Ok(false),
            error => Err(socket_error("cannot read the state of a socket", error)),
        }
    }

    /// Sets how long unsent messages may take to leave once the socket is closed.
    pub fn set_linger(&self, time: Duration) -> Result<(), Error> {
        self.set(|s| s.set_linger(milliseconds(time)))
    }

    /// Sets an option by the `zmq` crate's call for it.
    pub(super) fn set(
        &self,
        option: impl Fn(&zmq::Socket) -> zmq::Result<()>,
    ) -> Result<(), Error> {
        retry_on_eintr(|| option(&self.inner))
            .map_err(|error| socket_error("cannot set up a socket", error))
    }
}
