//! A program that is running: how it is started, watched and ended. It and all that it starts are one
//! process group.

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
use crate::sys::fd::{poll, unblock};
use crate::sys::{pidfd, spawn};

/// How long a program has to end when its standard input is closed, and again when it is asked to by
/// SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

const A_LITTLE: Duration = Duration::from_millis(100);

/// The groups that are running, for [`kill_all`].
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Held while a program is started, so that it is among these before it is taken for an orphan. Not theirs: a start may
/// take long, and [`kill_all`] must not wait for it.
static STARTING: Mutex<()> = Mutex::new(());

pub(crate) struct Process {
    child: Child,
    /// None once it is closed.
    pub stdin: Option<ChildStdin>,
    pub stdout: ChildStdout,
    /// Readable when the program has ended: its output may be kept open by a child of its own.
    exit: OwnedFd,
}

/// Sees that programs can be started, watched and waited for by this process.
///
/// # Errors
/// The system does not let it watch processes.
pub(super) fn prepare() -> Result<(), Error> {
    pidfd::open(getpid()).map_err(|error| {
        Error::config("cannot watch over programs")
            .because(format!("pidfd_open: {}", plain(error)))
            .remedy("Linux 5.3 or later is needed, and that a container allows this call")
    })?;
    spawn::heed_ends();
    if getpid() == Pid::from_raw(1) {
        let thread = Builder::new().name("orphans".into()).spawn(reap_orphans);
        thread.map_err(|error| Error::of_system("cannot look after orphans", error))?;
    }
    Ok(())
}

/// Takes notice of the ends of processes that nobody else will, as the first process of a container is to: children of
/// programs that have ended.
fn reap_orphans() {
    loop {
        let ended = waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        let pid = ended.ok().and_then(|status| status.pid());
        let starting = STARTING.lock();
        match pid.filter(|pid| !lock().contains(pid)) {
            Some(orphan) => drop(waitpid(orphan, Some(WaitPidFlag::WNOHANG))),
            None => {
                drop(starting);
                // There is no child, or its worker is about to take notice.
                sleep(A_LITTLE);
            }
        }
    }
}

impl Process {
    /// Starts `command` with these variables beside those of this process. It is to be called in a
    /// thread that lives as long as the program may: the system kills the program when it ends.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(
        command: &[String],
        variables: &[(&str, String)],
        stderr: impl Into<Stdio>,
    ) -> io::Result<Process> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(stderr).process_group(0);
        spawn::inherit_little(&mut command);
        let starting = STARTING.lock();
        let mut child = command.spawn()?;
        lock().push(group(&child));
        drop(starting);
        match watch(&mut child) {
            Ok((stdin, stdout, exit)) => Ok(Process { child, stdin: Some(stdin), stdout, exit }),
            Err(error) => {
                let _ = child.kill();
                reap(&mut child).and(Err(error))
            }
        }
    }

    /// Readable when the program has ended.
    pub fn exit(&self) -> BorrowedFd<'_> {
        self.exit.as_fd()
    }

    /// Closes its standard input, and waits a moment for it to end by itself, which is as it should be.
    /// Whether it did. What else there is of its group is killed.
    pub fn finish(mut self) -> io::Result<bool> {
        self.stdin = None;
        let ended = self.wait(Instant::now() + GRACE)?;
        self.kill().map(|_| ended)
    }

    /// Ends the group: asks by SIGTERM, and after a moment by SIGKILL, which nobody can refuse. Gives how
    /// the program ended, if it had by itself.
    ///
    /// # Errors
    /// It has not ended all the same: it left the group, or is another user's, and is left alone.
    pub fn kill(mut self) -> io::Result<Option<ExitStatus>> {
        self.stdin = None;
        let by_itself = self.wait(Instant::now())?;
        let group = group(&self.child);
        // One that is gone already cannot be asked.
        let _ = killpg(group, Signal::SIGTERM);
        let _ = self.wait(Instant::now() + GRACE);
        // The group first: until its leader's end is taken notice of, no other gets its number.
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.kill();
        if !self.wait(Instant::now() + GRACE)? {
            return Err(io::ErrorKind::TimedOut.into());
        }
        reap(&mut self.child).map(|status| by_itself.then_some(status))
    }

    /// Whether it ends by itself, now that its output is closed: the one comes a little before the other.
    pub fn is_ending(&self) -> bool {
        self.wait(Instant::now() + A_LITTLE).unwrap_or(false)
    }

    /// Closes its standard input and takes back what was written there and nobody has read: from then on
    /// nobody will. Returns how many bytes that is.
    ///
    /// # Errors
    /// The system does not open the pipe's other end, as without a /proc (proc_pid_fd(5)).
    pub fn take_back(&mut self) -> io::Result<usize> {
        let Some(stdin) = self.stdin.take() else { return Ok(0) };
        let path = format!("/proc/self/fd/{}", stdin.as_raw_fd());
        let mut pipe = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let mut unread = Vec::new();
        // It ends with the pipe, or, while that is still open here, with nothing more in it.
        match pipe.read_to_end(&mut unread) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(unread.len()),
        }
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ended before that time.
    pub fn wait(&self, until: Instant) -> io::Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [PollFd::new(self.exit.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, Some(left))?;
            let ended = fds[0].any() != Some(false);
            if ended || left.is_zero() {
                return Ok(ended);
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Of one that was ended nothing is left to be killed here.
        if lock().contains(&group(&self.child)) {
            let _ = killpg(group(&self.child), Signal::SIGKILL);
            let _ = self.child.try_wait();
            forget(&self.child);
        }
    }
}

/// Kills every program that is running, and all that they started.
pub(crate) fn kill_all() {
    for group in lock().iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
}

fn lock() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes notice of a child's end. Until then it is known, and nobody takes it for an orphan.
fn reap(child: &mut Child) -> io::Result<ExitStatus> {
    let status = child.wait();
    forget(child);
    status
}

fn forget(child: &Child) {
    lock().retain(|other| *other != group(child));
}

fn group(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// What is needed to speak to it without waiting, and to hear of its end.
fn watch(child: &mut Child) -> io::Result<(ChildStdin, ChildStdout, OwnedFd)> {
    let stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    unblock(&stdin)?;
    unblock(&stdout)?;
    Ok((stdin, stdout, pidfd::open(group(child))?))
}
