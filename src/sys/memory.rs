//! Memory that a burst of requests has left free, and its return to the system.
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

/// Time between two checks: long enough for them to cost nothing, short enough that another process
/// has the memory soon.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

/// The memory of this process, and when it is checked next.
pub(crate) struct Memory {
    trim_at: Instant,
}

impl Memory {
    pub fn new(now: Instant) -> Memory {
        Memory { trim_at: now + TRIM_INTERVAL }
    }

    /// Returns when [`Memory::trim_if_due`] is to be called next.
    pub fn trim_at(&self) -> Instant {
        self.trim_at
    }

    /// Returns free memory to the system, if it is time and there is much of it.
    pub fn trim_if_due(&mut self, now: Instant) {
        if now >= self.trim_at {
            self.trim_at = now + TRIM_INTERVAL;
            trim();
        }
    }
}

/// Has glibc return free memory, which it keeps by itself as long as memory behind it is in use.
#[cfg(target_env = "gnu")]
fn trim() {
    /// Maximum number of free bytes that are kept: to return fewer costs more than it brings.
    const MAX_KEPT_BYTES: u64 = 16 << 20;

    let resident = resident().unwrap_or(0);
    if resident <= MAX_KEPT_BYTES {
        return;
    }
    // SAFETY: no conditions: mallinfo(3).
    let info = unsafe { nix::libc::mallinfo2() };
    let in_use = (info.uordblks + info.hblkhd) as u64;
    if resident.saturating_sub(in_use) > MAX_KEPT_BYTES {
        // SAFETY: no conditions: malloc_trim(3).
        unsafe { nix::libc::malloc_trim(0) };
    }
}

/// Does nothing: mimalloc, which binaries with musl use, returns free memory by itself.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

/// Returns the resident memory of this process in bytes (proc_pid_status(5)), or `None` if it
/// cannot be read.
#[cfg(target_env = "gnu")]
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? << 10)
}
