//! A program that is running: how it is started, watched and ended. It and all that it starts are one
//! process group.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::{CLOSE_RANGE_CLOEXEC, SYS_close_range, SYS_pidfd_open, c_uint, syscall};
use nix::poll::{PollFd, PollFlags};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid, getppid};

use crate::descriptor::{poll, unblock};

/// How long a program has to end when its standard input is closed, and again when it is asked to by
/// SIGTERM.
const GRACE: Duration = Duration::from_secs(1);

/// The groups that are running, for [`kill_all`].
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

pub(crate) struct Process {
    child: Child,
    /// None once it is closed.
    pub stdin: Option<ChildStdin>,
    pub stdout: ChildStdout,
    /// Readable when the program has ended: its output may be kept open by a child of its own.
    exit: OwnedFd,
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
        let parent = getpid();
        let prepare = move || {
            // Our own descriptors are closed anyway; these are of who started us. An old kernel cannot.
            // SAFETY: it marks descriptors, and closes none before the program begins.
            unsafe { syscall(SYS_close_range, 3, c_uint::MAX, CLOSE_RANGE_CLOEXEC) };
            set_pdeathsig(Signal::SIGKILL)?;
            // One that died before that does not count any more.
            if getppid() == parent { Ok(()) } else { Err(Errno::ESRCH.into()) }
        };
        // SAFETY: between fork and exec it makes three system calls, and allocates nothing.
        unsafe { command.pre_exec(prepare) };
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = command.spawn()?;
        running.push(group(&child));
        drop(running);
        watch(&mut child)
            .or_else(|error| end(&mut child).and(Err(error)))
            .map(|(stdin, stdout, exit)| Process { child, stdin: Some(stdin), stdout, exit })
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
        if ended {
            end(&mut self.child)?;
        } else {
            self.kill()?;
        }
        Ok(ended)
    }

    /// Ends the group: asks by SIGTERM, and after a moment by SIGKILL, which nobody can refuse. Gives how
    /// the program ended.
    pub fn kill(mut self) -> io::Result<ExitStatus> {
        // One that is gone already cannot be asked.
        let _ = killpg(group(&self.child), Signal::SIGTERM);
        self.wait(Instant::now() + GRACE)?;
        end(&mut self.child)
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

/// Kills what is left of a group, and only then takes notice of its leader's end: until that the
/// system gives its number to no other.
fn end(child: &mut Child) -> io::Result<ExitStatus> {
    let group = group(child);
    let _ = killpg(group, Signal::SIGKILL);
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner).retain(|other| *other != group);
    child.wait()
}

/// Kills every program that is running, and all that they started.
pub(crate) fn kill_all() {
    for group in RUNNING.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let _ = killpg(*group, Signal::SIGKILL);
    }
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
    // SAFETY: no conditions.
    let exit = unsafe { syscall(SYS_pidfd_open, child.id(), 0) };
    if exit == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made it, for nobody else.
    let exit = unsafe { OwnedFd::from_raw_fd(exit as i32) };
    Ok((stdin, stdout, exit))
}
