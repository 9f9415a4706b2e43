//! Files of keys, as CZMQ (zcert) and pyzmq (`zmq.auth`) write and read them: lines `name = "value"`
//! of a section `curve`. A file that holds a key and nothing else is read too.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags};

use super::key::{KeyPair, NoKey, PublicKey, SecretKey};
use crate::error::{Error, plain};
use crate::sys::fd::poll;
use crate::sys::landlock;
use crate::text::printable;

#[cfg(any(test, fuzzing))]
pub mod fuzz;

/// Maximum size of a file of keys or of a list, in bytes: ten thousand clients have room.
pub(super) const MAX_FILE: u64 = 4 << 20;

/// Reads a secret key and its public one.
///
/// # Errors
/// A file that cannot be read, that everybody may read, or that holds no secret key.
pub(crate) fn read_pair(path: &Path) -> Result<KeyPair, Error> {
    let (text, mode) = read(path)?;
    pair_in(path, &text, mode)
}

/// Returns the pair that the text of a file of that mode holds.
fn pair_in(path: &Path, text: &str, mode: u32) -> Result<KeyPair, Error> {
    let cannot = || Error::config(format!("cannot use the key in {}", path.display()));
    let found = Found::in_text(text);
    let secret = found.secret.or(found.bare).ok_or_else(|| {
        cannot()
            .with_cause("it holds no secret key")
            .with_remedy("give the file NAME.key_secret that repd keygen NAME writes")
    })?;
    if mode & 0o007 != 0 {
        return Err(cannot()
            .with_cause(format!(
                "every user may read or change it (its mode is {:04o})",
                mode & 0o7777
            ))
            .with_remedy(format!("chmod 600 {}", path.display())));
    }
    let pair = SecretKey::parse(secret).and_then(KeyPair::of);
    let pair = pair.ok_or_else(|| cannot().with_cause(NoKey))?;
    match found.public.map(str::parse::<PublicKey>) {
        Some(public) if public != Ok(pair.public) => Err(cannot()
            .with_cause("its public key is not that of its secret key")
            .with_remedy("make a new pair by repd keygen NAME")),
        _ => Ok(pair),
    }
}

/// Reads a public key.
///
/// # Errors
/// A file that cannot be read, or that holds no public key.
#[cfg(feature = "cli")]
pub(crate) fn read_public(path: &Path) -> Result<PublicKey, Error> {
    let (text, _) = read(path)?;
    let found = Found::in_text(&text);
    let key = found.public.or(found.bare).map(str::parse);
    let cannot = || Error::config(format!("cannot use the key in {}", path.display()));
    match key {
        Some(Ok(key)) => Ok(key),
        Some(Err(error)) => Err(cannot().with_cause(error)),
        None => Err(cannot()
            .with_cause("it holds no public key")
            .with_remedy("give the file NAME.key that repd keygen NAME writes")),
    }
}

/// Time in which a key must have come over a pipe: that of a person who is asked for a password.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Reads a file of text, which may be a pipe; returns its mode too.
///
/// # Errors
/// A file that cannot be read, that is too long, or that is not UTF-8.
fn read(path: &Path) -> Result<(String, u32), Error> {
    let (file, metadata) = open(path)?;
    let text = read_text(path, Waiting { file, until: Instant::now() + MAX_WAIT })?;
    Ok((text, metadata.mode()))
}

/// Reads a list, which may be read again while the service runs: nothing that may block.
///
/// # Errors
/// Those of a file; one that is none, such as a pipe; one that every user may change; or one that ends
/// amid a line, as if it were still being written.
pub(super) fn read_list(path: &Path) -> Result<String, Error> {
    let (file, metadata) = open(path)?;
    if !metadata.is_file() {
        return Err(cannot_read(path, io::Error::other("it is no regular file")));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(Error::config(format!("cannot use {}", path.display()))
            .with_cause("every user may change it")
            .with_remedy(format!("chmod o-w {}", path.display())));
    }
    let text = read_text(path, file)?;
    if !text.is_empty() && !text.ends_with('\n') {
        // What is missing of a line may be what restricts its client.
        let what = "the file ends amid this line: write it whole, with a line end";
        return Err(at_line(path, text.lines().count(), what));
    }
    Ok(text)
}

/// Opens a file, and waits for nobody who is to write to it.
fn open(path: &Path) -> Result<(File, Metadata), Error> {
    let open = || {
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() { Err(Errno::EISDIR.into()) } else { Ok((file, metadata)) }
    };
    open().map_err(|error| cannot_read(path, error))
}

