//! What a program inherits from this process: as little as possible.
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

use super::rlimit::initial_limits;
use super::secrecy;

/// Variables that are meant for this process alone: sd_notify(3), sd_listen_fds(3),
/// systemd.exec(5).
const PRIVATE_VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
];

/// Says where the service's own key may be (systemd.exec(5)).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Has the program inherit nothing that is meant for this process, and has the system kill it when
/// the thread that starts it ends.
pub(crate) fn limit_inheritance(command: &mut Command) {
    for name in PRIVATE_VARIABLES {
        command.env_remove(name);
    }
    if secrecy::has_begun() {
        command.env_remove(CREDENTIALS);
    }
    let parent = getpid();
    let inherited = Inherited::now();
    let prepare = move || {
        inherited.reset();
        set_pdeathsig(Signal::SIGKILL)?;
        // The signal is not sent for a parent that has ended before the call.
        if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: between fork and exec it makes only system calls, and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}

/// What a program would inherit from this process, and how to reset it.
#[derive(Clone, Copy)]
struct Inherited {
    /// The highest open descriptor, or `None` if close_range(2) can mark them all at once.
    last: Option<c_int>,
    /// The soft and the hard limit of open files that this process was started with.
    files: (rlim_t, rlim_t),
}

impl Inherited {
    fn now() -> Inherited {
        static HAS_CLOSE_RANGE: OnceLock<bool> = OnceLock::new();
        // A range without descriptors, as a trial: Linux has this flag since 5.11, and a sandbox
        // may forbid the call.
        let has_close_range = HAS_CLOSE_RANGE.get_or_init(|| set_cloexec_from(c_uint::MAX));
        let last = || {
            let open = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            open.filter_map(|fd| fd.file_name().to_str()?.parse().ok()).max().unwrap_or(1 << 16)
        };
        Inherited { last: (!has_close_range).then(last), files: initial_limits() }
    }

    /// Resets what is inherited to what this process was started with, or to the default. Called
    /// between fork and exec.
    fn reset(self) {
        // Only for descriptors that this process has inherited itself: it opens its own with
        // CLOEXEC.
        match self.last {
            None => drop(set_cloexec_from(3)),
            Some(last) => (3..=last).for_each(|fd| {
                // SAFETY: as in `set_cloexec_from`. For a descriptor that is not open the call
                // fails.
                unsafe { fcntl(fd, F_SETFD, FD_CLOEXEC) };
            }),
        }
        let (rlim_cur, rlim_max) = self.files;
        // SAFETY: the call reads the limits, which live until it returns.
        unsafe { setrlimit(RLIMIT_NOFILE, &rlimit { rlim_cur, rlim_max }) };
        // Ambient capabilities, such as the one for ports below 1024, are not for programs
        // (capabilities(7)).
        // SAFETY: no conditions.
        unsafe { prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
        for number in 1..=SIGRTMAX() {
            // SAFETY: no handler is set. For a signal that cannot be changed the call fails.
            unsafe { signal(number, SIG_DFL) };
        }
    }
}

/// Has the descriptors from `first` on closed at exec (close_range(2)). Returns false if the system
/// does not support that.
fn set_cloexec_from(first: c_uint) -> bool {
    // SAFETY: with this flag no descriptor is closed before exec.
    unsafe { syscall(SYS_close_range, first, c_uint::MAX, CLOSE_RANGE_CLOEXEC) == 0 }
}

/// Resets SIGCHLD to its default if this process was started with it ignored: the system would not
/// keep the exit statuses of programs.
pub(crate) fn reset_ignored_sigchld() {
    // SAFETY: the first call only reads the action. The second sets no handler, and replaces none.
    unsafe {
        let mut current: sigaction = std::mem::zeroed();
        if sigaction(SIGCHLD, std::ptr::null(), &mut current) == 0
            && (current.sa_sigaction == SIG_IGN || current.sa_flags & SA_NOCLDWAIT != 0)
        {
            signal(SIGCHLD, SIG_DFL);
        }
    }
}
