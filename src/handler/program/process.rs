//! A running program: how it is started, watched and ended. It leads a process group, which all
//! that it starts belongs to.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant};

use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::{Pid, getpid};

use crate::error::{Error, plain};
use crate::sys::fd::{poll, set_nonblocking};
use crate::sys::{pidfd, spawn};

/// Capacity of a pipe in bytes: pipe(7).
pub(super) const PIPE_CAPACITY: usize = 64 << 10;

/// Time that a program gets to end after its standard input is closed, and again after SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// Maximum time between the end of a program's output and its exit, if it ends by itself.
pub(super) const EXIT_DELAY: Duration = Duration::from_millis(100);

/// Interval at which the reaper looks for orphans while there is none.
const REAP_INTERVAL: Duration = Duration::from_millis(100);

/// The process groups of the running programs.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Held while a program is started, so that the reaper finds it in `RUNNING` and does not take it
/// for an orphan. A lock of its own: a start may take long, and [`kill_all`] must not wait for it.
static STARTING: Mutex<()> = Mutex::new(());

/// A program that was started. Its process group is killed when this is dropped.
pub(super) struct Process {
    child: Child,
    /// `None` once it is closed.
    pub stdin: Option<ChildStdin>,
    pub stdout: ChildStdout,
    /// A pidfd, readable once the program has ended. The end of its output does not tell: a child
    /// of the program may keep that open.
    exit_fd: OwnedFd,
}

/// Checks that this process can watch programs, and prepares it for their ends. The first process
/// of a container also starts to reap orphans.
///
/// # Errors
/// Returns an error if pidfd_open(2) is refused, or the thread that reaps orphans cannot be
/// started.
pub(super) fn prepare() -> Result<(), Error> {
    pidfd::open(getpid()).map_err(|error| {
        Error::config("cannot watch over programs")
            .with_cause(format!("pidfd_open: {}", plain(error)))
            .with_remedy("use Linux 5.3 or later, and allow this call in the container")
    })?;
    spawn::reset_ignored_sigchld();
    if getpid() == Pid::from_raw(1) {
        let thread = Builder::new().name("orphans".into()).spawn(reap_orphans);
        thread.map_err(|error| {
            Error::of_system("cannot start the thread that reaps orphans", error)
        })?;
    }
    Ok(())
}

/// Reaps the processes that lost their parent, a program, as the first process of a container must.
fn reap_orphans() {
    loop {
        let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let pid = ended.ok().and_then(|status| status.pid());
        let starting = STARTING.lock();
        match pid.filter(|pid| !running().contains(pid)) {
            Some(orphan) => drop(waitpid(orphan, Some(WaitPidFlag::WNOHANG))),
            None => {
                drop(starting);
                // There is no child, or its worker is about to reap it.
                sleep(REAP_INTERVAL);
            }
        }
    }
}

impl Process {
    /// Starts `command` with `variables` added to the environment of this process. The calling
    /// thread must live as long as the program may: the system kills the program when that thread
    /// ends.
    ///
    /// # Errors
    /// Returns the system's error.
    pub fn start(
        command: &[String],
        variables: &[(&str, String)],
        stderr: impl Into<Stdio>,
    ) -> io::Result<Process> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        spawn::limit_inheritance(&mut command);
        let starting = STARTING.lock();
        let mut child = command.spawn()?;
        running().push(group_of(&child));
        drop(starting);
        match open(&mut child) {
            Ok((stdin, stdout, exit_fd)) => {
                Ok(Process { child, stdin: Some(stdin), stdout, exit_fd })
            }
            Err(error) => {
                let _ = child.kill();
                reap(&mut child).and(Err(error))
            }
        }
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns a descriptor that is readable once the program has ended.
    pub fn exit_fd(&self) -> BorrowedFd<'_> {
        self.exit_fd.as_fd()
    }

    /// Returns true if the program has ended.
    pub fn has_exited(&self) -> io::Result<bool> {
        self.wait_for(Duration::ZERO)
    }

    /// Waits for the program to end, up to `time`. Returns true if it has ended.
    pub fn wait_for(&self, time: Duration) -> io::Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.exit_fd(), PollFlags::POLLIN)];
            poll(&mut fds, Some(left))?;
            let has_exited = fds[0].any() != Some(false);
            if has_exited || left.is_zero() {
                return Ok(has_exited);
            }
        }
    }

    /// Closes the program's standard input and takes back the bytes in it that the program has not
    /// read, so that it never will. Returns their number.
    ///
    /// # Errors
    /// Returns an error if the other end of the pipe cannot be opened, as without /proc
    /// (proc_pid_fd(5)).
    pub fn take_back(&mut self) -> io::Result<usize> {
        let Some(stdin) = self.stdin.take() else { return Ok(0) };
        let path = format!("/proc/self/fd/{}", stdin.as_raw_fd());
        let mut pipe = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let mut unread = Vec::new();
        // This process still has the writing end open, so an empty pipe would block.
        match pipe.read_to_end(&mut unread) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(unread.len()),
        }
    }

    /// Closes the program's standard input, at which it should end, and waits up to `GRACE` for
    /// that. Then kills what is left of its group. Returns true if the program ended by itself.
    ///
    /// # Errors
    /// As [`Process::terminate`].
    pub fn finish(mut self) -> io::Result<bool> {
        self.stdin = None;
        let has_exited = self.wait_for(GRACE)?;
        self.terminate().map(|_| has_exited)
    }

    /// Ends the group by SIGTERM, and by SIGKILL after `GRACE`. Returns the program's exit status
    /// if it had ended by itself, `None` if it had not.
    ///
    /// # Errors
    /// Returns an error if the program does not end even so, as one of another user. It is left
    /// alone.
    pub fn terminate(mut self) -> io::Result<Option<ExitStatus>> {
        self.stdin = None;
        let had_exited = self.has_exited()?;
        let group = group_of(&self.child);
        // Both calls fail if nothing is left of the group.
        let _ = killpg(group, Signal::SIGTERM);
        let _ = self.wait_for(GRACE);
        // Before the program is reaped: from then on another group may have its number.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.kill();
        if !self.wait_for(GRACE)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        reap(&mut self.child).map(|status| had_exited.then_some(status))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A program that was reaped is no longer in the list.
        let group = group_of(&self.child);
        if running().contains(&group) {
            let _ = killpg(group, Signal::SIGKILL);
            let _ = self.child.try_wait();
            forget(&self.child);
        }
    }
}

/// Kills every running program and all that they started. Returns true if there was one.
pub(crate) fn kill_all() -> bool {
    let running = running();
    for group in running.iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
    !running.is_empty()
}

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for `child` and returns its exit status. Until then it is in `RUNNING`, so that it is not
/// taken for an orphan.
fn reap(child: &mut Child) -> io::Result<ExitStatus> {
    let status = child.wait();
    forget(child);
    status
}

fn forget(child: &Child) {
    running().retain(|group| *group != group_of(child));
}

fn group_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Returns the child's pipes, which no longer block, and its pidfd.
fn open(child: &mut Child) -> io::Result<(ChildStdin, ChildStdout, OwnedFd)> {
    let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    set_nonblocking(&stdin)?;
    set_nonblocking(&stdout)?;
    Ok((stdin, stdout, pidfd::open(group_of(child))?))
}