/// A file that may be a pipe, and that is waited for until then.
struct Waiting {
    file: File,
    until: Instant,
}

impl Read for Waiting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let mut items = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
            poll(&mut items, Some(left))?;
            // Of a pipe that nobody has written to yet, a read would say that it has ended.
            if items[0].any() == Some(true) {
                match self.file.read(buffer) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => (),
                    done => return done,
                }
            } else if left.is_zero() {
                let limit = MAX_WAIT.as_secs();
                let why = format!("nobody has written it to its end within {limit} seconds");
                return Err(io::Error::other(why));
            }
        }
    }
}

fn read_text(path: &Path, file: impl Read) -> Result<String, Error> {
    let mut bytes = Vec::new();
    let length = file.take(MAX_FILE + 1).read_to_end(&mut bytes);
    if length.map_err(|error| cannot_read(path, error))? as u64 > MAX_FILE {
        let error = io::Error::other(format!("it has more than {MAX_FILE} bytes"));
        return Err(cannot_read(path, error));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        at_line(path, line, "it is no text: give UTF-8")
    })
}

fn cannot_read(path: &Path, error: io::Error) -> Error {
    // It may be a secret that was given by mistake: it is not repeated.
    if path.to_str().is_some_and(|path| path.parse::<PublicKey>().is_ok()) {
        return Error::config("cannot read a key that is given in the place of its file")
            .with_remedy("give the file NAME.key_secret");
    }
    let error_kind = error.kind();
    let is_moved = error_kind == ErrorKind::PermissionDenied && landlock::is_restricted();
    let cannot = Error::config(format!("cannot read {}", path.display())).with_cause(plain(error));
    if is_moved {
        return cannot.with_remedy("if it has moved to another folder, start repd again");
    }
    match error_kind {
        ErrorKind::NotFound => cannot.with_remedy("is that its path?"),
        ErrorKind::IsADirectory => cannot.with_remedy("give a file in it"),
        ErrorKind::PermissionDenied => cannot.with_remedy("let the user that repd runs as read it"),
        _ => cannot,
    }
}

/// Returns the error of a line of a list.
pub(super) fn at_line(path: &Path, line: usize, what: &str) -> Error {
    Error::config(format!("{}:{line}: {what}", printable(path.as_os_str().as_encoded_bytes())))
}

/// The keys that a text holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found<'a> {
    public: Option<&'a str>,
    secret: Option<&'a str>,
    /// A key without a name.
    bare: Option<&'a str>,
}

impl Found<'_> {
    /// Finds the keys in a text in ZPL (ZeroMQ RFC 4), as far as certificates need it.
    fn in_text(text: &str) -> Found<'_> {
        let mut found = Found::default();
        let lines: Vec<&str> =
            text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        if let [bare] = lines[..]
            && bare.parse::<PublicKey>().is_ok()
        {
            return Found { bare: Some(bare), ..found };
        }
        for line in lines.into_iter().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            let quoted = |quote| value.strip_prefix(quote).and_then(|it| it.strip_suffix(quote));
            let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
            match name.trim() {
                "public-key" => found.public = Some(value),
                "secret-key" => found.secret = Some(value),
                _ => (),
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::{fs, thread};

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    /// Longer than anything here takes.
    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn a_pipe_is_waited_for_but_not_for_ever() {
        let path = std::env::temp_dir().join(format!("repd-pipe-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        let read = |limit| {
            let (path, (done, text)) = (path.clone(), channel());
            let read = move || {
                let file = open(&path).unwrap().0;
                let _ =
                    done.send(read_text(&path, Waiting { file, until: Instant::now() + limit }));
            };
            thread::spawn(read);
            text
        };
        let soon = || read(Duration::from_millis(10)).recv_timeout(LONG).expect("it hangs");
        let is_late = |text: Result<String, Error>| {
            let said = format!("{:#}", text.unwrap_err());
            assert!(said.contains("nobody has written it to its end within"), "{said}");
        };
        is_late(soon());
        let writer = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        is_late(soon());
        drop(writer);
        let text = read(LONG);
        // This waits until there is a reader.
        let mut late = OpenOptions::new().write(true).open(&path).unwrap();
        for part in ["key", "\n"] {
            io::Write::write_all(&mut late, part.as_bytes()).unwrap();
        }
        drop(late);
        let text = text.recv_timeout(LONG).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text.unwrap(), "key\n");
    }
}
