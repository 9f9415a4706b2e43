//! What a program that is started gets from this process: as little as can be.
#![allow(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc::{
    CLOSE_RANGE_CLOEXEC, F_SETFD, FD_CLOEXEC, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL,
    RLIMIT_NOFILE, SA_NOCLDWAIT, SIG_DFL, SIG_IGN, SIGCHLD, SIGRTMAX, SYS_close_range, c_int,
    c_uint, fcntl, prctl, rlim_t, rlimit, setrlimit, sigaction, signal, syscall,
};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{getpid, getppid};

use super::rlimit::at_start;

/// Variables that are meant for this process alone: sd_notify(3), sd_listen_fds(3), systemd.exec(5).
const OURS: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// Has the program inherit nothing that is meant for this process, and be killed when the thread that starts it ends.
pub(crate) fn inherit_little(command: &mut Command) {
    for name in OURS {
        command.env_remove(name);
    }
    let parent = getpid();
    let inherited = Inherited::now();
    let prepare = move || {
        inherited.leave();
        set_pdeathsig(Signal::SIGKILL)?;
        // A parent that died before that does not count any more.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec it makes system calls alone, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// What a process inherits, and a program is not to have from this one.
#[derive(Clone, Copy)]
struct Inherited {
    /// The last descriptor, where they are to be marked one by one.
    last: Option<c_int>,
    /// The limit of open files that this process was started with.
    files: (rlim_t, rlim_t),
}

impl Inherited {
    fn now() -> Inherited {
        static MARKS_ALL: OnceLock<bool> = OnceLock::new();
        // Of no descriptor at all. Refused before Linux 5.11, or where it is forbidden.
        let marks_all = MARKS_ALL.get_or_init(|| mark_from(c_uint::MAX));
        let last = || {
            let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            open.filter_map(|fd| fd.file_name().to_str()?.parse().ok()).max().unwrap_or(1 << 16)
        };
        Inherited { last: (!marks_all).then(last), files: at_start() }
    }

    /// To be called between fork and exec.
    fn leave(self) {
        // Our own descriptors are closed anyway; these are of who started us.
        match self.last {
            None => drop(mark_from(3)),
            Some(last) => (3..=last).for_each(|fd| {
                // SAFETY: as in `mark_from`; one that is not open is refused.
                unsafe { fcntl(fd, F_SETFD, FD_CLOEXEC) };
            }),
        }
        let (rlim_cur, rlim_max) = self.files;
        // SAFETY: no conditions but that the limits are there to be read.
        unsafe { setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur, rlim_max }) };
        // Such as that for a port below 1024: capabilities(7).
        // SAFETY: no conditions.
        unsafe { prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        for number in 1..=SIGRTMAX() {
            // SAFETY: no handler is set. Those that cannot be changed are refused.
            unsafe { signal(number, SIG_DFL) };
        }
    }
}

/// Has the descriptors from that one on closed when a program begins: close_range(2). Whether the system does that.
fn mark_from(first: c_uint) -> bool {
    // SAFETY: it marks descriptors, and closes none before a program begins.
    unsafe { syscall(SYS_close_range, first, c_uint::MAX, CLOSE_RANGE_CLOEXEC) == 0 }
}

/// Has the system tell how programs end, also if this process was started with SIGCHLD ignored.
pub(crate) fn heed_ends() {
    // SAFETY: the first call only reads what is set; no handler is set, and none of somebody's is taken away.
    unsafe {
        let mut now: sigaction = std::mem::zeroed();
        if sigaction(SIGCHLD, std::ptr::null(), &mut now) == 0
            && (now.sa_sigaction == SIG_IGN || now.sa_flags & SA_NOCLDWAIT != 0)
        {
            signal(SIGCHLD, SIG_DFL);
        }
    }
}
