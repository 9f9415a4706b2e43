//! A program as the handler. Each worker runs a copy of its own, which reads requests from standard
//! input and writes replies to standard output.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};

use crate::error::{Error, plain};

mod counts;
mod exchange;
mod failure;
mod framing;
mod process;
mod reply;
mod starts;
mod stderr;
mod supervisor;

pub(crate) use counts::Counts;
pub use framing::Framing;
pub(crate) use process::kill_all;
#[cfg(any(test, fuzzing))]
pub use reply::fuzz::program_reply;
pub(crate) use supervisor::{Copies, Settings};

use framing::Format;

/// A program that answers requests, on its standard input and output.
///
/// Each worker of [`Backend::program`](crate::Backend::program) runs a copy of its own, which is
/// started again when it ends.
///
/// SIGCHLD is not ignored any more in a process that has run one. Linux 5.3 or later is needed.
///
/// ```
/// use repd::{Backend, Config, Framing, Program, Service};
///
/// // Answers each line with the same in capitals.
/// let program = Program::new(["stdbuf", "-oL", "tr", "a-z", "A-Z"]).framing(Framing::Lines);
/// let config = Config::new(Backend::program(2, program)).listen(["ipc://@shout".parse().unwrap()]);
/// let running = Service::spawn(&config).unwrap();
/// running.stop().unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Program {
    command: Vec<String>,
    framing: Framing,
    is_multipart: bool,
}

/// Limits of a program's replies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Maximum size of a reply in bytes, all frames together.
    pub bytes: usize,
    pub frames: usize,
    /// Time that it has, from when its request came.
    pub time: Duration,
}

impl Program {
    /// Makes it of the program's path, or its name in `PATH`, and its arguments. Requests and
    /// replies are told apart by [`Framing::Packet`].
    pub fn new(command: impl IntoIterator<Item = impl Into<String>>) -> Program {
        let command = command.into_iter().map(Into::into).collect();
        Program { command, framing: Framing::default(), is_multipart: false }
    }

    /// Sets how requests and replies are told apart.
    pub fn framing(self, framing: Framing) -> Program {
        Program { framing, ..self }
    }

    /// Sets whether requests and replies may have several frames: by default not, and such a
    /// request gets a 400. Not with [`Framing::Lines`].
    pub fn multipart(self, is_multipart: bool) -> Program {
        Program { is_multipart, ..self }
    }

    /// Returns what the copies of all workers have in common, of which there are that many.
    ///
    /// # Errors
    /// A program that does not exist or may not be executed, several frames with
    /// [`Framing::Lines`], or a process that cannot watch others (Linux before 5.3).
    pub(crate) fn settings(&self, limits: Limits, workers: usize) -> Result<Arc<Settings>, Error> {
        self.check()?;
        process::prepare()?;
        let format = Format {
            framing: self.framing,
            multipart: self.is_multipart,
            max_bytes: limits.bytes,
            max_frames: limits.frames,
        };
        let command = self.command.clone();
        let counts = Arc::new(Counts::new(workers));
        Ok(Arc::new(Settings { command, format, timeout: limits.time, counts }))
    }

    /// Checks that the program can be run.
    fn check(&self) -> Result<(), Error> {
        let name = self.command.first().map_or("", String::as_str);
        let cannot =
            |reason: String| Error::config(format!("cannot run {name:?}")).with_cause(reason);
        if self.is_multipart && self.framing == Framing::Lines {
            return Err(Error::config("cannot tell several frames apart in lines")
                .with_remedy("use another framing, or messages of one frame"));
        }
        let remedy = "give a program's path, or its name in PATH";
        let path = find(name)
            .ok_or_else(|| cannot("no such program".into()).with_remedy(missing_hint(name)))?;
        if !path.is_file() {
            return Err(cannot("it is not a file".into()).with_remedy(remedy));
        }
        access(&path, AccessFlags::X_OK).map_err(|error| {
            cannot(plain(error.into()))
                .with_remedy("make it executable (chmod +x), or give another program")
        })?;
        match interpreter_of(&path).filter(|interpreter| !Path::new(interpreter).exists()) {
            Some(interpreter) => {
                Err(cannot(format!("its first line names {interpreter:?}, which does not exist"))
                    .with_remedy("correct that line; it may end in a carriage return"))
            }
            None => Ok(()),
        }
    }
}

/// Returns what to do about a name that no program has.
fn missing_hint(name: &str) -> String {
    if name.contains(char::is_whitespace) {
        "give the program and each argument by itself, without quotes around all of them".into()
    } else if !name.is_empty() && !name.contains('/') && Path::new(name).is_file() {
        format!("for the file in this folder, write ./{name}")
    } else {
        "give a program's path, or its name in PATH".into()
    }
}

/// Returns the interpreter that a script names in a first line with `#!` (execve(2)), or `None` if
/// there is no such line.
fn interpreter_of(path: &Path) -> Option<String> {
    // Linux reads no more of the file for this: BINPRM_BUF_SIZE.
    let mut start = [0; 256];
    let read = File::open(path).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..read].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    words.next().map(|word| String::from_utf8_lossy(word).into_owned())
}

/// Returns the file that execvp(3) would run. If it would run none, returns the file that it would
/// refuse, or `None` if there is no file of that name.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let folders = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&folders).map(|folder| folder.join(name));
    let found: Vec<PathBuf> = found.filter(|path| path.is_file()).collect();
    let is_executable = |path: &&PathBuf| access(*path, AccessFlags::X_OK).is_ok();
    found.iter().find(is_executable).or(found.first()).cloned()
}
