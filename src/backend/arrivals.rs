//! When the requests on a lane came to the service: told to the worker, in their order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Shared by a lane and its worker. No channel: the code of one would be larger than all of this.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals(Arc<Mutex<VecDeque<Instant>>>);

impl Arrivals {
    /// Tells when the next request of the lane came, before that is sent.
    pub fn push(&self, arrived: Instant) {
        self.queue(|queue| queue.push_back(arrived));
    }

    /// Returns when the next request came that the worker receives; `None` if it was not told.
    pub fn pop(&self) -> Option<Instant> {
        self.queue(VecDeque::pop_front)
    }

    fn queue<T>(&self, change: impl FnOnce(&mut VecDeque<Instant>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
