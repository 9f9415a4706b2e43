//! How the threads share the processors. One of the few places with unsafe code.
#![allow(unsafe_code)]

use std::io;

use log::debug;
use nix::libc::{SCHED_BATCH, SCHED_OTHER, sched_getscheduler, sched_param, sched_setscheduler};

/// Puts this thread, and those that it starts from here on, under SCHED_BATCH (sched(7)): when one of
/// them has something for another, it goes on and is not interrupted, so that the other finds more to
/// do at a time. With a free processor the other begins as soon as ever.
///
/// A policy that someone chose, as by systemd's CPUSchedulingPolicy=, is left alone; and if the
/// change is not allowed, all goes on without it.
pub(crate) fn in_batches() {
    // SAFETY: no conditions; 0 is the calling thread.
    if unsafe { sched_getscheduler(0) } != SCHED_OTHER {
        return;
    }
    // 0 is the only priority that this policy has.
    let priority = sched_param { sched_priority: 0 };
    // SAFETY: the call reads the structure that it is given, which is there.
    if unsafe { sched_setscheduler(0, SCHED_BATCH, &raw const priority) } == -1 {
        debug!("cannot set the scheduling policy: {}", io::Error::last_os_error());
    }
}
