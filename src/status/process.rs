//! What this process takes of the machine.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, rlim_t};
use nix::sys::time::TimeValLike;

/// Processor time, memory, threads and open files of this process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub cpu: Duration,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub threads: u64,
    pub open_files: u64,
    /// The soft limit of these.
    pub max_files: u64,
}

impl Process {
    /// Reads it. What cannot be read is zero.
    pub fn read() -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        // proc_pid_status(5): a name, a colon, a number, and of sizes kB.
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or(0_u64)
        };
        let usage = getrusage(UsageWho::RUSAGE_SELF).ok();
        let cpu = usage.map(|usage| usage.user_time() + usage.system_time());
        // Of 32 bits on some processors.
        let max_files: rlim_t = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        Process {
            cpu: cpu
                .and_then(|cpu| u64::try_from(cpu.num_microseconds()).ok())
                .map_or(Duration::ZERO, Duration::from_micros),
            resident_bytes: field("VmRSS") << 10,
            virtual_bytes: field("VmSize") << 10,
            threads: field("Threads"),
            open_files: open_files(),
            max_files: max_files as u64,
        }
    }
}

/// Returns the number of open files.
fn open_files() -> u64 {
    // Since Linux 6.2 it is the size of the folder. Before, that is zero, and each is looked at, the
    // folder's own descriptor too.
    match fs::metadata("/proc/self/fd").map_or(0, |folder| folder.len()) {
        0 => fs::read_dir("/proc/self/fd").map_or(0, |all| all.skip(1).count() as u64),
        count => count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_some_of_each() {
        let process = Process::read();
        assert!(process.resident_bytes > 0 && process.virtual_bytes > process.resident_bytes);
        assert!(process.threads > 0 && process.open_files > 0);
        assert!(process.open_files <= process.max_files);
    }
}
