//! `repd keygen`: makes the keys of clients and services.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::auth::{KeyPair, check_name, read_pair};
use crate::cli::{Keygen, print};
use crate::error::{Error, plain};

/// Makes the pair of keys, or prints the public key of a secret one.
///
/// # Errors
/// A file that is there already or cannot be written (exit code 1), a name that no client may have,
/// or a file that holds no secret key (2).
pub fn keygen(options: &Keygen) -> Result<(), Error> {
    match (&options.name, &options.public) {
        (None, Some(file)) => print(&format!("{}\n", read_pair(file)?.public)),
        (Some(name), None) => make(name, options.if_missing),
        (None, None) => Err(Error::config("cannot make keys without a name")
            .with_remedy("give repd keygen NAME, or --public FILE")),
        (Some(_), Some(_)) => {
            Err(Error::config("cannot use --public with a name")
                .with_remedy("leave out one of them"))
        }
    }
}

fn make(path: &Path, if_missing: bool) -> Result<(), Error> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    check_name(&name).map_err(|what| Error::config(format!("cannot make keys: {what}")))?;
    let files = PairFiles::of(path);
    let pair = if if_missing && files.secret.symlink_metadata().is_ok() {
        let pair = read_pair(&files.secret)?;
        // It may have been ended in between.
        if files.public.symlink_metadata().is_err() {
            files.write_public(&pair)?;
        }
        pair
    } else {
        let pair = KeyPair::new()?;
        files.write(&pair)?;
        pair
    };
    print(&format!("{name} {}\n", pair.public))
}

/// Where a pair of keys is written.
struct PairFiles {
    public: PathBuf,
    secret: PathBuf,
}

impl PairFiles {
    /// Returns the files of that name: NAME.key and NAME.key_secret, as pyzmq calls them.
    fn of(name: &Path) -> PairFiles {
        let with = |ending| {
            let mut path = name.as_os_str().to_owned();
            path.push(ending);
            PathBuf::from(path)
        };
        PairFiles { public: with(".key"), secret: with(".key_secret") }
    }

    /// Writes both, and the secret one first: a public key without one is of no use.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written. Then neither is left.
    fn write(&self, pair: &KeyPair) -> Result<(), Error> {
        if self.public.symlink_metadata().is_ok() {
            return Err(cannot_write(&self.public, Errno::EEXIST.into()));
        }
        let both = format!(
            "    public-key = \"{}\"\n    secret-key = \"{}\"\n",
            pair.public,
            pair.secret.to_z85()
        );
        let warning = "# The SECRET key: whoever has it is who you are. Give it to nobody.\n";
        create(&self.secret, 0o600, &format!("{warning}metadata\ncurve\n{both}"))?;
        self.write_public(pair).inspect_err(|_| drop(fs::remove_file(&self.secret)))
    }

    /// Writes the public one.
    ///
    /// # Errors
    /// A file that is there already, or that cannot be written.
    fn write_public(&self, pair: &KeyPair) -> Result<(), Error> {
        let public = format!("    public-key = \"{}\"\n", pair.public);
        create(&self.public, 0o644, &format!("# The public key.\nmetadata\ncurve\n{public}"))
    }
}

/// Makes a file, whole or not at all, and never over another.
fn create(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let cannot = |error| cannot_write(path, error);
    let mut new = path.as_os_str().to_owned();
    new.push(format!(".{}", std::process::id()));
    let new = PathBuf::from(new);
    // Unlike a rename, a link is never put over another file.
    let written = write_new(&new, mode, text).and_then(|()| fs::hard_link(&new, path));
    let _ = fs::remove_file(&new);
    written.map_err(cannot)?;
    // The name lasts only when the folder is written too.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(cannot)?;
    folder.sync_all().map_err(cannot)
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    // Whatever the umask is.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn cannot_write(path: &Path, error: io::Error) -> Error {
    let error_kind = error.kind();
    let cannot = Error::failed(format!("cannot write {}", path.display())).with_cause(plain(error));
    match error_kind {
        io::ErrorKind::AlreadyExists => {
            cannot.with_remedy("no key is overwritten: give another name, or remove it first")
        }
        io::ErrorKind::NotFound => cannot.with_remedy("make its folder first"),
        io::ErrorKind::PermissionDenied => {
            cannot.with_remedy("give a name in a folder that this user may write to")
        }
        _ => cannot,
    }
}
