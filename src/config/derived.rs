//! What follows from the settings of a service.

use std::sync::Arc;

use super::{Backend, Config, MAX_ENVELOPE, MAX_HOPS, MAX_MEMORY};
use crate::auth::admits;
use crate::endpoint::{Endpoint, MAX_TARGETS};
use crate::handler::Limits;
use crate::socket::{AcceptCheck, PeerLimits};

impl Config {
    /// Returns the bound of requests and unsent replies, in bytes.
    pub(crate) fn max_memory_bytes(&self) -> usize {
        self.max_memory.unwrap_or_else(|| MAX_MEMORY.max(self.max_message_size.saturating_mul(4)))
    }

    /// Returns true if the handler is called in the loop that serves clients.
    pub(crate) fn is_single_threaded(&self) -> bool {
        matches!(&self.backend, Backend::Workers(workers) if workers.count == 0)
    }

    /// Returns how many I/O threads libzmq has; with 0 the proxy's thread does what they would. A handler
    /// in that thread would hold up the network, and so would handshakes with keys.
    pub(crate) fn io_thread_count(&self) -> usize {
        match self.io_threads {
            0 if self.is_single_threaded() || self.keys.key.is_some() => 1,
            threads => threads,
        }
    }

    /// Returns the number of workers of this process.
    pub(crate) fn worker_count(&self) -> usize {
        match &self.backend {
            Backend::Workers(workers) => workers.count,
            Backend::External(_) | Backend::Upstream(_) => 0,
        }
    }

    /// Returns the endpoints where external workers connect.
    pub(crate) fn external(&self) -> &[Endpoint] {
        match &self.backend {
            Backend::External(endpoints) => endpoints,
            Backend::Workers(_) | Backend::Upstream(_) => &[],
        }
    }

    /// Returns the endpoints of the upstreams.
    pub(crate) fn upstreams(&self) -> &[Endpoint] {
        match &self.backend {
            Backend::Upstream(endpoints) => endpoints,
            Backend::Workers(_) | Backend::External(_) => &[],
        }
    }

    /// Returns how many lanes to upstreams there may be: each address of a name has one.
    pub(crate) fn max_upstream_lanes(&self) -> usize {
        let lanes_of = |it: &Endpoint| if it.is_name() { MAX_TARGETS } else { 1 };
        self.upstreams().iter().map(lanes_of).sum()
    }

    /// Returns the limits of a program's replies.
    pub(crate) fn program_limits(&self) -> Limits {
        Limits { bytes: self.max_message_size, frames: self.max_frames, time: self.timeout }
    }

    /// Returns the limits of a client, an external worker or an upstream.
    pub(crate) fn peer_limits(&self) -> PeerLimits {
        // An envelope that is not much over its bound is answered too.
        let frames = self.max_frames + 2 * MAX_HOPS + 1;
        PeerLimits {
            heartbeat: self.heartbeat,
            message_bytes: (self.max_message_size + MAX_ENVELOPE) as i64,
            message_frames: frames as i32,
            accept_check: self.accept_check(),
        }
    }

    /// Returns what says from which addresses connections are taken; `None` if from all.
    fn accept_check(&self) -> Option<Arc<AcceptCheck>> {
        let (allow, deny) = (self.allow.clone(), self.deny.clone());
        if allow.is_empty() && deny.is_empty() {
            return None;
        }
        Some(Arc::new(Box::new(move |address| admits(&allow, &deny, address))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::reverse;

    #[test]
    fn the_proxys_thread_does_io_where_neither_a_handler_nor_a_handshake_holds_it_up() {
        let workers = |count| Config::new(Backend::workers(count, |_| reverse));
        for (config, threads) in [
            (workers(5), 0),
            (workers(0), 1),
            (workers(5).key("a file"), 1),
            (workers(5).io_threads(2), 2),
            (workers(0).io_threads(2), 2),
        ] {
            assert_eq!(config.io_thread_count(), threads, "{config:?}");
        }
    }
}
