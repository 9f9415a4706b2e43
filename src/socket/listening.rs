//! Where a socket listens, and how it stops to.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Arc;

use super::{Socket, UserCheck, checks, curve, retry_on_eintr, socket_error};
use crate::endpoint::{Listener, SocketFile};
use crate::error::Error;

/// What a socket needs to want keys of who connects.
pub(crate) struct ServerKeys<'a> {
    pub secret: &'a curve::Key,
    /// The domain about which the ZAP handler is asked. It is not empty: with an empty one everybody
    /// would be served.
    pub domain: &'a str,
    /// Hears of those that the ZAP handler lets in.
    pub check: Option<Arc<Box<dyn UserCheck>>>,
}

impl Socket {
    /// Accepts connections from `listeners`. Returns the bound endpoints, with the ports that the
    /// system chose for `*`, and the files of ipc endpoints, which are removed when dropped.
    ///
    /// With keys, tcp endpoints want some. Who may connect to an ipc one is what its file says.
    pub fn listen(
        &self,
        listeners: Vec<Listener>,
        keys: Option<ServerKeys<'_>>,
    ) -> Result<(Vec<String>, Vec<SocketFile>), Error> {
        let (mut endpoints, mut files) = (vec![String::new(); listeners.len()], Vec::new());
        let (tcp, ipc): (Vec<_>, Vec<_>) =
            listeners.into_iter().enumerate().partition(|(_, listener)| listener.is_tcp());
        let mut hand_over = |listeners: Vec<(usize, Listener)>| {
            listeners.into_iter().try_for_each(|(number, listener)| {
                let (endpoint, file) = self.accept_from(listener)?;
                endpoints[number] = endpoint;
                files.extend(file);
                Ok::<_, Error>(())
            })
        };
        // An endpoint keeps the settings that the socket had then.
        hand_over(ipc)?;
        keys.map_or(Ok(()), |keys| self.use_keys(keys))?;
        hand_over(tcp)?;
        Ok((endpoints, files))
    }

    fn accept_from(&self, listener: Listener) -> Result<(String, Option<SocketFile>), Error> {
        let is_inherited = listener.is_inherited();
        let Listener { fd, endpoint, name, file, .. } = listener;
        self.set_option(zmq_sys::ZMQ_USE_FD, fd.as_raw_fd())?;
        self.set_option(zmq_sys::ZMQ_HOLDABLE, c_int::from(is_inherited))?;
        let cannot = |error| socket_error(&format!("cannot listen on {endpoint}"), error);
        // The descriptor is bound already; libzmq reads only the transport and the path.
        retry_on_eintr(|| self.inner.bind(&name)).map_err(cannot)?;
        // libzmq closes it from here on.
        let _ = fd.into_raw_fd();
        self.set_option(zmq_sys::ZMQ_USE_FD, -1)?;
        let bound = self.inner.get_last_endpoint().map_err(cannot)?;
        Ok((bound.unwrap_or(name), file))
    }

    /// Accepts no more connections at endpoints that were handed over: they wait for the next process.
    pub fn leave_inherited(&self) -> Result<(), Error> {
        self.set_option::<c_int>(zmq_sys::ZMQ_HOLD, 1)
    }

    /// Accepts no more connections, and reads no more from those that there are. All that was read
    /// can be received after this.
    pub fn stop_reading(&self) -> Result<(), Error> {
        self.set_option::<c_int>(zmq_sys::ZMQ_HOLD, 2)?;
        self.drained.set(false);
        Ok(())
    }

    /// Has endpoints where the socket listens from now on want keys: CURVE, and the ZAP handler's
    /// word.
    fn use_keys(&self, ServerKeys { secret, domain, check }: ServerKeys<'_>) -> Result<(), Error> {
        self.set(|s| s.set_curve_server(true))?;
        self.set(|s| s.set_curve_secretkey(secret))?;
        // With an empty domain, or if nobody answers for it, libzmq lets everybody in.
        self.set(|s| s.set_zap_domain(domain))?;
        self.set_option(zmq_sys::ZMQ_ZAP_ENFORCE_DOMAIN, 1)?;
        if let Some(check) = check {
            self.set_option(zmq_sys::ZMQ_USER_CHECK, checks::user_option(&check))?;
            self._context.keep(check);
        }
        Ok(())
    }
}
