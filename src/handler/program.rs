//! A program as the handler. Each worker runs a copy of its own, which reads requests from standard
//! input and writes replies to standard output.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::{AccessFlags, access};

use crate::config::Config;
use crate::error::{Error, plain};
use crate::sys::rlimit;

mod exchange;
mod failure;
mod framing;
mod process;
mod stderr;
mod supervisor;

pub use framing::Framing;
pub(crate) use process::kill_all;
pub use supervisor::Copies;

use framing::Format;
use supervisor::Settings;

/// A program that answers requests.
#[derive(Clone, Debug)]
pub struct Program {
    /// The program's path, or its name in `PATH`, and its arguments.
    pub command: Vec<String>,
    /// The way in which requests and replies are told apart.
    pub framing: Framing,
    /// True if requests and replies may have several frames. If false, such a request gets a 400.
    /// Not with [`Framing::Lines`].
    pub multipart: bool,
}

impl Program {
    /// Returns the function that makes a worker's handler from its number, for
    /// [`Service::start`](crate::Service::start). Raises this process's limit of open files to
    /// the hard limit.
    ///
    /// # Errors
    /// Returns an error if the program does not exist or may not be executed, if `multipart` is set
    /// with [`Framing::Lines`], if this process cannot watch others (Linux before 5.3), or if it
    /// may not open enough files.
    pub fn handlers(
        &self,
        config: &Config,
    ) -> Result<impl Fn(usize) -> Copies + Clone + Send + use<>, Error> {
        self.check()?;
        process::prepare()?;
        rlimit::raise_for_programs(config)?;
        let format = Format {
            framing: self.framing,
            multipart: self.multipart,
            max_frame: config.max_message_size,
            max_frames: config.max_frames,
        };
        let settings = Settings { command: self.command.clone(), format, timeout: config.timeout };
        let settings = Arc::new(settings);
        Ok(move |worker| Copies::new(worker, Arc::clone(&settings)))
    }

    /// Checks that the program can be run.
    fn check(&self) -> Result<(), Error> {
        let name = self.command.first().map_or("", String::as_str);
        let cannot = |reason: String| Error::config(format!("cannot run {name:?}")).because(reason);
        if self.multipart && self.framing == Framing::Lines {
            return Err(Error::config("cannot use --multipart beside --framing lines")
                .remedy("use another --framing, or leave out --multipart"));
        }
        let remedy = "give a program's path, or its name in PATH";
        let path = find(name).ok_or_else(|| cannot("no such program".into()).remedy(remedy))?;
        if !path.is_file() {
            return Err(cannot("it is not a file".into()).remedy(remedy));
        }
        access(&path, AccessFlags::X_OK).map_err(|error| {
            cannot(plain(error.into()))
                .remedy("make it executable (chmod +x), or give another program")
        })?;
        match interpreter_of(&path).filter(|interpreter| !Path::new(interpreter).exists()) {
            Some(interpreter) => {
                Err(cannot(format!("its first line names {interpreter:?}, which does not exist"))
                    .remedy("correct that line; it may end in a carriage return"))
            }
            None => Ok(()),
        }
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
    let mut found: Vec<PathBuf> = found.filter(|path| path.is_file()).collect();
    let is_executable = |path: &Path| access(path, AccessFlags::X_OK).is_ok();
    found.sort_by_key(|path| !is_executable(path));
    found.into_iter().next()
}
