//! A program as the handler: each worker has a copy of its own, spoken to on its standard input and
//! output.

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
    /// The program, by its path or its name in `PATH`, and its arguments.
    pub command: Vec<String>,
    /// How requests and replies are told apart.
    pub framing: Framing,
    /// Whether the program takes requests, and gives replies, of several frames; without that, a request
    /// of several frames gets a 400. Not with [`Framing::Lines`].
    pub multipart: bool,
}

impl Program {
    /// What makes the handler of each worker of a service.
    ///
    /// # Errors
    /// A program that is not there or may not be run, or too few open files allowed for the copies.
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

    /// Looks whether it can be run.
    fn check(&self) -> Result<(), Error> {
        let name = self.command.first().map_or("", String::as_str);
        let cannot = |why: String| Error::config(format!("cannot run {name:?}")).because(why);
        if self.multipart && self.framing == Framing::Lines {
            return Err(Error::config("cannot tell several frames apart in lines")
                .remedy("use another --framing, or leave out --multipart"));
        }
        let remedy = "give a program's path, or its name in PATH";
        let path = find(name).ok_or_else(|| cannot("no such program".into()).remedy(remedy))?;
        if !path.is_file() {
            return Err(cannot("it is no file".into()).remedy(remedy));
        }
        access(&path, AccessFlags::X_OK).map_err(|error| {
            cannot(plain(error.into()))
                .remedy("make it executable (chmod +x), or give another program")
        })?;
        match interpreter(&path).filter(|interpreter| !Path::new(interpreter).exists()) {
            Some(interpreter) => {
                Err(cannot(format!("its first line names {interpreter:?}, which is not there"))
                    .remedy("mend that line; it may end in a carriage return"))
            }
            None => Ok(()),
        }
    }
}

/// What a script names as its interpreter, in a first line that begins with `#!`: execve(2).
fn interpreter(path: &Path) -> Option<String> {
    let mut start = [0; 256];
    let read = File::open(path).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..read].strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| b" \t".contains(byte)).filter(|word| !word.is_empty());
    words.next().map(|word| String::from_utf8_lossy(word).into_owned())
}

/// The file that execvp(3) would take, or would refuse if there is no better one.
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
