//! Memory that a burst has left behind: it goes back to the system.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// How often it is looked after: seldom enough to cost nothing, and soon enough for the next burst of another
/// process.
const EVERY: Duration = Duration::from_secs(5);

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

    /// Gives memory back to the system that is not in use, if it is time and there is much of it.
    pub fn look_after(&mut self, now: Instant) {
        if now >= self.next {
            self.next = now + EVERY;
            give_back();
        }
    }
}

/// Has glibc give back what was freed: it keeps it as long as something behind it is in use.
#[cfg(target_env = "gnu")]
fn give_back() {
    /// How much may be left behind, in bytes: below that, giving it back costs more than it brings.
    const KEPT: u64 = 16 << 20;

    let resident = resident().unwrap_or(0);
    if resident <= KEPT {
        return;
    }
    // SAFETY: no conditions: mallinfo(3).
    let info = unsafe { nix::libc::mallinfo2() };
    let in_use = (info.uordblks + info.hblkhd) as u64;
    if resident.saturating_sub(in_use) > KEPT {
        // SAFETY: no conditions: malloc_trim(3).
        unsafe { nix::libc::malloc_trim(0) };
    }
}

/// mimalloc, which a binary with musl has, gives it back by itself.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

/// Returns the resident memory of this process in bytes: proc_pid_status(5).
#[cfg(target_env = "gnu")]
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
