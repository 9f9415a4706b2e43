//! How the threads share the processors.
#![allow(unsafe_code)]

use std::io;

use log::debug;
use nix::libc::{
    SCHED_BATCH, SCHED_OTHER, SYS_sched_getscheduler, SYS_sched_setscheduler, c_int, c_long,
    syscall,
};

/// Puts this thread, and those that it starts from here on, under SCHED_BATCH (sched(7)): when one of
/// them has something for another, it goes on and is not interrupted, so that the other finds more to
/// do at a time. With a free processor the other begins as soon as ever.
///
/// A policy that someone chose, as by systemd's CPUSchedulingPolicy=, is left alone; and if the
/// change is not allowed, all goes on without it.
pub(crate) fn in_batches() {
    // By their numbers: musl's functions of these names fail, since POSIX means something else by them.
    // SAFETY: no conditions; 0 is the calling thread.
    if unsafe { syscall(SYS_sched_getscheduler, 0) } != c_long::from(SCHED_OTHER) {
        return;
    }
    // The kernel's struct sched_param is one number, and 0 the only priority that this policy has.
    let priority: c_int = 0;
    // SAFETY: the call reads the number that it is given, which is there.
    if unsafe { syscall(SYS_sched_setscheduler, 0, SCHED_BATCH, &raw const priority) } == -1 {
        debug!("cannot set the scheduling policy: {}", io::Error::last_os_error());
    }
}
