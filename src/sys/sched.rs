//! The scheduling policy of the threads.
#![allow(unsafe_code)]

use std::io;

use log::debug;
use nix::libc::{
    SCHED_BATCH, SCHED_OTHER, SYS_sched_getscheduler, SYS_sched_setscheduler, c_int, c_long,
    syscall,
};

/// Puts this thread, and programs that it starts, under SCHED_BATCH (sched(7)).
///
/// When it is woken, it does not interrupt the thread that runs, so that the one that woke it finds
/// more to do at a time; with a free processor it starts as soon as before. If another policy was
/// chosen, as by systemd's CPUSchedulingPolicy=, or the change is not allowed, nothing changes.
pub(crate) fn use_batch_policy() {
    // System calls, since musl's functions of these names always fail.
    // SAFETY: no conditions; 0 is the calling thread.
    if unsafe { syscall(SYS_sched_getscheduler, 0) } != c_long::from(SCHED_OTHER) {
        return;
    }
    // The kernel's struct sched_param is one int, and 0 the only priority of this policy.
    let priority: c_int = 0;
    // SAFETY: the call reads an int, and `priority` is one.
    if unsafe { syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &raw const priority) } == -1 {
        debug!("cannot set the scheduling policy: {}", io::Error::last_os_error());
    }
}
