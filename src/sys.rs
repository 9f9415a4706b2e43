//! Linux: descriptors, Landlock, limits, memory, processes, scheduling, signals; and systemd.

pub(crate) mod fd;
pub(crate) mod landlock;
pub(crate) mod memory;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
pub(crate) mod nss;
pub(crate) mod pidfd;
pub(crate) mod rlimit;
pub(crate) mod sched;
pub(crate) mod secrecy;
pub(crate) mod signals;
pub(crate) mod spawn;
pub(crate) mod systemd;
#[cfg(feature = "cli")]
pub(crate) mod terminal;
