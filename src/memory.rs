//! Memory that a burst has left behind: it goes back to the system. One of the few places with unsafe code.
#![allow(unsafe_code)]

use std::fs;
use std::time::{Duration, Instant};

/// How often it is looked after: seldom enough to cost nothing, and soon enough for the next burst of another
/// process.
const EVERY: Duration = Duration::from_secs(5);

/// How much may be left behind, in bytes: below that, giving it back costs more than it brings.
const KEPT: u64 = 16 << 20;

/// The memory of this process.
pub(crate) struct Memory {
    next: Instant,
}

impl Memory {
    pub fn new(now: Instant) -> Memory {
        Memory { next: now + EVERY }
    }

    /// Returns when [`Memory::look_after`] has something to do.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Gives memory back to the system that is not in use, if it is time and there is much of it. glibc keeps
    /// what was freed, and by now and then a message at its end all that lies before it.
    pub fn look_after(&mut self, now: Instant) {
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let resident = resident().unwrap_or(0);
        if resident > KEPT && resident.saturating_sub(in_use()) > KEPT {
            give_back();
        }
    }
}

/// Returns the resident memory of this process in bytes: proc_pid_status(5).
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}

/// Returns how many bytes are allocated: mallinfo(3).
#[cfg(target_env = "gnu")]
fn in_use() -> u64 {
    // SAFETY: no conditions.
    let info = unsafe { nix::libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: no conditions.
    unsafe { nix::libc::malloc_trim(0) };
}
